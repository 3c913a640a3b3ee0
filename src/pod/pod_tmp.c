#include "pod/pod_tmp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dir_tree.h"
#include "base/helper.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "pod/tmp_guard.h"

#define IMAGE      "tmp.img"
#define RECORD     "tmp.loop"
#define NODE       "tmp.dev" /* while the image is mounted */
#define RECORD_MAX 256
#define RUN_DIR    "/run/fsched"
#define SIZE_MIN   (UINT64_C(64) << 20)
#define SIZE_MAX_  (UINT64_C(8) << 40) /* within what every file system takes as the size of a file */
#define MKFS_US    INT64_C(60000000)
#define CHUNK      (64u << 10)

_Static_assert(POD_TMP_FDS == TMP_GUARD_END - TMP_GUARD_ROOT_FD, "POD_TMP_FDS");

/* Numbers of loop devices above those that others get: a file keeps its device number too when the job is restored,
 * unless that number is taken. 16 bits are valid with every max_part of the module. */
#define LOOP_MIN                 4096
#define LOOP_MAX                 65535
#define LOOP_MAJOR               7
#define LOOP_TRIES               20

/* The new mount API (Linux 5.2); older C libraries do not have it. */
#define FSOPEN_CLOEXEC_          1u
#define FSMOUNT_CLOEXEC_         1u
#define FSCONFIG_SET_FLAG_       0u
#define FSCONFIG_SET_STRING_     1u
#define FSCONFIG_CMD_CREATE_     6u
#define MOUNT_ATTR_NOSUID_       2u
#define MOUNT_ATTR_NODEV_        4u
#define MOUNT_ATTR_NOEXEC_       8u
#define MOVE_MOUNT_F_EMPTY_PATH_ 4u

/* ---- the empty file system ------------------------------------------------ */

static int tmp_run(char *const *argv, struct err *err)
{
	const struct helper h = { .argv = argv, .keep = -1, .until = now_us() + MKFS_US, .answer_max = 1024 };
	cleanup_free char *answer = NULL;
	int status;

	answer = helper_run(&h, &status, err);
	if (!answer)
		return -1;
	answer[strcspn(answer, "\n")] = '\0';
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(err, ENOENT, "%s cannot be run (package e2fsprogs)", argv[0]);
	return status ? err_set(err, EIO, "%s failed%s%s", argv[0], answer[0] ? ": " : "", answer) : 0;
}

static char *tmp_find_program(const char *name)
{
	static const char *const dirs[] = { "/usr/sbin", "/sbin" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char *path = xasprintf("%s/%s", dirs[i], name);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* Without a journal, because nothing of it is used after a crash, and with features that Linux 4.13 knows. What is
 * not listed, such as the journal, is off whatever mke2fs.conf says. */
static int tmp_run_mkfs(const char *path, struct err *err)
{
	cleanup_free char *mkfs = tmp_find_program("mke2fs"), *image = xstrdup(path);
	char *argv[] = { mkfs,
			 (char[]){ "-q" },
			 (char[]){ "-F" },
			 (char[]){ "-t" },
			 (char[]){ "ext4" },
			 (char[]){ "-b" },
			 (char[]){ "4096" },
			 (char[]){ "-I" },
			 (char[]){ "256" },
			 (char[]){ "-m" },
			 (char[]){ "0" },
			 (char[]){ "-e" }, /* mke2fs.conf may say "panic" */
			 (char[]){ "continue" },
			 (char[]){ "-O" },
			 (char[]){ "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super2,large_file,"
				   "huge_file,uninit_bg,dir_nlink,extra_isize" },
			 (char[]){ "-E" },
			 (char[]){ "lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0" },
			 image,
			 NULL };

	return mkfs ? tmp_run(argv, err) : err_set(err, ENOENT, "there is no mke2fs (package e2fsprogs)");
}

/* Removes lost+found, but not its inode: a free number 11 would be the job's first, and a restore could not give it
 * away, since the kernel holds back the number of an inode that was removed just before. */
static int tmp_run_debugfs(const char *path, struct err *err)
{
	cleanup_free char *debugfs = tmp_find_program("debugfs"), *image = xstrdup(path);
	char *commands[] = { (char[]){ "unlink lost+found" }, (char[]){ "set_inode_field / links_count 2" },
			     (char[]){ "set_inode_field / mode 041777" } };

	if (!debugfs)
		return err_set(err, ENOENT, "there is no debugfs (package e2fsprogs)");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char *argv[] = { debugfs, (char[]){ "-w" }, (char[]){ "-R" }, commands[i], image, NULL };

		if (tmp_run(argv, err))
			return -1;
	}
	return 0;
}

/* The file system of a given size is made once for each boot of the node, which takes a tenth of a second, and then
 * copied: some 100 KiB. Returns a descriptor or -1. */
static int tmp_open_template(uint64_t size, struct err *err)
{
	cleanup_free char *path = xasprintf(RUN_DIR "/tmp-%" PRIu64 ".ext4", size);
	cleanup_free char *new = xasprintf("%s.%d", path, (int)getpid());
	cleanup_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		return steal_fd(&fd);
	if (mkdir_parents(RUN_DIR, 0700))
		return err_sys(err, errno, "cannot make " RUN_DIR);
	fd = open(new, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size)) {
		err_sys(err, errno, "cannot make %s", new);
		unlink(new);
		return -1;
	}
	if (tmp_run_mkfs(new, err) || tmp_run_debugfs(new, err) ||
	    (rename(new, path) && err_sys(err, errno, "cannot rename %s", new))) {
		unlink(new);
		return -1;
	}
	return steal_fd(&fd);
}

