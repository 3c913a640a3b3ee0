#include "agent/load_sample.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"

#define STAT_MAX      (1 << 20)
#define ENVIRON_MAX   (1 << 20)
/* Environments read per slurmstepd before it is taken for none of a job. */
#define ENVIRON_TRIES 64

#define NO_ROOT       0
#define UNRESOLVED    -1

struct proc {
	pid_t pid, ppid, sid;
	uint64_t start;     /* ticks since boot: with the pid it is an identity */
	uint64_t self, all; /* ticks: utime+stime, and with cutime+cstime */
	pid_t root;         /* slurmstepd or known root above it; NO_ROOT, UNRESOLVED */
	bool stepd;         /* a slurmstepd of root */
};

struct snapshot {
	struct load_counters counters;
	struct proc *procs; /* by ascending pid */
	size_t n;
	size_t n_stepds;
};

struct load_sampler {
	int procfd;
	struct load_known *known;
	size_t n_known;
	struct snapshot begin;
};

struct tree { /* the processes below one root */
	pid_t root;
	uint32_t job_id; /* 0 = not known */
	unsigned cpus;
	int64_t all, self; /* growth in the window, ticks */
};

/* ---- the machine ------------------------------------------------------- */

static int read_counters(int procfd, struct load_counters *c, struct err *err)
{
	cleanup_free char *stat = NULL, *meminfo = NULL, *pressure = NULL;

	if (read_file_at(procfd, "stat", STAT_MAX, &stat) < 0)
		return err_sys(err, errno, "cannot read stat of /proc");
	c->at = now_us();
	if (load_parse_stat(stat, c) < 0)
		return err_set(err, EBADMSG, "cannot understand stat of /proc");
	if (read_file_at(procfd, "meminfo", STAT_MAX, &meminfo) < 0)
		return err_sys(err, errno, "cannot read meminfo of /proc");
	if (load_parse_meminfo(meminfo, c) < 0)
		return err_set(err, EBADMSG, "cannot understand meminfo of /proc");
	/* A kernel without PSI has no such file, one with psi=0 refuses to read it. */
	c->psi_full = -1;
	if (read_file_at(procfd, "pressure/io", 4096, &pressure) > 0)
		load_parse_pressure(pressure, c);
	return 0;
}

/* ---- the processes ----------------------------------------------------- */

/* "PID (COMM) STATE PPID PGRP SESSION …"; the name may hold anything, also ')'. */
static int parse_proc(const char *text, struct proc *p)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	uint64_t utime, stime, start;
	int64_t cutime, cstime;
	int ppid, sid;

	if (!open || !close || close < open)
		return -1;
	if (sscanf(close + 1,
		   " %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64
		   " %*d %*d %*d %*d %" SCNu64,
		   &ppid, &sid, &utime, &stime, &cutime, &cstime, &start) != 7)
		return -1;
	*p = (struct proc){
		.pid = (pid_t)atoi(text),
		.ppid = ppid,
		.sid = sid,
		.start = start,
		.self = utime + stime,
		.all = utime + stime + (uint64_t)cutime + (uint64_t)cstime,
		.root = UNRESOLVED,
		.stepd = close - open == 11 && strncmp(open + 1, "slurmstepd", 10) == 0,
	};
	return 0;
}

/* Anybody may call his program slurmstepd. The owner of the directory does not
 * tell: it is root too where a process is not dumpable. */
static bool owned_by_root(int procfd, const char *pid)
{
	cleanup_free char *name = xasprintf("%s/status", pid), *text = NULL;
	const char *line;
	unsigned uids[4];

	if (read_file_at(procfd, name, 65536, &text) <= 0)
		return false;
	line = strstr(text, "\nUid:");
	return line && sscanf(line + 5, "%u %u %u %u", &uids[0], &uids[1], &uids[2], &uids[3]) == 4 && uids[0] == 0 &&
	       uids[1] == 0;
}

