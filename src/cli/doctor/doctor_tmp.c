/* What jobs need whose /tmp is an image: tries it in PodDir. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "pod/pod.h"
#include "pod/pod_tmp.h"

#define WHAT "PodTmp"

/* The kernel has the files of sysfs only while the image is mounted. */
static int tmp_try(const struct conf *c, struct pod_spec *spec, struct err *err)
{
	cleanup_close int goal = -1;

	if (pod_prepare(spec, err) || pod_tmp_make(spec, c->tmp_size, err))
		return -1;
	goal = pod_tmp_open_goal(&spec->tmp);
	if (goal < 0)
		err_sys(err, errno, "cannot open inode_goal of an ext4 file system in /sys/fs/ext4");
	pod_tmp_close(spec);
	return goal < 0 ? -1 : 0;
}

void doctor_tmp(const struct conf *c, bool root)
{
	cleanup_free struct pod_spec *spec = NULL;
	struct err err;
	char size[16];

	if (!c->private_tmp || c->tmp != CONF_TMP_IMAGE)
		return;
	if (!root) {
		doctor_needs_root(WHAT);
		return;
	}
	if (access(c->pod_dir, F_OK))
		return; /* the line of PodDir says why */
	spec = xcalloc(1, sizeof(*spec));
	snprintf(spec->dir, sizeof(spec->dir), "%.4000s/doctor.%d", c->pod_dir, (int)getpid());
	if (tmp_try(c, spec, &err))
		doctor_report(FINDING_WARNING, WHAT,
			      "/tmp of a job is a directory on this node and no image, so its files have other inode numbers after a "
			      "restart (SQLite: SQLITE_READONLY_DBMOVED): %s",
			      err.text);
	else
		doctor_report(FINDING_OK, WHAT, "files in /tmp of a job keep their inode numbers (up to %s)",
			      format_size(spec->tmp.size, size, sizeof(size)));
	pod_cleanup(spec->dir);
}
