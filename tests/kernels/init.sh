#!/bin/sh
# /init of the initramfs: from here to the disk. /modules: what the disk needs, in the order in which it can be loaded.
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in $(/bin/busybox cat /modules); do
	/bin/busybox insmod "$module"
done
while [ ! -b /dev/vda ]; do
	/bin/busybox sleep 0.1
done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /test/boot.sh