static int by_pid(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct proc *find_proc(const struct snapshot *s, pid_t pid)
{
	struct proc key = { .pid = pid };

	return s->n ? bsearch(&key, s->procs, s->n, sizeof(key), by_pid) : NULL;
}

static int read_procs(int procfd, struct snapshot *s, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(procfd, ".");
	const struct dirent *de;
	size_t size = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		char name[32], text[1024];
		cleanup_close int file = -1;
		struct proc p;
		ssize_t len;

		if (de->d_name[0] < '1' || de->d_name[0] > '9' || strlen(de->d_name) > 10)
			continue;
		snprintf(name, sizeof(name), "%.10s/stat", de->d_name);
		file = openat(procfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		len = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
		if (len <= 0)
			continue; /* gone meanwhile */
		text[len] = '\0';
		if (parse_proc(text, &p) < 0)
			continue;
		p.stepd = p.stepd && owned_by_root(procfd, de->d_name);
		if (s->n == size) {
			size = size ? size * 2 : 256;
			s->procs = xrealloc(s->procs, size * sizeof(*s->procs));
		}
		s->n_stepds += p.stepd;
		s->procs[s->n++] = p;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read /proc");
	if (s->n)
		qsort(s->procs, s->n, sizeof(*s->procs), by_pid);
	return 0;
}

/* ---- whose process is it ----------------------------------------------- */

static bool is_known_root(const struct load_sampler *l, pid_t pid)
{
	for (size_t i = 0; i < l->n_known; i++) {
		if (l->known[i].root == pid)
			return true;
	}
	return false;
}

/* Answers without looking further up, else UNRESOLVED. */
static pid_t root_here(const struct load_sampler *l, const struct proc *p)
{
	if (is_known_root(l, p->pid) || p->stepd)
		return p->pid;
	return p->root;
}

/* A process that lost its parent belongs to init now, but is still in the
 * session that its slurmstepd made. */
static pid_t root_by_session(const struct snapshot *s, const struct proc *p)
{
	size_t left = p->sid > 1 ? s->n_stepds : 0;

	for (size_t i = 0; left > 0 && i < s->n; i++) {
		if (!s->procs[i].stepd)
			continue;
		if (s->procs[i].sid == p->sid)
			return s->procs[i].pid;
		left--;
	}
	return NO_ROOT;
}

/* Walks up to the first process that knows its root, then writes the answer
 * into all on the way: however long the chains are, each is walked once. */
static void resolve(const struct load_sampler *l, struct snapshot *s, struct proc *p)
{
	struct proc *top = p;
	pid_t root;

	for (size_t steps = 0; (root = root_here(l, top)) == UNRESOLVED; steps++) {
		struct proc *up = top->ppid > 1 ? find_proc(s, top->ppid) : NULL;

		/* The steps: pids that were reused while we read could form a ring. */
		if (!up || steps > s->n) {
			root = root_by_session(s, top);
			break;
		}
		top = up;
	}
	for (struct proc *q = p; q && q->root == UNRESOLVED; q = find_proc(s, q->ppid)) {
		q->root = root;
		if (q == top)
			break;
	}
}

static int take_snapshot(const struct load_sampler *l, struct snapshot *s, struct err *err)
{
	if (read_counters(l->procfd, &s->counters, err) < 0 || read_procs(l->procfd, s, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n; i++)
		resolve(l, s, &s->procs[i]);
	return 0;
}

/* ---- whose job is it --------------------------------------------------- */

/* A number from an environment that a user may have written; 0 if it is none. */
static unsigned env_number(const char *env, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = env; p < env + len; p += strlen(p) + 1) {
		if (strncmp(p, name, n) == 0 && p[n] == '=' && p[n + 1] >= '0' && p[n + 1] <= '9') {
			unsigned long v = strtoul(p + n + 1, NULL, 10);

			return v <= UINT32_MAX ? (unsigned)v : 0;
		}
	}
	return 0;
}

static bool read_environ(int procfd, pid_t pid, struct tree *t)
{
	cleanup_free char *env = NULL;
	char name[32];
	ssize_t len;

	snprintf(name, sizeof(name), "%d/environ", (int)pid);
	len = read_file_at(procfd, name, ENVIRON_MAX, &env);
	if (len <= 0)
		return false;
	t->job_id = env_number(env, (size_t)len, "SLURM_JOB_ID");
	t->cpus = env_number(env, (size_t)len, "SLURM_CPUS_ON_NODE");
	/* "4(x2),2" for several nodes; the first number where we cannot tell. */
	if (!t->cpus)
		t->cpus = env_number(env, (size_t)len, "SLURM_JOB_CPUS_PER_NODE");
	return t->job_id && t->cpus;
}

/* Children of the root first: they have what slurmstepd gave them. */
static void identify(const struct load_sampler *l, const struct snapshot *s, struct tree *t)
{
	int tries = ENVIRON_TRIES;

	for (size_t i = 0; i < l->n_known; i++) {
		if (l->known[i].root == t->root) {
			t->job_id = l->known[i].job_id;
			t->cpus = l->known[i].cpus;
			return;
		}
	}
	for (int children = 1; children >= 0; children--) {
		for (size_t i = 0; i < s->n && tries > 0; i++) {
			const struct proc *p = &s->procs[i];

			if (p->root != t->root || p->pid == t->root || (p->ppid == t->root) != children)
				continue;
			if (read_environ(l->procfd, p->pid, t))
				return;
			tries--;
		}
	}
	t->job_id = 0;
}

/* ---- what the jobs used ------------------------------------------------ */

static struct tree *find_tree(struct tree *trees, size_t n, pid_t root)
{
	for (size_t i = 0; i < n; i++) {
		if (trees[i].root == root)
			return &trees[i];
	}
	return NULL;
}

static size_t list_trees(const struct snapshot *s, struct tree **out)
{
	struct tree *trees = NULL;
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (s->procs[i].root != s->procs[i].pid)
			continue;
		trees = xrealloc(trees, (n + 1) * sizeof(*trees));
		trees[n++] = (struct tree){ .root = s->procs[i].pid };
	}
	*out = trees;
	return n;
}

static const struct proc *same_proc(const struct snapshot *s, const struct proc *p)
{
	const struct proc *found = find_proc(s, p->pid);

	return found && found->start == p->start ? found : NULL;
}

static void add_up(const struct snapshot *a, const struct snapshot *b, struct tree *trees, size_t n)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct proc *now = &b->procs[i], *before = same_proc(a, now);
		struct tree *t = now->root == NO_ROOT ? NULL : find_tree(trees, n, now->root);

		if (!t)
			continue;
		t->all += (int64_t)now->all - (before ? (int64_t)before->all : 0);
		t->self += (int64_t)now->self - (before ? (int64_t)before->self : 0);
	}
	/* The life of a child that was reaped stands in its parent's cutime now. */
	for (size_t i = 0; i < a->n; i++) {
		const struct proc *before = &a->procs[i];
		struct tree *t = before->root == NO_ROOT ? NULL : find_tree(trees, n, before->root);

		if (t && !same_proc(b, before))
			t->all -= (int64_t)before->all;
	}
}

