#include "agent/load_sample.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"

#define STAT_MAX      (1 << 20)
#define ENVIRON_MAX   (1 << 20)
/* environments read per slurmstepd before it is taken to belong to no job */
#define ENVIRON_TRIES 64

#define NO_ROOT       0
#define UNRESOLVED    -1

struct load_proc {
	pid_t pid, ppid, sid;
	uint64_t start;     /* ticks since boot: with the pid it is an identity */
	uint64_t self, all; /* ticks: utime+stime, and with cutime+cstime */
	pid_t root;         /* slurmstepd or known root above it; NO_ROOT, UNRESOLVED */
	bool stepd;         /* a slurmstepd of root */
};

struct load_snapshot {
	struct load_counters counters;
	struct load_proc *procs; /* by ascending pid */
	size_t n;
	size_t n_stepds;
};

struct load_sampler {
	int procfd;
	struct load_known *known;
	size_t n_known;
	struct load_snapshot begin;
};

struct load_tree { /* the processes below one root */
	pid_t root;
	uint32_t job_id; /* 0 = not known */
	unsigned cpus;
	int64_t all, self; /* growth in the window, ticks */
};

/* ---- the machine ------------------------------------------------------- */

static int load_read_counters(int procfd, struct load_counters *c, struct err *err)
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
static int load_parse_proc(const char *text, struct load_proc *p)
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
	*p = (struct load_proc){
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

/* Any user may name a program slurmstepd. The owner of the directory in /proc is no proof: it is root, too, if a
 * process is not dumpable. */
static bool load_owned_by_root(int procfd, const char *pid)
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

static int load_by_pid(const void *a, const void *b)
{
	const struct load_proc *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct load_proc *load_find_proc(const struct load_snapshot *s, pid_t pid)
{
	struct load_proc key = { .pid = pid };

	return s->n ? bsearch(&key, s->procs, s->n, sizeof(key), load_by_pid) : NULL;
}

static int load_read_procs(int procfd, struct load_snapshot *s, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(procfd, ".");
	const struct dirent *de;
	size_t room = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		char name[32], text[1024];
		cleanup_close int file = -1;
		struct load_proc p;
		ssize_t len;

		if (de->d_name[0] < '1' || de->d_name[0] > '9' || strlen(de->d_name) > 10)
			continue;
		snprintf(name, sizeof(name), "%.10s/stat", de->d_name);
		file = openat(procfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		len = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
		if (len <= 0)
			continue; /* the process has ended */
		text[len] = '\0';
		if (load_parse_proc(text, &p) < 0)
			continue;
		p.stepd = p.stepd && load_owned_by_root(procfd, de->d_name);
		array_reserve(s->procs, s->n, room);
		s->n_stepds += p.stepd;
		s->procs[s->n++] = p;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read /proc");
	if (s->n)
		qsort(s->procs, s->n, sizeof(*s->procs), load_by_pid);
	return 0;
}

/* ---- whose process is it ----------------------------------------------- */

static bool load_is_known_root(const struct load_sampler *l, pid_t pid)
{
	for (size_t i = 0; i < l->n_known; i++) {
		if (l->known[i].root == pid)
			return true;
	}
	return false;
}

/* The root if it is known without looking at the parent, else UNRESOLVED. */
static pid_t load_root_here(const struct load_sampler *l, const struct load_proc *p)
{
	if (load_is_known_root(l, p->pid) || p->stepd)
		return p->pid;
	return p->root;
}

/* A process whose parent has ended is a child of init, but is still in the session that its slurmstepd has made. */
static pid_t load_root_by_session(const struct load_snapshot *s, const struct load_proc *p)
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

/* Walks up to the first process whose root is known, then stores the root in all processes on the way, so that each
 * chain is walked only once. */
static void load_resolve_root(const struct load_sampler *l, struct load_snapshot *s, struct load_proc *p)
{
	struct load_proc *top = p;
	pid_t root;

	for (size_t steps = 0; (root = load_root_here(l, top)) == UNRESOLVED; steps++) {
		struct load_proc *up = top->ppid > 1 ? load_find_proc(s, top->ppid) : NULL;

		/* The steps are limited, because pids that were reused while /proc was read could form a ring. */
		if (!up || steps > s->n) {
			root = load_root_by_session(s, top);
			break;
		}
		top = up;
	}
	for (struct load_proc *q = p; q && q->root == UNRESOLVED; q = load_find_proc(s, q->ppid)) {
		q->root = root;
		if (q == top)
			break;
	}
}

static int load_take_snapshot(const struct load_sampler *l, struct load_snapshot *s, struct err *err)
{
	if (load_read_counters(l->procfd, &s->counters, err) < 0 || load_read_procs(l->procfd, s, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n; i++)
		load_resolve_root(l, s, &s->procs[i]);
	return 0;
}

/* ---- whose job is it --------------------------------------------------- */

/* A number from an environment that a user may have written; 0 if there is none. */
static unsigned load_env_number(const char *env, size_t len, const char *name)
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

static bool load_read_environ(int procfd, pid_t pid, struct load_tree *t)
{
	cleanup_free char *env = NULL;
	char name[32];
	ssize_t len;

	snprintf(name, sizeof(name), "%d/environ", (int)pid);
	len = read_file_at(procfd, name, ENVIRON_MAX, &env);
	if (len <= 0)
		return false;
	t->job_id = load_env_number(env, (size_t)len, "SLURM_JOB_ID");
	t->cpus = load_env_number(env, (size_t)len, "SLURM_CPUS_ON_NODE");
	/* "4(x2),2" for several nodes: the first number, since this node's is not known */
	if (!t->cpus)
		t->cpus = load_env_number(env, (size_t)len, "SLURM_JOB_CPUS_PER_NODE");
	return t->job_id && t->cpus;
}

/* Children of the root come first: they have the environment that slurmstepd has made. */
static void load_identify_tree(const struct load_sampler *l, const struct load_snapshot *s, struct load_tree *t)
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
			const struct load_proc *p = &s->procs[i];

			if (p->root != t->root || p->pid == t->root || (p->ppid == t->root) != children)
				continue;
			if (load_read_environ(l->procfd, p->pid, t))
				return;
			tries--;
		}
	}
	t->job_id = 0;
}

/* ---- what the jobs used ------------------------------------------------ */

static struct load_tree *load_find_tree(struct load_tree *trees, size_t n, pid_t root)
{
	for (size_t i = 0; i < n; i++) {
		if (trees[i].root == root)
			return &trees[i];
	}
	return NULL;
}

static size_t load_list_trees(const struct load_snapshot *s, struct load_tree **out)
{
	struct load_tree *trees = NULL;
	size_t n = 0, room = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (s->procs[i].root != s->procs[i].pid)
			continue;
		array_reserve(trees, n, room);
		trees[n++] = (struct load_tree){ .root = s->procs[i].pid };
	}
	*out = trees;
	return n;
}

