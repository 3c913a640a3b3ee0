/* Part of libfsched-criu.so: Unix sockets whose file was renamed or linked after bind().
 *
 * Careful servers bind a socket under another name and rename it, or link it and remove the first name. criu restores
 * the name of bind() only, and clients do not find the server under the one that they know.
 *
 * In a dump, criu asks the kernel for the file of each bound socket (SIOCUNIXFILE, Linux 4.10) and reads its path. The
 * library compares that with the name of bind(). If the file has another name now, criu gets the first name, and the
 * pair is appended to the file of names (unlinked_names.h), from which the worker puts it into the manifest. Another
 * name of a file with several links is searched in the same directory.
 *
 * In a restore, FSCHED_SOCKETS in criu's environment lists these pairs as LEN:FROMLEN:TO each, after "M" (rename) or
 * "L" (link). The files are renamed when all sockets exist, because criu connects clients by the first name. All of
 * this is done with the rights of the job's user. */
#include <dirent.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/un.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "preload/rights.h"
#include "preload/unlinked_names.h"
#include "trace/raw_syscall.h"

#define NAME_MAX_LEN 4096
#define TYPE_MASK    0170000u
#define IS_SOCKET    0140000u

struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

static int names_fd = -1, socket_fd, file_fd = -1;
static const char *pairs; /* in a restore */

__attribute__((constructor)) static void moved_sockets_begin(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++) {
		if ((value = preload_after(*envp, "FSCHED_NAMES=")))
			names_fd = (int)preload_number(&value, 1 << 30);
		if ((value = preload_after(*envp, "FSCHED_SOCKETS=")))
			pairs = value;
	}
}

static long moved_sockets_call(long nr, long a, long b, long c, long d, long e)
{
	return rights_on() ? rights_as_user(nr, a, b, c, d, e) : raw_syscall(nr, a, b, c, d, e, 0);
}

static size_t moved_sockets_length(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	return n;
}

