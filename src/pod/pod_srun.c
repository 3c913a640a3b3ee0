/* fsched-srun in the place of Slurm's srun: scripts find it by name and by path. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "pod/pod_internal.h"

/* The paths come from fsched.conf. What is no program of root is left alone: it is not Slurm's. */
static bool srun_is_slurms(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && !(st.st_mode & 022) && st.st_mode & 0111;
}

static int srun_bind(const char *from, const char *to, struct err *err)
{
	return mount(from, to, NULL, MS_BIND, NULL) ? err_sys(err, errno, "cannot mount %s on %s in the pod", from, to)
						    : 0;
}

/* Several paths may lead to the same file. It is covered once, and the first is kept in reach. */
static int srun_cover(const char *path, const char *ours, const char *place, bool *kept, struct err *err)
{
	char real[PATH_MAX];
	struct stat st, own;

	if (!srun_is_slurms(path) || !realpath(path, real))
		return 0;
	if (stat(real, &st) == 0 && stat(ours, &own) == 0 && st.st_ino == own.st_ino && st.st_dev == own.st_dev)
		return 0;
	if (!*kept && srun_bind(real, place, err))
		return -1;
	*kept = true;
	return srun_bind(ours, real, err);
}

int pod_mount_srun(const struct pod_spec *spec, struct err *err)
{
	cleanup_free char *ours = xasprintf("%s/fsched-srun", spec->libexec);
	cleanup_free char *place = xasprintf("%s/" PLACE_OF_SRUN, spec->libexec), *list = xstrdup(spec->srun);
	char *save = NULL;
	bool kept = false;

	for (const char *path = strtok_r(list, ":", &save); path; path = strtok_r(NULL, ":", &save))
		if (srun_cover(path, ours, place, &kept, err))
			return -1;
	return 0;
}