static const struct load_proc *load_same_proc(const struct load_snapshot *s, const struct load_proc *p)
{
	const struct load_proc *found = load_find_proc(s, p->pid);

	return found && found->start == p->start ? found : NULL;
}

static void load_add_up(const struct load_snapshot *a, const struct load_snapshot *b, struct load_tree *trees, size_t n)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct load_proc *now = &b->procs[i], *before = load_same_proc(a, now);
		struct load_tree *t = now->root == NO_ROOT ? NULL : load_find_tree(trees, n, now->root);

		if (!t)
			continue;
		t->all += (int64_t)now->all - (before ? (int64_t)before->all : 0);
		t->self += (int64_t)now->self - (before ? (int64_t)before->self : 0);
	}
	/* The CPU time of a child that was reaped is in its parent's cutime now. */
	for (size_t i = 0; i < a->n; i++) {
		const struct load_proc *before = &a->procs[i];
		struct load_tree *t = before->root == NO_ROOT ? NULL : load_find_tree(trees, n, before->root);

		if (t && !load_same_proc(b, before))
			t->all -= (int64_t)before->all;
	}
}

/* One entry per job, since its steps share one allocation. window: in ticks. */
static size_t load_list_jobs(const struct load_tree *trees, size_t n, double window, struct load_job **out)
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
	} else if (load_take_snapshot(s, &s->begin, err) == 0) {
		return s;
	}
	load_sample_cancel(s);
	return NULL;
}

int load_sample_end(struct load_sampler *s, struct load *out, struct err *err)
{
	struct load_snapshot end = { .n = 0 };
	cleanup_free struct load_tree *trees = NULL;
	cleanup_free struct load_job *jobs = NULL;
	size_t n_trees, n_jobs;
	int r;

	r = load_take_snapshot(s, &end, err);
	if (r == 0) {
		n_trees = load_list_trees(&end, &trees);
		for (size_t i = 0; i < n_trees; i++)
			load_identify_tree(s, &end, &trees[i]);
		load_add_up(&s->begin, &end, trees, n_trees);
		n_jobs = load_list_jobs(trees, n_trees, load_window_ticks(&s->begin.counters, &end.counters), &jobs);
		load_compute(&s->begin.counters, &end.counters, jobs, n_jobs, out);
	}
	free(end.procs);
	load_sample_cancel(s);
	return r;
}
