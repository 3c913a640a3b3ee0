#include "pod/tmp_guard.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MARGIN    (UINT64_C(1) << 30) /* of what may be written in a second; less on a small disk */
#define MARGIN_OF 64
#define MANY      (UINT64_C(64) << 20)  /* the kernel logs an alert, so not for less */
#define SHUTDOWN  _IOR('X', 125, __u32) /* FS_IOC_SHUTDOWN */
#define NO_FLUSH  2

bool tmp_guard_begin(void)
{
	for (int fd = TMP_GUARD_ROOT_FD; fd < TMP_GUARD_END; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fcntl(TMP_GUARD_ROOT_FD, F_GETFD) >= 0;
}

/* Bytes of the disk that the image may still take. */
static uint64_t guard_room(const struct statfs *tmp, const struct statfs *disk, const struct stat *image)
{
	const uint64_t used = (uint64_t)(tmp->f_blocks - tmp->f_bfree) * (uint64_t)tmp->f_bsize;
	const uint64_t allocated = (uint64_t)image->st_blocks * 512;
	const uint64_t total = (uint64_t)disk->f_blocks * (uint64_t)disk->f_bsize;
	const uint64_t room = (uint64_t)disk->f_bavail * (uint64_t)disk->f_bsize;
	/* What the job has written may not have reached the image yet. */
	uint64_t taken = used > allocated ? used - allocated : 0;

	taken += total / MARGIN_OF < MARGIN ? total / MARGIN_OF : MARGIN;
	return room > taken ? room - taken : 0;
}

void tmp_guard_reserve(void)
{
	struct statfs tmp, disk;
	struct stat image;
	uint64_t left, room;
	char text[24];
	int len;

	if (fstatfs(TMP_GUARD_ROOT_FD, &tmp) || fstatfs(TMP_GUARD_IMAGE_FD, &disk) ||
	    fstat(TMP_GUARD_IMAGE_FD, &image) || tmp.f_bsize <= 0)
		return;
	left = (uint64_t)tmp.f_bfree * (uint64_t)tmp.f_bsize;
	room = guard_room(&tmp, &disk, &image);
	len = snprintf(text, sizeof(text), "%llu",
		       left > room ? (unsigned long long)((left - room) / (uint64_t)tmp.f_bsize) : 0ULL);
	if (pwrite(TMP_GUARD_RESERVED_FD, text, (size_t)len, 0) < 0)
		return; /* tried again in a second */
}

void tmp_guard_drop(int root, int delayed)
{
	struct statfs tmp;
	char text[32];
	ssize_t n = pread(delayed, text, sizeof(text) - 1, 0);
	__u32 how = NO_FLUSH;

	text[n > 0 ? n : 0] = '\0';
	if (fstatfs(root, &tmp) == 0 && strtoull(text, NULL, 10) * (uint64_t)tmp.f_bsize > MANY &&
	    ioctl(root, SHUTDOWN, &how))
		return; /* it only takes longer */
}
