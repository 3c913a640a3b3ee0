/* Preflight: open descriptors and mappings. */
#include "pod/preflight_internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"

static const struct { const char *prefix, *what; } hardware[] = {
	{ "/dev/nvidia",     "uses a GPU" },
	{ "/dev/dri/",       "uses a GPU" },
	{ "/dev/kfd",        "uses a GPU" },
	{ "/dev/infiniband", "uses an RDMA network card" },
	{ "/dev/hfi1",       "uses an Omni-Path network card" },
	{ "/dev/knem",       "uses the KNEM device" },
	{ "/dev/xpmem",      "uses the XPMEM device" },
	{ "/dev/kvm",        "runs a virtual machine" },
};

static const struct { const char *link, *what; } anon[] = {
	{ "anon_inode:[io_uring]",    "uses io_uring" },
	{ "anon_inode:[perf_event]",  "has a performance counter open" },
	{ "anon_inode:kvm",           "runs a virtual machine" },
	{ "anon_inode:[userfaultfd]", "uses userfaultfd" },
	{ "anon_inode:bpf",           "has a BPF object open" },
	{ "anon_inode:btf",           "has a BPF object open" },
	{ "anon_inode:dmabuf",        "shares a buffer with a device" },
};

static const char *known_object(const char *link)
{
	for (size_t i = 0; i < ARRAY_SIZE(anon); i++)
		if (!strncmp(link, anon[i].link, strlen(anon[i].link)))
			return anon[i].what;
	for (size_t i = 0; i < ARRAY_SIZE(hardware); i++)
		if (!strncmp(link, hardware[i].prefix, strlen(hardware[i].prefix)))
			return hardware[i].what;
	return NULL;
}

/* Character devices whose state is in the kernel's generic code and known to criu. */
static bool harmless_device(unsigned maj, unsigned min)
{
	switch (maj) {
	case 1:  /* null, zero, full, random, urandom, kmsg */
		return min == 3 || min == 5 || min == 7 || min == 8 || min == 9 || min == 11;
	case 5:  /* tty, console, ptmx */
	case 4:  /* virtual terminals and serial lines: criu says what it cannot do */
		return true;
	case 10: /* net/tun */
		return min == 200;
	default: /* pseudo-terminals */
		return maj >= 136 && maj <= 143;
	}
}

static void remember_socket(struct scan *s, pid_t pid, unsigned long inode)
{
	if (s->n_sockets == s->room)
		s->sockets = xrealloc(s->sockets, (size_t)(s->room = s->room ? 2 * s->room : 64) * sizeof(*s->sockets));
	s->sockets[s->n_sockets++] = (struct owner){ inode, pid };
}

static int check_fd(struct scan *s, pid_t pid, int dirfd, const char *name, struct err *err)
{
	char link[4096], what[256], clean[160];
	unsigned long inode;
	struct statx st;
	const char *known;
	ssize_t n = readlinkat(dirfd, name, link, sizeof(link) - 1);

	if (n < 0)
		return 0;
	link[n] = '\0';
	if (sscanf(link, "socket:[%lu]", &inode) == 1) {
		remember_socket(s, pid, inode);
		return 0;
	}
	known = known_object(link);
	if (known)
		return preflight_refuse(s, pid, err, known, "");
	/* DONT_SYNC: a file server that hangs must not hang the worker. */
	if (link[0] != '/' || statx(dirfd, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st))
		return 0;
	if (S_ISBLK(st.stx_mode) || (S_ISCHR(st.stx_mode) && !harmless_device(st.stx_rdev_major, st.stx_rdev_minor))) {
		snprintf(what, sizeof(what), "has the device %s open", printable(link, clean, sizeof(clean)));
		return preflight_refuse(s, pid, err, what, "");
	}
	return 0;
}

int preflight_fds(struct scan *s, pid_t pid, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	char path[64];
	struct dirent *e;
	int fd;

	snprintf(path, sizeof(path), "%d/fd", pid);
	fd = openat(s->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	d = fdopendir(fd);
	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]) && check_fd(s, pid, dirfd(d), e->d_name, err))
			return -1;
	return 0;
}

/* A device may stay mapped after its descriptor is closed; so may an io_uring. */
int preflight_maps(const struct scan *s, pid_t pid, struct err *err)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	char path[64];
	const char *known;
	size_t cap = 0;
	int fd, at;

	snprintf(path, sizeof(path), "%d/maps", pid);
	fd = openat(s->proc, path, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && getline(&line, &cap, f) > 0) {
		at = 0;
		sscanf(line, "%*s %*s %*s %*s %*s %n", &at);
		if (at <= 0 || (line[at] != '/' && line[at] != 'a'))
			continue;
		known = known_object(line + at);
		if (known)
			return preflight_refuse(s, pid, err, known, "");
	}
	return 0;
}