/* Returns the text after the last slash. */
static char *moved_sockets_base(char *path)
{
	char *base = path;

	for (; *path; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

static void moved_sockets_copy(char *to, const char *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = from[i];
	to[len] = '\0';
}

/* ---- dump ------------------------------------------------------------------ */

void moved_sockets_opened(int sk, int file)
{
	socket_fd = sk;
	file_fd = names_fd >= 0 ? file : -1;
}

/* True if path leads to the file. */
static bool moved_sockets_leads_to(const char *path, const struct statx *file)
{
	struct statx st;

	return moved_sockets_call(SYS_statx, AT_FDCWD, (long)path, AT_SYMLINK_NOFOLLOW, STATX_INO, (long)&st) == 0 &&
	       preload_same_file(&st, file);
}

/* Fills first with the name of bind() as an absolute path. now: the path of the file; a relative name of bind() is
 * taken to be in the same directory. Returns false for an abstract name. */
static bool moved_sockets_first_name(const char *now, char first[NAME_MAX_LEN])
{
	struct sockaddr_un addr;
	unsigned len = sizeof(addr);
	char name[sizeof(addr.sun_path) + 1], *base;
	size_t n;

	if (raw_syscall(SYS_getsockname, socket_fd, (long)&addr, (long)&len, 0, 0, 0) ||
	    len <= offsetof(struct sockaddr_un, sun_path) || len > sizeof(addr) || !addr.sun_path[0])
		return false;
	n = len - offsetof(struct sockaddr_un, sun_path);
	moved_sockets_copy(name, addr.sun_path, n);
	if (name[0] == '/') {
		moved_sockets_copy(first, name, moved_sockets_length(name));
		return true;
	}
	base = moved_sockets_base(name);
	n = moved_sockets_length(now);
	if (n + sizeof(name) >= NAME_MAX_LEN)
		return false;
	moved_sockets_copy(first, now, n);
	moved_sockets_copy(moved_sockets_base(first), base, moved_sockets_length(base));
	return true;
}

/* Replaces the last component of path by that of another link of the file in the same directory. */
static bool moved_sockets_find_link(char path[NAME_MAX_LEN], const struct statx *file)
{
	char *base = moved_sockets_base(path), kept[256];
	_Alignas(8) char buf[4096];
	long dir, n = 0;
	bool found = false;

	n = (long)moved_sockets_length(base);
	if (base - path > NAME_MAX_LEN - 260 || n > 255)
		return false;
	moved_sockets_copy(kept, base, (size_t)n);
	*base = '\0';
	dir = moved_sockets_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
	while (dir >= 0 && !found && (n = raw_syscall(SYS_getdents64, dir, (long)buf, sizeof(buf), 0, 0, 0)) > 0)
		for (long at = 0; at < n && !found;) {
			const struct entry *e = (const void *)(buf + at);

			at += e->len;
			if (e->ino != file->stx_ino || preload_equal(e->name, kept))
				continue;
			moved_sockets_copy(base, e->name, moved_sockets_length(e->name));
			found = moved_sockets_leads_to(path, file);
		}
	if (dir >= 0)
		raw_syscall(SYS_close, dir, 0, 0, 0, 0, 0);
	if (!found)
		moved_sockets_copy(base, kept, moved_sockets_length(kept));
	return found;
}

/* Appends a pair, once for each file: accepted sockets have the file of the socket that has accepted them. */
static void moved_sockets_append(const struct statx *file, unsigned how, const char *first, const char *now)
{
	const size_t n = moved_sockets_length(first) + 1, m = moved_sockets_length(now);
	char out[sizeof(struct unlinked_name) + 2 * NAME_MAX_LEN];
	struct unlinked_name e, mine = { .major = file->stx_dev_major,
					 .minor = file->stx_dev_minor,
					 .ino = file->stx_ino,
					 .len = (uint32_t)(n + m),
					 .deleted = how };

	for (long at = 0; raw_syscall(SYS_pread64, names_fd, (long)&e, sizeof(e), at, 0, 0) == (long)sizeof(e);
	     at += (long)sizeof(e) + e.len)
		if (e.deleted >= UNLINKED_NAME_MOVED && e.ino == mine.ino && e.major == mine.major &&
		    e.minor == mine.minor)
			return;
	*(struct unlinked_name *)(void *)out = mine;
	moved_sockets_copy(out + sizeof(mine), first, n);
	moved_sockets_copy(out + sizeof(mine) + n, now, m);
	raw_syscall(SYS_write, names_fd, (long)out, (long)(sizeof(mine) + n + m), 0, 0, 0);
}

long moved_sockets_name(int fd, char *buf, long len, size_t size)
{
	static char now[NAME_MAX_LEN], first[NAME_MAX_LEN];
	struct statx st;
	char *end;

	if (fd != file_fd || len <= 0 || (size_t)len >= size || len >= NAME_MAX_LEN || buf[0] != '/' ||
	    !preload_statx(fd, "", STATX_INO | STATX_TYPE | STATX_NLINK, &st) ||
	    (st.stx_mode & TYPE_MASK) != IS_SOCKET || !st.stx_nlink)
		return len;
	file_fd = -1;
	moved_sockets_copy(now, buf, (size_t)len);
	end = now + len - (sizeof(" (deleted)") - 1);
	if (end > now && preload_equal(end, " (deleted)"))
		*end = '\0';
	if (!moved_sockets_first_name(now, first))
		return len;
	if (moved_sockets_leads_to(first, &st)) {
		if (st.stx_nlink > 1 && moved_sockets_find_link(now, &st))
			moved_sockets_append(&st, UNLINKED_NAME_LINKED, first, now);
		return len;
	}
	if (!moved_sockets_leads_to(now, &st) && !moved_sockets_find_link(now, &st))
		return len;
	if (moved_sockets_length(first) >= size)
		return len;
	moved_sockets_append(&st, UNLINKED_NAME_MOVED, first, now);
	moved_sockets_copy(buf, first, moved_sockets_length(first));
	return (long)moved_sockets_length(first);
}

/* ---- restore ---------------------------------------------------------------- */

/* Reads LEN:NAME into name and advances *text beyond it. */
static bool moved_sockets_read_name(const char **text, char name[NAME_MAX_LEN])
{
	long len = preload_number(text, NAME_MAX_LEN - 1);

	if (len < 0 || *(*text)++ != ':')
		return false;
	moved_sockets_copy(name, *text, (size_t)len);
	*text += len;
	return true;
}

static long moved_sockets_link(const char *first, const char *now)
{
	struct statx st;

	/* the file of the run before */
	if (moved_sockets_call(SYS_statx, AT_FDCWD, (long)now, AT_SYMLINK_NOFOLLOW, STATX_TYPE, (long)&st) == 0 &&
	    (st.stx_mode & TYPE_MASK) == IS_SOCKET)
		moved_sockets_call(SYS_unlinkat, AT_FDCWD, (long)now, 0, 0, 0);
	return moved_sockets_call(SYS_linkat, AT_FDCWD, (long)first, AT_FDCWD, (long)now, 0);
}

bool moved_sockets_restore(void)
{
	static char now[NAME_MAX_LEN], first[NAME_MAX_LEN];
	const char *p = pairs;
	long ret;
	char how;

	while (p && *p) {
		how = *p++;
		if (!moved_sockets_read_name(&p, first) || !moved_sockets_read_name(&p, now))
			return false;
		ret = how == 'M' ? moved_sockets_call(SYS_renameat, AT_FDCWD, (long)first, AT_FDCWD, (long)now, 0)
				 : moved_sockets_link(first, now);
		if (ret < 0)
			return false;
	}
	return true;
}