/* One entry per job: its steps have one allocation. window: in ticks. */
static size_t list_jobs(const struct tree *trees, size_t n, double window, struct load_job **out)
{
	struct load_job *jobs = xcalloc(n, sizeof(*jobs));
	cleanup_free uint32_t *ids = xcalloc(n, sizeof(*ids));
	size_t n_jobs = 0;

	for (size_t i = 0; i < n; i++) {
		int64_t used = trees[i].all > trees[i].self ? trees[i].all : trees[i].self;
		size_t j = 0;

		if (!trees[i].job_id)
			continue;
		while (j < n_jobs && ids[j] != trees[i].job_id)
			j++;
		if (j == n_jobs)
			ids[n_jobs++] = trees[i].job_id;
		if (jobs[j].allocated < trees[i].cpus)
			jobs[j].allocated = trees[i].cpus;
		if (used > 0 && window > 0)
			jobs[j].used += (double)used / window;
	}
	*out = jobs;
	return n_jobs;
}

/* ---- the sampler ------------------------------------------------------- */

void load_sample_cancel(struct load_sampler *s)
{
	if (!s)
		return;
	if (s->procfd >= 0)
		close(s->procfd);
	free(s->known);
	free(s->begin.procs);
	free(s);
}

struct load_sampler *load_sample_begin(const char *proc, const struct load_known *known, size_t n_known, struct err *err)
{
	struct load_sampler *s = xcalloc(1, sizeof(*s));

	s->n_known = n_known;
	s->known = xcalloc(n_known, sizeof(*known));
	if (n_known)
		memcpy(s->known, known, n_known * sizeof(*known));
	s->procfd = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->procfd < 0) {
		err_sys(err, errno, "cannot open %s", proc);
	} else if (take_snapshot(s, &s->begin, err) == 0) {
		return s;
	}
	load_sample_cancel(s);
	return NULL;
}

int load_sample_end(struct load_sampler *s, struct load *out, struct err *err)
{
	struct snapshot end = { .n = 0 };
	cleanup_free struct tree *trees = NULL;
	cleanup_free struct load_job *jobs = NULL;
	size_t n_trees, n_jobs;
	int r;

	r = take_snapshot(s, &end, err);
	if (r == 0) {
		n_trees = list_trees(&end, &trees);
		for (size_t i = 0; i < n_trees; i++)
			identify(s, &end, &trees[i]);
		add_up(&s->begin, &end, trees, n_trees);
		n_jobs = list_jobs(trees, n_trees, load_window_ticks(&s->begin.counters, &end.counters), &jobs);
		load_compute(&s->begin.counters, &end.counters, jobs, n_jobs, out);
	}
	free(end.procs);
	load_sample_cancel(s);
	return r;
}
