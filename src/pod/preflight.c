#include "pod/preflight.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/dir.h"
#include "common/util.h"

/* A socket of the pod, or a line of /proc/net/tcp. */
struct tcp {
	unsigned long inode;
	unsigned      state;
	uint8_t       local[16], remote[16]; /* IPv4 as ::ffff:a.b.c.d */
	unsigned      local_port, remote_port;
};

struct owner { unsigned long inode; pid_t pid; };

struct scan {
	int    proc;           /* /proc */
	pid_t  leader;         /* host pid */
	unsigned uid;          /* the leader's */
	struct owner *sockets; /* of all processes of the pod, sorted by inode before use */
	int    n_sockets, room;
};

/* "process 17 (python3)": the pid that the user sees. */
static const char *describe(const struct scan *s, pid_t pid, char *buf, size_t len)
{
	cleanup_free char *status = NULL;
	char name[64], comm[64] = "?", clean[64];
	int inner = pid;

	snprintf(name, sizeof(name), "%d/status", pid);
	if (read_file_at(s->proc, name, 65536, &status) > 0) {
		sscanf(status, "Name:\t%63[^\n]", comm);
		inner = (int)proc_status_number(status, "NSpid", pid);
	}
	snprintf(buf, len, "process %d (%s)", inner, printable(comm, clean, sizeof(clean)));
	return buf;
}

static int refuse(const struct scan *s, pid_t pid, struct err *err, const char *what, const char *advice)
{
	char who[160];

	return err_set(err, 0, "%s %s, which cannot be checkpointed%s%s", describe(s, pid, who, sizeof(who)), what,
		       advice[0] ? "; " : "", advice);
}

/* ---- status: tracer, credentials, srun ---- */

/* Pid 2 of the pod, by whose user and namespaces all others are measured: not pid 1, for criu restores the tree into an IPC
 * namespace of its own. */
static int find_leader(struct scan *s, const pid_t *pids, int n, struct err *err)
{
	char name[64];
	const char *p;

	for (int i = 0; i < n; i++) {
		cleanup_free char *status = NULL;

		snprintf(name, sizeof(name), "%d/status", pids[i]);
		if (read_file_at(s->proc, name, 65536, &status) <= 0)
			continue;
		if (proc_status_number(status, "NSpid", 0) != 2)
			continue;
		p = strstr(status, "\nUid:");
		s->leader = pids[i];
		if (p && sscanf(p, "\nUid: %u", &s->uid) == 1)
			return 0;
	}
	return err_set(err, ESRCH, "the job's first process is gone, the job is ending");
}

/* A program with the set-user-ID bit, above all. Restored it would be a way to become that user. */
static int check_user(const struct scan *s, pid_t pid, const char *status, struct err *err)
{
	const char *p = strstr(status, "\nUid:");
	unsigned id[4];

	if (!p || sscanf(p, "\nUid: %u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(id); i++)
		if (id[i] != s->uid)
			return refuse(s, pid, err, "runs under another user than the job", "wait until it has ended");
	return 0;
}

static int check_status(const struct scan *s, pid_t pid, struct err *err)
{
	cleanup_free char *status = NULL;
	char name[64], what[96];
	int tracer;

	snprintf(name, sizeof(name), "%d/status", pid);
	if (read_file_at(s->proc, name, 65536, &status) <= 0)
		return 0;
	if (strstr(status, "\nState:\tZ") || strstr(status, "\nState:\tX"))
		return 0;
	tracer = (int)proc_status_number(status, "TracerPid", 0);
	if (tracer > 0) {
		snprintf(what, sizeof(what), "is being traced by process %d of the node (a debugger or strace)", tracer);
		return refuse(s, pid, err, what, "detach it and try again");
	}
	if (!strncmp(status, "Name:\tsrun\n", 11))
		return refuse(s, pid, err, "is a job step started by srun",
			      "its tasks run outside of the batch script; wait until the step has ended, or start the program without srun");
	return check_user(s, pid, status, err);
}

/* ---- namespaces ---- */

static int check_namespaces(const struct scan *s, pid_t pid, struct err *err)
{
	static const struct { const char *file, *name; } ns[] = {
		{ "pid", "PID" }, { "mnt", "mount" }, { "user", "user" }, { "ipc", "IPC" }, { "net", "network" },
		{ "uts", "UTS" }, { "cgroup", "cgroup" }, { "time", "time" },
	};
	struct stat a, b;
	char path[64], what[96];

	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		snprintf(path, sizeof(path), "%d/ns/%s", s->leader, ns[i].file);
		if (fstatat(s->proc, path, &a, 0))
			continue;
		snprintf(path, sizeof(path), "%d/ns/%s", pid, ns[i].file);
		if (fstatat(s->proc, path, &b, 0) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino))
			continue;
		snprintf(what, sizeof(what), "is in another %s namespace than the job (a container or unshare)", ns[i].name);
		return refuse(s, pid, err, what, "");
	}
	return 0;
}

