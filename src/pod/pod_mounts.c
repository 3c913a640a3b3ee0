/* The mounts of a pod: its own /proc, /dev/shm and /dev/pts and, with private_tmp, its own /tmp. */
#include "pod/pod_internal.h"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "base/util.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"

/* Appends those options of a tmpfs that limit or place its memory. Others, such as mode and uid, do not apply to the
 * pod. */
static void shm_append_limits(char *super, char *opts, size_t len)
{
	static const char *const keys[] = { "size=", "nr_blocks=", "nr_inodes=", "huge=", "mpol=" };
	char *save = NULL, *tok;
	size_t i, used;

	for (tok = strtok_r(super, ",\n", &save); tok; tok = strtok_r(NULL, ",\n", &save))
		for (i = 0; i < ARRAY_SIZE(keys); i++) {
			used = strlen(opts);
			if (!strncmp(tok, keys[i], strlen(keys[i])) && used + strlen(tok) + 2 < len)
				snprintf(opts + used, len - used, ",%s", tok);
		}
}

/* Computes mount options for the pod's /dev/shm: the limits of the node's /dev/shm, of the uppermost if several are
 * mounted. */
static void shm_options(char *opts, size_t len)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t cap = 0;
	char *rest, at[64];

	snprintf(opts, len, "mode=1777");
	while (f && getline(&line, &cap, f) > 0) {
		rest = strstr(line, " - tmpfs ");
		if (!rest || sscanf(line, "%*d %*d %*s %*s %63s", at) != 1 || strcmp(at, "/dev/shm"))
			continue;
		rest = strrchr(rest, ' '); /* "- tmpfs SOURCE SUPEROPTIONS" */
		snprintf(opts, len, "mode=1777");
		shm_append_limits(rest + 1, opts, len);
	}
}

/* Mounts dir/tmp on /tmp. A bind mount gets the flags of its source only, so a second mount() adds nosuid and nodev, as
 * for any /tmp. */
static int mount_tmp(const char *dir, struct err *err)
{
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV;
	char src[4200];
	struct statvfs st;

	snprintf(src, sizeof(src), "%s/tmp", dir);
	if (mount(src, "/tmp", NULL, MS_BIND, NULL))
		return err_sys(err, errno, "cannot mount %s on /tmp of the pod", src);
	if (statvfs("/tmp", &st))
		return err_sys(err, errno, "cannot examine /tmp of the pod");
	flags |= st.f_flag & ST_NOEXEC ? MS_NOEXEC : 0;
	flags |= st.f_flag & ST_NOATIME ? MS_NOATIME : 0;
	flags |= st.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0;
	flags |= st.f_flag & ST_RELATIME ? MS_RELATIME : 0;
	if (mount(NULL, "/tmp", NULL, flags, NULL))
		return err_sys(err, errno, "cannot make /tmp of the pod nosuid and nodev");
	return 0;
}

/* The same on every node, so that a terminal has the same owner and mode wherever the job is restored. 5 is the group
 * tty on every distribution. */
#define PTS_OPTIONS "newinstance,gid=5,mode=0620,ptmxmode=0666"

/* True if /dev/ptmx is a file of another devpts than the pod's. A device node in /dev, as udev makes it, leads to the
 * devpts that is mounted beside it (Linux 4.7), and a link to pts/ptmx leads there too. But a container may have a bind
 * mount of its host's ptmx there. */
static bool ptmx_is_of_node(void)
{
	struct stat ptmx, pts;
	struct statfs fs;

	return !statfs("/dev/ptmx", &fs) && fs.f_type == DEVPTS_SUPER_MAGIC && !stat("/dev/ptmx", &ptmx) &&
	       !stat("/dev/pts", &pts) && ptmx.st_dev != pts.st_dev;
}

/* Mounts a devpts, so that the numbers of the job's terminals are free wherever it is restored. On a machine without
 * /dev/pts, or whose kernel has no such terminals, there is nothing to mount. */
static int mount_pts(struct err *err)
{
	if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, PTS_OPTIONS))
		return errno == ENOENT || errno == ENOTDIR || errno == ENODEV
			       ? 0
			       : err_sys(err, errno, "cannot mount a devpts (%s) on /dev/pts of the pod", PTS_OPTIONS);
	if (ptmx_is_of_node() && mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL))
		return err_sys(err, errno, "cannot mount /dev/pts/ptmx on /dev/ptmx of the pod");
	return 0;
}

int pod_make_namespace(const struct pod_spec *spec, struct err *err)
{
	char opts[512];

	shm_options(opts, sizeof(opts));
	if (pod_network_enter(spec, err))
		return -1;
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC))
		return err_sys(err, errno, "cannot make a mount and an IPC namespace for the pod");
	/* Slave: later mounts of the node appear in the pod, but mounts of the pod do not appear on the node. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return err_sys(err, errno, "cannot separate the pod's mounts from those of the node");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return err_sys(err, errno, "cannot mount /proc of the pod");
	if (mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, opts))
		return err_sys(err, errno, "cannot mount a tmpfs (%s) on /dev/shm of the pod", opts);
	/* Before a private /tmp may hide the pod's directory. */
	if (pod_network_mount(spec, err) || mount_pts(err) || pod_mount_srun(spec, err))
		return -1;
	if (!spec->private_tmp)
		return 0;
	return spec->tmp_image ? pod_tmp_mount(spec, err) : mount_tmp(spec->dir, err);
}
