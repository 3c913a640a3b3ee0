/* Preflight: inotify watches of files that have no name any more.
 *
 * A restore makes such a file again and removes its name when the descriptors are open. The kernel drops the watches of
 * a file with the last name by which it is not open (fsnotify_inoderemove()), so the restored program would wait for
 * events that never come. Only files that a process of the job has open are looked for: the kernel drops the watches of
 * a file that nobody has open. */
#include "pod/preflight_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/array.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define KERNEL_MINOR_BITS 20 /* of dev_t inside the kernel, which fdinfo shows */

/* One file, open without a name or watched. */
struct watch_file {
	uint64_t dev, ino;
	pid_t pid;
	char fd[12];
	char path[PATH_SHOWN]; /* of an open file */
};

static void watch_list_add(struct watch_list *l, const struct watch_file *f)
{
	array_reserve(l->v, l->n, l->room);
	l->v[l->n++] = *f;
}

void watch_list_free(struct watch_list *l)
{
	free(l->v);
}

void preflight_remember_nameless(struct preflight_scan *s, pid_t pid, const struct statx *st, const char *path)
{
	struct watch_file f = { makedev(st->stx_dev_major, st->stx_dev_minor), st->stx_ino, pid, "", "" };

	printable(path, f.path, sizeof(f.path));
	watch_list_add(&s->nameless, &f);
}

void preflight_remember_watches(struct preflight_scan *s, pid_t pid, const char *fd)
{
	cleanup_free char *info = NULL;
	char path[64];
	const char *p;

	snprintf(path, sizeof(path), "%d/fdinfo/%s", pid, fd);
	if (read_file_at(s->proc, path, 16 << 20, &info) <= 0)
		return;
	for (p = strstr(info, "\ninotify "); p; p = strstr(p + 1, "\ninotify ")) {
		struct watch_file f = { .pid = pid };
		unsigned long ino;
		unsigned dev;

		if (sscanf(p, "\ninotify wd:%*x ino:%lx sdev:%x", &ino, &dev) != 2)
			continue;
		f.ino = ino;
		f.dev = makedev(dev >> KERNEL_MINOR_BITS, dev & ((1u << KERNEL_MINOR_BITS) - 1));
		snprintf(f.fd, sizeof(f.fd), "%s", fd);
		watch_list_add(&s->watches, &f);
	}
}

static int watch_compare(const void *a, const void *b)
{
	const struct watch_file *x = a, *y = b;

	return x->dev != y->dev ? (x->dev < y->dev ? -1 : 1) : (x->ino > y->ino) - (x->ino < y->ino);
}

int preflight_watches(const struct preflight_scan *s, struct err *err)
{
	char what[PATH_SHOWN + 128];

	if (!s->nameless.n || !s->watches.n)
		return 0;
	qsort(s->nameless.v, s->nameless.n, sizeof(*s->nameless.v), watch_compare);
	for (size_t i = 0; i < s->watches.n; i++) {
		const struct watch_file *w = &s->watches.v[i];
		const struct watch_file *f = bsearch(w, s->nameless.v, s->nameless.n, sizeof(*w), watch_compare);

		if (!f)
			continue;
		snprintf(what, sizeof(what), "watches a file that has no name any more, %s, by inotify (descriptor %s)",
			 f->path, w->fd);
		return preflight_refuse(w->pid, err, what, "remove the watch or close the file, and try again");
	}
	return 0;
}