/* ---- descriptors and mappings ---- */

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
		return refuse(s, pid, err, known, "");
	/* DONT_SYNC: a file server that hangs must not hang the worker. */
	if (link[0] != '/' || statx(dirfd, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st))
		return 0;
	if (S_ISBLK(st.stx_mode) || (S_ISCHR(st.stx_mode) && !harmless_device(st.stx_rdev_major, st.stx_rdev_minor))) {
		snprintf(what, sizeof(what), "has the device %s open", printable(link, clean, sizeof(clean)));
		return refuse(s, pid, err, what, "");
	}
	return 0;
}

static int check_fds(struct scan *s, pid_t pid, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64];
	int more = 0;

	snprintf(path, sizeof(path), "%d/fd", pid);
	d = dir_open_at(s->proc, path);
	while (d && (more = dir_next(d, &e)) > 0)
		if (check_fd(s, pid, dirfd(d), e->d_name, err))
			return -1;
	return (d || errno == ENOENT) && more == 0 ? 0 : err_sys(err, errno, "cannot read /proc/%s", path);
}

/* A device may stay mapped after its descriptor is closed; so may an io_uring. */
static int check_maps(const struct scan *s, pid_t pid, struct err *err)
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
			return refuse(s, pid, err, known, "");
	}
	return 0;
}

/* ---- TCP ---- */

static bool is_any(const uint8_t *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i])
			return false;
	return true;
}

/* Four bytes per group of eight digits, each group in the machine's byte order. */
static bool parse_addr(const char *hex, uint8_t *addr)
{
	size_t groups = strlen(hex) / 8;
	uint32_t word;

	if (groups != 1 && groups != 4)
		return false;
	memset(addr, 0, 16);
	if (groups == 1)
		addr[10] = addr[11] = 0xff;
	for (size_t i = 0; i < groups; i++) {
		if (sscanf(hex + 8 * i, "%8x", &word) != 1)
			return false;
		memcpy(addr + (groups == 1 ? 12 : 4 * i), &word, 4);
	}
	return true;
}

static bool parse_tcp_line(const char *line, struct tcp *t)
{
	char local[40], remote[40];

	return sscanf(line, " %*d: %39[0-9A-F]:%x %39[0-9A-F]:%x %x %*s %*s %*s %*d %*d %lu", local, &t->local_port,
		      remote, &t->remote_port, &t->state, &t->inode) == 6 &&
	       parse_addr(local, t->local) && parse_addr(remote, t->remote);
}