/* Copies the data of in, which has little, to the empty file out. */
static int tmp_copy(int in, int out, uint64_t size)
{
	cleanup_free char *buf = xmalloc(CHUNK);
	off_t data, end;

	for (off_t pos = 0; (data = lseek(in, pos, SEEK_DATA)) >= 0; pos = end) {
		end = lseek(in, data, SEEK_HOLE);
		for (off_t at = data; at < end; at += CHUNK) {
			size_t len = end - at < (off_t)CHUNK ? (size_t)(end - at) : CHUNK;

			if (pread_all(in, buf, len, (uint64_t)at) || pwrite_all(out, buf, len, (uint64_t)at))
				return -1;
		}
	}
	return errno == ENXIO ? ftruncate(out, (off_t)size) : -1;
}

/* ---- the image -------------------------------------------------------------- */

/* Rounded down to three significant bits: so few sizes are in use, and the node keeps an empty file system of each. */
static uint64_t tmp_round(uint64_t size)
{
	uint64_t low = 1;

	while (size / low >= 8)
		low <<= 1;
	return size / low * low;
}

static int tmp_choose_size(int dir, uint64_t most, uint64_t *size, struct err *err)
{
	struct statvfs v;
	char text[16];

	if (*size)
		return 0;
	if (fstatvfs(dir, &v))
		return err_sys(err, errno, "cannot look up the free space of PodDir");
	*size = (uint64_t)v.f_bavail * v.f_frsize;
	*size = most && most < *size ? most : *size;
	*size = tmp_round(*size < SIZE_MAX_ ? *size : SIZE_MAX_);
	return *size >= SIZE_MIN ? 0
				 : err_set(err, ENOSPC, "it could have only %s (PodTmpSize, free space of PodDir)",
					   format_size(*size, text, sizeof(text)));
}

static int tmp_make_image(int dir, uint64_t size, struct err *err)
{
	cleanup_close int empty = tmp_open_template(size, err), image = -1;

	if (empty < 0)
		return -1;
	unlinkat(dir, IMAGE, 0);
	image = openat(dir, IMAGE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (image < 0 || tmp_copy(empty, image, size))
		return err_sys(err, errno, "cannot make the image %s", IMAGE);
	return steal_fd(&image);
}

/* ---- the loop device -------------------------------------------------------- */

static int tmp_open_control(struct err *err)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_sys(err, errno, "cannot open /dev/loop-control") : fd;
}

/* Makes a device: *number if that is free, else one of a random number. */
static int tmp_add_device(int control, unsigned *number, struct err *err)
{
	uint32_t random;

	for (int i = 0; i < LOOP_TRIES; i++) {
		if ((i || !*number) && getrandom(&random, sizeof(random), 0) == sizeof(random))
			*number = LOOP_MIN + random % (LOOP_MAX - LOOP_MIN + 1);
		/* The device of a pod that has ended may be there still. */
		if (*number && ioctl(control, LOOP_CTL_REMOVE, (long)*number) < 0 && errno == EBUSY)
			continue;
		if (ioctl(control, LOOP_CTL_ADD, (long)*number) >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return err_sys(err, errno, "cannot make a loop device");
}

/* Opens the device by a node of its own, since a container may have no devtmpfs. The node is at NODE in the pod's
 * directory afterwards. */
static int tmp_open_device(int dir, unsigned number, struct err *err)
{
	int fd;

	unlinkat(dir, NODE, 0);
	if (mknodat(dir, NODE, S_IFBLK | 0600, makedev(LOOP_MAJOR, number)))
		return err_sys(err, errno, "cannot make a node of loop device %u", number);
	fd = openat(dir, NODE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_sys(err, errno, "cannot open loop device %u", number) : fd;
}

/* Direct I/O, where the disk's file system can: what the job writes would be in the page cache twice otherwise. */
static int tmp_attach(int device, int image, const char *dir, struct err *err)
{
	struct loop_config c = { .fd = (uint32_t)image, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO };

	snprintf((char *)c.info.lo_file_name, sizeof(c.info.lo_file_name), "%.50s", dir);
	if (ioctl(device, LOOP_CONFIGURE, &c) == 0)
		return 0;
	c.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	return ioctl(device, LOOP_CONFIGURE, &c) ? err_sys(err, errno, "cannot attach the image to a loop device") : 0;
}

/* True when there is no such device any more. */
static bool tmp_drop_device(unsigned number)
{
	cleanup_close int control = tmp_open_control(NULL);

	return number < LOOP_MIN || number > LOOP_MAX || control < 0 ||
	       ioctl(control, LOOP_CTL_REMOVE, (long)number) >= 0 || errno != EBUSY;
}

/* ---- the mount -------------------------------------------------------------- */

static int tmp_set_options(int fs, const char *source)
{
	/* Deleted files leave holes in the image (discard). Nothing outlives the node's memory (nobarrier). The tables
	 * of inodes are filled as they are needed (noinit_itable). */
	static const char *const flags[] = { "discard", "nobarrier", "noinit_itable", "noauto_da_alloc" };

	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING_, "source", source, 0))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG_, flags[i], NULL, 0))
			return -1;
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE_, NULL, NULL, 0);
}

