#include "agent/open_watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

#ifdef FSCHED_BPF

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "open_watch_bpf.h" /* open_watch_program[], made from open_watch.bpf.c */
#include "agent/open_watch_shared.h"

struct open_watch {
	struct bpf_object *program;
	struct bpf_link *link;
	struct ring_buffer *ring;
	open_watch_fn *fn;
	void *arg;
};

static int open_watch_quiet(enum libbpf_print_level level, const char *fmt, va_list args)
{
	(void)level, (void)fmt, (void)args;
	return 0;
}

static int open_watch_take(void *arg, void *data, size_t len)
{
	const struct open_watch *w = arg;
	char *path = data;

	if (len > 1 && path[0] == '/' && !path[len - 1])
		w->fn(w->arg, path);
	return 0;
}

static int open_watch_map(const struct open_watch *w, const char *name)
{
	return bpf_object__find_map_fd_by_name(w->program, name);
}

/* Before the program is loaded: the one variable of its read-only data. */
static int open_watch_set_namespace(const struct open_watch *w, pid_t init)
{
	struct bpf_map *data = bpf_object__find_map_by_name(w->program, ".rodata");
	char name[64];
	struct stat st;

	snprintf(name, sizeof(name), "/proc/%d/ns/pid", (int)init);
	if (stat(name, &st))
		return -errno;
	const unsigned inode = (unsigned)st.st_ino;
	return data ? bpf_map__set_initial_value(data, &inode, sizeof(inode)) : -ENOENT;
}

static int open_watch_load(struct open_watch *w, pid_t init, const uint64_t *types, size_t n)
{
	const uint8_t one = 1;
	struct bpf_program *program;
	int rc;

	w->program = bpf_object__open_mem(open_watch_program, sizeof(open_watch_program), NULL);
	if (!w->program)
		return -errno;
	rc = open_watch_set_namespace(w, init);
	if (rc || (rc = bpf_object__load(w->program)))
		return rc;
	for (size_t i = 0; i < n; i++)
		if (bpf_map_update_elem(open_watch_map(w, "types"), &types[i], &one, BPF_ANY))
			return -errno;
	w->ring = ring_buffer__new(open_watch_map(w, "paths"), open_watch_take, w, NULL);
	program = bpf_object__find_program_by_name(w->program, "on_open");
	w->link = w->ring && program ? bpf_program__attach(program) : NULL;
	return w->link ? 0 : -errno;
}

struct open_watch *open_watch_open(pid_t init, const uint64_t *types, size_t n, open_watch_fn *fn, void *arg,
				   struct err *err)
{
	struct open_watch *w = xcalloc(1, sizeof(*w));
	int rc;

	w->fn = fn;
	w->arg = arg;
	libbpf_set_print(open_watch_quiet);
	rc = open_watch_load(w, init, types, n);
	if (rc == 0)
		return w;
	open_watch_close(w);
	err_sys(err, -rc, "the kernel does not take the BPF program that would note opened files");
	return NULL;
}

void open_watch_close(struct open_watch *w)
{
	if (!w)
		return;
	ring_buffer__free(w->ring);
	bpf_link__destroy(w->link);
	bpf_object__close(w->program);
	free(w);
}

int open_watch_fd(const struct open_watch *w)
{
	return ring_buffer__epoll_fd(w->ring);
}

void open_watch_drain(struct open_watch *w)
{
	ring_buffer__consume(w->ring);
}

bool open_watch_lost(const struct open_watch *w)
{
	const uint32_t first = 0;
	uint64_t n = 0;

	return bpf_map_lookup_elem(open_watch_map(w, "lost"), &first, &n) || n;
}

#else

struct open_watch *open_watch_open(pid_t init, const uint64_t *types, size_t n, open_watch_fn *fn, void *arg,
				   struct err *err)
{
	(void)init, (void)types, (void)n, (void)fn, (void)arg;
	err_set(err, ENOSYS, "fsched was built without libbpf or without clang");
	return NULL;
}

void open_watch_close(struct open_watch *w)
{
	(void)w;
}

int open_watch_fd(const struct open_watch *w)
{
	(void)w;
	return -1;
}

void open_watch_drain(struct open_watch *w)
{
	(void)w;
}

bool open_watch_lost(const struct open_watch *w)
{
	(void)w;
	return false;
}

#endif