static int read_tcp_table(const struct scan *s, const char *file, struct tcp **table, int n)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	char path[64];
	size_t cap = 0;
	struct tcp t;
	int fd;

	snprintf(path, sizeof(path), "%d/net/%s", s->leader, file);
	fd = openat(s->proc, path, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && getline(&line, &cap, f) > 0) {
		/* Without a peer (listening) or without an inode (closing): nobody's connection. */
		if (!parse_tcp_line(line, &t) || t.remote_port == 0 || t.inode == 0)
			continue;
		if ((n & (n - 1)) == 0)
			*table = xrealloc(*table, (size_t)(n ? 2 * n : 1) * sizeof(t));
		(*table)[n++] = t;
	}
	return n;
}

static int compare_owner(const void *a, const void *b)
{
	const struct owner *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static pid_t owner_of(const struct scan *s, unsigned long inode)
{
	const struct owner key = { inode, 0 };
	const struct owner *o = bsearch(&key, s->sockets, (size_t)s->n_sockets, sizeof(key), compare_owner);

	return o ? o->pid : 0;
}

static bool is_loopback(const uint8_t *a)
{
	static const uint8_t v4[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	if (!memcmp(a, v4, 12))
		return a[12] == 127;
	return is_any(a, 15) && a[15] == 1;
}

static bool reversed(const struct tcp *a, const struct tcp *b)
{
	return a->local_port == b->remote_port && a->remote_port == b->local_port &&
	       !memcmp(a->local, b->remote, 16) && !memcmp(a->remote, b->local, 16);
}

static const struct tcp *other_end(const struct tcp *table, int n, const struct tcp *t)
{
	for (int i = 0; i < n; i++)
		if (reversed(&table[i], t))
			return &table[i];
	return NULL;
}

static int check_connection(const struct scan *s, const struct tcp *table, int n, const struct tcp *t, int agent_port, struct err *err)
{
	bool local = is_loopback(t->remote) || !memcmp(t->local, t->remote, 16);
	pid_t pid = owner_of(s, t->inode);
	char addr[INET6_ADDRSTRLEN], what[160], who[160];
	const struct tcp *peer;

	if (!pid)
		return 0;
	if (local && agent_port > 0 && t->remote_port == (unsigned)agent_port)
		return err_set(err, PREFLIGHT_ASKER, "a job cannot checkpoint itself: the request comes from inside the job, %s; "
			       "send it from a login node or from another job", describe(s, pid, who, sizeof(who)));
	peer = local ? other_end(table, n, t) : NULL;
	if (peer && owner_of(s, peer->inode))
		return 0;
	inet_ntop(AF_INET6, t->remote, addr, sizeof(addr));
	snprintf(what, sizeof(what), "has a TCP connection to %s%s port %u",
		 local ? "a process outside of the job, " : "another host, ",
		 strncmp(addr, "::ffff:", 7) ? addr : addr + 7, t->remote_port);
	return refuse(s, pid, err, what, "close it and try again");
}

static int check_tcp(struct scan *s, int agent_port, struct err *err)
{
	cleanup_free struct tcp *table = NULL;
	int n;

	if (s->n_sockets == 0)
		return 0;
	qsort(s->sockets, (size_t)s->n_sockets, sizeof(*s->sockets), compare_owner);
	n = read_tcp_table(s, "tcp", &table, 0);
	n = read_tcp_table(s, "tcp6", &table, n);
	for (int i = 0; i < n; i++)
		if (check_connection(s, table, n, &table[i], agent_port, err))
			return -1;
	return 0;
}

int preflight(const pid_t *pids, int n, pid_t init, int agent_port, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct scan s = { .proc = proc };
	int rc;

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	rc = find_leader(&s, pids, n, err);
	for (int i = 0; i < n && rc == 0; i++) {
		rc = check_status(&s, pids[i], err);
		if (rc == 0)
			rc = check_namespaces(&s, pids[i], err);
		if (rc == 0)
			rc = check_fds(&s, pids[i], err);
		if (rc == 0)
			rc = check_maps(&s, pids[i], err);
	}
	if (rc == 0)
		rc = check_tcp(&s, agent_port, err);
	free(s.sockets);
	return rc;
}
