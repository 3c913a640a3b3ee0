/* IDs of files: the kernel's file handles as text, FSID.TYPE.HEX. */
#include "files/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/util.h"
#include "files/files.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5: a handle that only identifies the file */
#endif

union handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static int name_handle_of(int dirfd, const char *name, union handle *h)
{
	const int flags = *name ? 0 : AT_EMPTY_PATH;
	int mount;

	h->h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dirfd, name, &h->h, &mount, flags) == 0)
		return 0;
	h->h.handle_bytes = MAX_HANDLE_SZ;
	return errno == EOPNOTSUPP ? name_to_handle_at(dirfd, name, &h->h, &mount, flags | AT_HANDLE_FID) : -1;
}

/* ---- files that are seen through an overlay -------------------------------- */

/* The overlays of this process. */
static struct overlaid {
	uint32_t fsid[2], lower[2];
	char root[NAME_ID], lower_root[NAME_ID];
} * overlays;
static size_t n_overlays, overlays_room;

/* The kernel's struct ovl_fh, whose form is kept on disks: padding, version, magic, length, flags, type, UUID, and the
 * handle of the file in the layer. */
enum { OVERLAY_MAGIC = 4, OVERLAY_TYPE = 7, OVERLAY_HANDLE = 24 };
#define OVERLAY_MAGIC_VALUE 0xfb

static bool name_is_overlaid(const struct name_fs *fs)
{
	for (size_t i = 0; i < n_overlays; i++)
		if (!memcmp(overlays[i].lower, fs->fsid, sizeof(fs->fsid)))
			return true;
	return false;
}

/* Of a file that an overlay shows: the ID of the node's file; of one that is only in the overlay: that there. */
static void name_id_render_lower(const struct name_fs *fs, const union handle *h, char id[NAME_ID])
{
	const unsigned char *f = h->h.f_handle;
	const unsigned n = h->h.handle_bytes;

	if (n > OVERLAY_HANDLE && f[OVERLAY_MAGIC] == OVERLAY_MAGIC_VALUE)
		name_id_render(fs, f[OVERLAY_TYPE], f + OVERLAY_HANDLE, n - OVERLAY_HANDLE, id);
	else
		name_id_render(fs, h->h.handle_type, f, n, id);
	for (size_t i = 0; i < n_overlays; i++)
		if (!strcmp(id, overlays[i].root))
			snprintf(id, NAME_ID, "%s", overlays[i].lower_root);
}

void files_seen_through(int over, int lower)
{
	struct overlaid o = { 0 };
	struct name_fs of_lower;
	union handle h;
	struct statfs s;

	/* Where file systems have no handles, there is no journal of names either. */
	if (fstatfs(over, &s) < 0 || name_fs_of(lower, &of_lower) < 0 || name_handle_of(lower, "", &h) < 0)
		return;
	name_id_render(&of_lower, h.h.handle_type, h.h.f_handle, h.h.handle_bytes, o.lower_root);
	/* The handle of an overlay's root is that of the upper layer, which the node's file does not have. */
	if (name_handle_of(over, "", &h) < 0)
		return;
	name_id_render_lower(&of_lower, &h, o.root);
	memcpy(o.fsid, &s.f_fsid, sizeof(o.fsid));
	memcpy(o.lower, of_lower.fsid, sizeof(o.lower));
	array_reserve(overlays, n_overlays, overlays_room);
	overlays[n_overlays++] = o;
}

int name_fs_of(int fd, struct name_fs *fs)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0)
		return -1;
	memcpy(fs->fsid, &s.f_fsid, sizeof(fs->fsid));
	for (size_t i = 0; i < n_overlays; i++)
		if (!memcmp(overlays[i].fsid, &s.f_fsid, sizeof(fs->fsid))) {
			memcpy(fs->fsid, overlays[i].lower, sizeof(fs->fsid));
			break;
		}
	return 0;
}

/* ---- IDs ------------------------------------------------------------------------ */

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
	union handle h;

	if (name_handle_of(dirfd, name, &h) < 0)
		return -1;
	if (name_is_overlaid(fs))
		name_id_render_lower(fs, &h, id);
	else
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
	if (name_fs_of(fsfd, &of_fd) < 0 || memcmp(of_id.fsid, of_fd.fsid, sizeof(of_id.fsid)) != 0) {
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