/* Returns a descriptor of a mount without a place. */
static int tmp_make_mount(int dir, const char *path, struct err *err)
{
	cleanup_free char *source = xasprintf("%s/" NODE, path);
	unsigned attributes = MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NODEV_;
	cleanup_close int fs = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC_);
	struct statvfs v;
	int mount;

	if (fstatvfs(dir, &v) == 0 && (v.f_flag & ST_NOEXEC))
		attributes |= MOUNT_ATTR_NOEXEC_;
	if (fs < 0 || tmp_set_options(fs, source))
		return err_sys(err, errno, "cannot mount the image");
	mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC_, attributes);
	return mount < 0 ? err_sys(err, errno, "cannot mount the image") : mount;
}

static int tmp_save(int dir, const struct pod_tmp *tmp, struct err *err)
{
	cleanup_close int fd = openat(dir, RECORD, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	cleanup_free char *text = xasprintf("%" PRIu64 " %u\n", tmp->size, tmp->device);

	/* Without fsync: after a crash of the node there is no pod that the file describes. */
	return fd < 0 || write_all(fd, text, strlen(text)) ? err_sys(err, errno, "cannot write %s of the pod", RECORD)
							   : 0;
}

/* Returns a descriptor of the mount. *made: the device has been made. */
static int tmp_mount_image(int dir, struct pod_spec *spec, uint64_t most, bool *made, struct err *err)
{
	cleanup_close int control = tmp_open_control(err), image = -1, device = -1;

	if (control < 0 || tmp_choose_size(dir, most, &spec->tmp.size, err))
		return -1;
	image = tmp_make_image(dir, spec->tmp.size, err);
	if (image < 0 || tmp_add_device(control, &spec->tmp.device, err))
		return -1;
	*made = true;
	device = tmp_open_device(dir, spec->tmp.device, err);
	if (device < 0 || tmp_attach(device, image, spec->dir, err) || tmp_save(dir, &spec->tmp, err))
		return -1;
	return tmp_make_mount(dir, spec->dir, err);
}

int pod_tmp_make(struct pod_spec *spec, uint64_t most, struct err *err)
{
	cleanup_close int dir = open(spec->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool made = false;

	spec->tmp_mount = -1;
	if (dir < 0)
		return err_sys(err, errno, "cannot open the pod's directory %s", spec->dir);
	spec->tmp_mount = tmp_mount_image(dir, spec, most, &made, err);
	unlinkat(dir, NODE, 0);
	if (spec->tmp_mount >= 0) {
		spec->tmp_image = true;
		return 0;
	}
	unlinkat(dir, IMAGE, 0);
	unlinkat(dir, RECORD, 0);
	if (made)
		tmp_drop_device(spec->tmp.device);
	return -1;
}

int pod_tmp_move(struct pod_spec *spec, const char *at, struct err *err)
{
	const long rc = syscall(SYS_move_mount, spec->tmp_mount, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH_);

	if (rc)
		err_sys(err, errno, "cannot mount an image on %s", at);
	pod_tmp_close(spec);
	return (int)rc;
}

void pod_tmp_close(struct pod_spec *spec)
{
	if (spec->tmp_image)
		cleanup_closep(&spec->tmp_mount);
	spec->tmp_mount = -1;
}

static int tmp_open_sysfs(const struct pod_tmp *tmp, const char *name, int flags)
{
	cleanup_free char *path = xasprintf("/sys/fs/ext4/loop%u/%s", tmp->device, name);

	return open(path, flags | O_CLOEXEC);
}

/* Gives the descriptor another number. One that could not be opened is left out. */
static void tmp_place(int fd, int place)
{
	if (fd < 0)
		return;
	dup3(fd, place, O_CLOEXEC);
	close(fd);
}

int pod_tmp_mount(const struct pod_spec *spec, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/" IMAGE, spec->dir);

	/* Before /tmp may hide it. */
	tmp_place(open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), TMP_GUARD_IMAGE_FD);
	if (syscall(SYS_move_mount, spec->tmp_mount, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH_))
		return err_sys(err, errno, "cannot mount the image %s on /tmp of the pod", path);
	tmp_place(open("/tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), TMP_GUARD_ROOT_FD);
	tmp_place(tmp_open_sysfs(&spec->tmp, "reserved_clusters", O_WRONLY), TMP_GUARD_RESERVED_FD);
	tmp_place(tmp_open_sysfs(&spec->tmp, "delayed_allocation_blocks", O_RDONLY), TMP_GUARD_DELAYED_FD);
	return 0;
}

void pod_tmp_keep(const struct pod_spec *spec, int *kept, int *n)
{
	for (int fd = TMP_GUARD_ROOT_FD; spec->tmp_image && fd < TMP_GUARD_END; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			kept[(*n)++] = fd;
}

/* ---- afterwards -------------------------------------------------------------- */

static int tmp_read_record(int dir, struct pod_tmp *tmp)
{
	cleanup_free char *text = NULL;

	memset(tmp, 0, sizeof(*tmp));
	if (read_file_at(dir, RECORD, RECORD_MAX, &text) < 0)
		return -1;
	errno = EBADMSG;
	return sscanf(text, "%" SCNu64 " %u", &tmp->size, &tmp->device) == 2 ? 0 : -1;
}

int pod_tmp_load(const char *dir, struct pod_tmp *tmp, struct err *err)
{
	cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && tmp_read_record(fd, tmp) == 0)
		return 1;
	memset(tmp, 0, sizeof(*tmp));
	return errno == ENOENT ? 0 : err_sys(err, errno, "cannot read %s/" RECORD, dir);
}

/* Opens the device if something is attached to it. *own: it is this pod's image, and not that of another pod to which
 * the number was given since. Returns a descriptor or -1. */
static int tmp_open_attached(int dir, unsigned number, bool *own)
{
	cleanup_close int fd = tmp_open_device(dir, number, NULL);
	struct loop_info64 info;
	struct stat st;

	unlinkat(dir, NODE, 0);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info))
		return -1;
	*own = fstatat(dir, IMAGE, &st, AT_SYMLINK_NOFOLLOW) == 0 && info.lo_inode == st.st_ino &&
	       info.lo_device == st.st_dev;
	return steal_fd(&fd);
}

bool pod_tmp_remove(int dirfd, const char *name)
{
	cleanup_close int dir = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), device = -1;
	struct pod_tmp tmp;
	bool own;

	if (dir < 0 || tmp_read_record(dir, &tmp) || tmp_drop_device(tmp.device))
		return true;
	device = tmp_open_attached(dir, tmp.device, &own);
	return device >= 0 && !own;
}

