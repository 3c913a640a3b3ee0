/* IDs of files: the kernel's file handles as text, FSID.TYPE.HEX. */
#include "files/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/clock.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5: a handle that only identifies the file */
#endif

union handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

int name_fs_of(int fd, struct name_fs *fs)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0)
		return -1;
	memcpy(fs->fsid, &s.f_fsid, sizeof(fs->fsid));
	return 0;
}

void name_id_render(const struct name_fs *fs, int type, const unsigned char *handle, unsigned bytes, char id[NAME_ID])
{
	static const char digits[] = "0123456789abcdef";
	int n = snprintf(id, NAME_ID, "%08x%08x.%d.", fs->fsid[0], fs->fsid[1], type);

	for (unsigned i = 0; i < bytes && n + 2 < NAME_ID; i++) {
		id[n++] = digits[handle[i] >> 4];
		id[n++] = digits[handle[i] & 15];
	}
	id[n] = '\0';
}

int name_id_of(const struct name_fs *fs, int dirfd, const char *name, char id[NAME_ID])
{
	const int flags = *name ? 0 : AT_EMPTY_PATH;
	union handle h = { .h.handle_bytes = MAX_HANDLE_SZ };
	int mount;

	if (name_to_handle_at(dirfd, name, &h.h, &mount, flags) < 0) {
		h.h.handle_bytes = MAX_HANDLE_SZ;
		if (errno != EOPNOTSUPP || name_to_handle_at(dirfd, name, &h.h, &mount, flags | AT_HANDLE_FID) < 0)
			return -1;
	}
	name_id_render(fs, h.h.handle_type, h.h.f_handle, h.h.handle_bytes, id);
	return 0;
}

static int name_id_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int name_id_parse(const char *id, struct name_fs *fs, union handle *h)
{
	int type, used = 0, high, low;
	unsigned n = 0;

	if (sscanf(id, "%8x%8x.%d.%n", &fs->fsid[0], &fs->fsid[1], &type, &used) != 3 || !used)
		return -1;
	for (const char *p = id + used; *p; p += 2, n++) {
		high = name_id_digit(p[0]);
		low = high < 0 ? -1 : name_id_digit(p[1]);
		if (low < 0 || n >= MAX_HANDLE_SZ)
			return -1;
		h->h.f_handle[n] = (unsigned char)(high << 4 | low);
	}
	h->h.handle_type = type;
	h->h.handle_bytes = n;
	return n ? 0 : -1;
}

bool name_born_since(const struct statx *st, int64_t us)
{
	return (st->stx_mask & STATX_BTIME) && timestamp_us(st->stx_btime.tv_sec, st->stx_btime.tv_nsec) >= us;
}

int name_id_open(int fsfd, const char *id, int flags)
{
	struct name_fs of_id, of_fd;
	union handle h = { 0 };

	if (name_id_parse(id, &of_id, &h) < 0) {
		errno = EINVAL;
		return -1;
	}
	if (name_fs_of(fsfd, &of_fd) < 0 || memcmp(&of_id, &of_fd, sizeof(of_id)) != 0) {
		errno = EXDEV;
		return -1;
	}
	return open_by_handle_at(fsfd, &h.h, flags | O_CLOEXEC);
}

enum name_kind name_kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return KIND_FILE;
	case S_IFDIR: return KIND_DIR;
	case S_IFLNK: return KIND_LINK;
	case S_IFIFO: return KIND_FIFO;
	default: return KIND_OTHER;
	}
}
