#include "agent/written.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/util.h"

struct written {
	int      fan;         /* fanotify group */
	int      journal;     /* <job dir>/written, O_APPEND */
	pid_t    init;
	bool     private_tmp;
	void    *paths;       /* tsearch tree of char * */
	unsigned n;
	bool     full;        /* WRITTEN_MAX was reached and said */
};

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* True if the path was not known yet. */
static bool remember(struct written *w, const char *path)
{
	char **node;
	char *copy;

	if (tfind(path, &w->paths, by_name))
		return false;
	if (w->n >= WRITTEN_MAX) {
		if (!w->full)
			log_warn("the job has written more than %d files: further ones are not put back when it is restored "
				 "from an older epoch, unless they are open then", WRITTEN_MAX);
		w->full = true;
		return false;
	}
	copy = xstrdup(path);
	node = tsearch(copy, &w->paths, by_name);
	if (!node) {
		free(copy);
		return false;
	}
	w->n++;
	return true;
}

static void load_journal(struct written *w, int dirfd)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(dirfd, WRITTEN_NAME, (size_t)WRITTEN_MAX * PATH_MAX, &text);

	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(text + i) + 1)
		if (text[i] == '/')
			remember(w, text + i);
}

static void take_event(struct written *w, int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/' || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink == 0)
		return;
	path[n] = '\0';
	/* the NUL is the terminator of the record */
	if (remember(w, path) && write_all(w->journal, path, (size_t)n + 1))
		log_warn("cannot note the written file in %s: %s", WRITTEN_NAME, strerror(errno));
}

void written_drain(struct written *w)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	ssize_t len;

	while ((len = read(w->fan, buf, sizeof(buf))) > 0) {
		struct fanotify_event_metadata *ev = (struct fanotify_event_metadata *)(void *)buf;

		for (; FAN_EVENT_OK(ev, len); ev = FAN_EVENT_NEXT(ev, len)) {
			if (ev->fd < 0)
				continue;
			take_event(w, ev->fd);
			close(ev->fd);
		}
	}
}

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_pseudo(const char *fstype)
{
	static const char *const names[] = {
		"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "securityfs", "debugfs",
		"tracefs", "bpf", "configfs", "pstore", "efivarfs", "hugetlbfs", "autofs", "binfmt_misc", "fusectl",
		"rpc_pipefs", "nsfs",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(fstype, names[i]) == 0)
			return true;
	return false;
}

/* Undoes the octal escapes of mountinfo (blank, tab, newline, backslash). */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

static int mark(struct written *w, const char *mountpoint)
{
	cleanup_free char *path = xasprintf("/proc/%d/root%s", (int)w->init, mountpoint);

	return fanotify_mark(w->fan, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, path);
}

/* Marks what can be marked; returns whether the root of the pod could be, errno if not. */
static int mark_all(struct written *w)
{
	cleanup_free char *name = xasprintf("/proc/%d/mountinfo", (int)w->init);
	cleanup_file FILE *f = fopen(name, "re");
	cleanup_free char *line = NULL;
	size_t size = 0;
	int root = -1;

	if (!f)
		return -1;
	while (getline(&line, &size, f) > 0) {
		char point[PATH_MAX], *dash = strstr(line, " - "), fstype[64];

		if (!dash || sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1 || sscanf(dash, " - %63s", fstype) != 1)
			continue;
		unescape(point);
		if (is_pseudo(fstype) || below(point, "/dev/shm") || (w->private_tmp && below(point, "/tmp")))
			continue;
		if (mark(w, point) == 0 && strcmp(point, "/") == 0)
			root = 0;
	}
	return root;
}

void written_remark(struct written *w)
{
	mark_all(w);
}

struct written *written_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, struct err *err)
{
	struct written *w = xcalloc(1, sizeof(*w));

	w->journal = -1;
	w->init = init;
	w->private_tmp = private_tmp;
	w->fan = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE,
			       O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME);
	if (w->fan < 0) {
		err_sys(err, errno, "fanotify is not available");
		goto fail;
	}
	if (!fresh)
		load_journal(w, s->dirfd);
	w->journal = openat(s->dirfd, WRITTEN_NAME,
			    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0600);
	if (w->journal < 0) {
		err_sys(err, errno, "cannot open %s/%s", s->path, WRITTEN_NAME);
		goto fail;
	}
	if (mark_all(w)) {
		err_sys(err, errno, "cannot watch the pod's mounts");
		goto fail;
	}
	return w;
fail:
	written_close(w);
	return NULL;
}

int written_fd(const struct written *w)
{
	return w->fan;
}

void written_close(struct written *w)
{
	if (!w)
		return;
	if (w->fan >= 0)
		close(w->fan);
	if (w->journal >= 0)
		close(w->journal);
	tdestroy(w->paths, free);
	free(w);
}