void pod_tmp_empty(int dirfd, const char *name)
{
	cleanup_close int dir = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int device = -1, image = -1;
	struct pod_tmp tmp;
	bool own;

	if (dir < 0 || tmp_read_record(dir, &tmp))
		return;
	device = tmp_open_attached(dir, tmp.device, &own);
	image = device >= 0 && own ? openat(dir, IMAGE, O_WRONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	/* The kernel refuses what is beyond the end of the device. Twice: a write may have been under way. */
	for (int i = 0; i < 2 && image >= 0; i++)
		if (ftruncate(image, 0) || ioctl(device, LOOP_SET_CAPACITY, 0))
			return;
}

int pod_tmp_open_goal(const struct pod_tmp *tmp)
{
	return tmp_open_sysfs(tmp, "inode_goal", O_WRONLY);
}

int pod_tmp_open_stat(const struct pod_tmp *tmp)
{
	cleanup_free char *dir = xasprintf("/sys/block/loop%u", tmp->device);
	cleanup_close int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *counts = NULL;

	if (fd < 0 || read_file_at(fd, "queue/iostats", 16, &counts) < 0 || strcmp(counts, "1\n") != 0)
		return -1;
	return openat(fd, "stat", O_RDONLY | O_CLOEXEC);
}

dev_t pod_tmp_device(const struct pod_tmp *tmp)
{
	return makedev(LOOP_MAJOR, tmp->device);
}
