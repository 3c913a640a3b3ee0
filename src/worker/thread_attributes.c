/* Attributes of threads that criu does not save. They are the member "threads" of an epoch's manifest:
 *
 *   {"cpus": [CPU…],                                    the CPUs of the job: the affinity of the leader
 *    "personality": N,                                  of the leader
 *    "list": [{"pid", "tid",                            in the pod
 *              "cpus": [CPU…],                          CPU affinity, where it differs from that of the leader
 *              "ioprio": N,                             ioprio_set(2), where it does not follow from the nice value
 *              "timerslack": NS,                        where it differs from that of the leader
 *              "slice": NS,                             the same: how long it runs at a time (sched_setattr(2))
 *              "core_filter", "personality", "mce": N,  of processes, where they differ from those of the leader
 *              "policy": "interleave:0-1"}…]}           memory policy of a process, as in /proc/PID/numa_maps; of
 *                                                       another thread, where it differs from that of its process
 *
 * Threads that have nothing but defaults are not in the list. Those of processes in the last two rows are set by the
 * process itself (preload/task_attributes.c), the policies of other threads by own_calls.c, and the rest from here,
 * when all processes exist and none runs.
 *
 * CPUs are numbers of the node, and the job may get others at its restart (policy/cpu_binding.h). A thread that may use
 * all CPUs of the job may use all of them afterwards, too. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "policy/cpu_binding.h"

#define IOPRIO_THREAD 1 /* IOPRIO_WHO_PROCESS */
#define IOPRIO_SHIFT  13
#define IOPRIO_BE     2
#define NICE_LEVELS   5    /* nice values for each I/O priority */
#define MCE_PROCESS   0x80 /* PF_MCE_PROCESS and PF_MCE_EARLY in the flags of /proc/PID/stat */
#define MCE_EARLY     0x08000000
#define ENV_MAX       (100 << 10) /* the kernel takes 128 KiB for one variable */

/* What the leader has; no job changes it. */
struct defaults {
	cpu_set_t *cpus;
	long slack, filter, personality;
	uint64_t slice; /* ns */
};

/* struct sched_attr of sched_setattr(2), as of Linux 3.14. */
struct thread_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period; /* ns; runtime is the slice of normal threads since Linux 6.12 */
};

struct thread {
	pid_t pid, tid; /* in the pod */
	pid_t host;     /* the thread, in the PID namespace of this process */
	const struct defaults *by;
	cpu_set_t *cpus;                 /* room for an affinity */
	char policy[MEMORY_POLICY_TEXT]; /* of the process */
};

/* ---- reading ---------------------------------------------------------------- */

/* False for other threads than normal ones. */
static bool attributes_get_sched(pid_t tid, struct thread_sched *s)
{
	return syscall(SYS_sched_getattr, tid, s, sizeof(*s), 0) == 0 &&
	       (s->policy == SCHED_OTHER || s->policy == SCHED_BATCH);
}

static long attributes_read_proc_number(pid_t pid, const char *name, int base, long missing)
{
	cleanup_close int fd = open_proc(pid, name, O_RDONLY);
	char text[64], *end;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long v;

	if (n <= 0)
		return missing;
	text[n] = '\0';
	v = strtol(text, &end, base);
	return end == text ? missing : v;
}

static json_t *attributes_cpus(const cpu_set_t *set)
{
	json_t *list = json_array();

	for (size_t i = 0; i < CPU_BINDING_MAX; i++)
		if (CPU_ISSET_S(i, CPU_BINDING_SIZE, set))
			json_array_append_new(list, json_integer((json_int_t)i));
	return list;
}

/* The I/O priority of a thread that has set one; 0 if it has the one that follows from its nice value. */
static long attributes_ioprio(pid_t tid)
{
	long prio = syscall(SYS_ioprio_get, IOPRIO_THREAD, tid);
	int nice;

	errno = 0;
	nice = getpriority(PRIO_PROCESS, (id_t)tid);
	if (prio < 0 || prio >> IOPRIO_SHIFT == 0)
		return 0;
	return errno == 0 && prio == (IOPRIO_BE << IOPRIO_SHIFT | (nice + 20) / NICE_LEVELS) ? 0 : prio;
}

/* PR_MCE_KILL_EARLY or _LATE + 1; 0: neither was set. */
static long attributes_mce(pid_t pid)
{
	cleanup_close int fd = open_proc(pid, "stat", O_RDONLY);
	char text[1024], *p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	unsigned flags;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	p = strrchr(text, ')');
	if (!p || sscanf(p, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1 || !(flags & MCE_PROCESS))
		return 0;
	return flags & MCE_EARLY ? 2 : 1;
}

static void attributes_set_number(json_t *o, const char *key, long value, long normal)
{
	if (value >= 0 && value != normal)
		json_object_set_new(o, key, json_integer(value));
}

static void attributes_read_process(json_t *o, const struct thread *t)
{
	attributes_set_number(o, "core_filter", attributes_read_proc_number(t->host, "coredump_filter", 16, -1),
			      t->by->filter);
	attributes_set_number(o, "personality", attributes_read_proc_number(t->host, "personality", 16, -1),
			      t->by->personality);
	attributes_set_number(o, "mce", attributes_mce(t->host), 0);
	if (strcmp(t->policy, MEMORY_POLICY_NONE))
		json_object_set_new(o, "policy", json_text(t->policy));
}

/* A thread has the policy of its first thread, or one of its own. */
static void attributes_read_own_policy(json_t *o, const struct thread *t)
{
	char policy[MEMORY_POLICY_TEXT];

	if (memory_policy_of_thread(t->host, policy) && strcmp(policy, t->policy))
		json_object_set_new(o, "policy", json_text(policy));
}

/* The kernel has a default for all threads of the node that depends on the number of its processors. */
static void attributes_read_slice(json_t *o, const struct thread *t)
{
	struct thread_sched s;

	if (attributes_get_sched(t->host, &s) && s.runtime != t->by->slice)
		json_object_set_new(o, "slice", json_integer((json_int_t)s.runtime));
}

/* Appends the thread to the list if it has anything but defaults. */
static void attributes_read_thread(json_t *list, struct thread *t)
{
	cleanup_json json_t *o = json_object();

	if (sched_getaffinity(t->host, CPU_BINDING_SIZE, t->cpus) == 0 &&
	    !CPU_EQUAL_S(CPU_BINDING_SIZE, t->cpus, t->by->cpus))
		json_object_set_new(o, "cpus", attributes_cpus(t->cpus));
	attributes_set_number(o, "ioprio", attributes_ioprio(t->host), 0);
	attributes_set_number(o, "timerslack", attributes_read_proc_number(t->host, "timerslack_ns", 10, -1),
			      t->by->slack);
	if (t->pid == t->tid)
		attributes_read_process(o, t);
	else
		attributes_read_own_policy(o, t);
	attributes_read_slice(o, t);
	if (!json_object_size(o))
		return;
	if (!t->tid)
		t->tid = (pid_t)proc_number(t->host, "NSpid", 0);
	json_object_set_new(o, "pid", json_integer(t->pid));
	json_object_set_new(o, "tid", json_integer(t->tid));
	json_array_append(list, o);
}

/* Calls each() for all threads of a process but the first one. */
static void attributes_other_threads(pid_t host, void (*each)(pid_t tid, void *arg), void *arg)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64];
	pid_t tid;

	snprintf(path, sizeof(path), "/proc/%d/task", host);
	d = opendir(path);
	while (d && dir_next(d, &e) > 0) {
		tid = (pid_t)strtol(e->d_name, NULL, 10);
		if (tid > 0 && tid != host)
			each(tid, arg);
	}
}

struct reading {
	json_t *list;
	struct thread t;
};

static void attributes_read_other_thread(pid_t tid, void *arg)
{
	struct reading *r = arg;
	struct thread t = r->t;

	t.host = tid;
	t.tid = 0;
	attributes_read_thread(r->list, &t);
}

json_t *thread_attributes_read(const struct tree *t)
{
	const pid_t leader = tree_host_of(t, CRIU_LEADER_PID);
	struct defaults by = {
		.cpus = CPU_ALLOC(CPU_BINDING_MAX),
		.slack = attributes_read_proc_number(leader, "timerslack_ns", 10, -1),
		.filter = attributes_read_proc_number(leader, "coredump_filter", 16, -1),
		.personality = attributes_read_proc_number(leader, "personality", 16, -1),
	};
	struct thread_sched sched = { 0 };
	struct reading r = { .list = json_array(), .t = { .by = &by, .cpus = CPU_ALLOC(CPU_BINDING_MAX) } };
	json_t *all = NULL;

	if (attributes_get_sched(leader, &sched))
		by.slice = sched.runtime;
	if (by.cpus && r.t.cpus && leader && sched_getaffinity(leader, CPU_BINDING_SIZE, by.cpus) == 0) {
		for (int i = 0; i < t->n; i++) {
			r.t.pid = r.t.tid = t->inner[i];
			r.t.host = t->pids[i];
			if (!memory_policy_of_thread(r.t.host, r.t.policy))
				strcpy(r.t.policy, MEMORY_POLICY_NONE);
			attributes_read_thread(r.list, &r.t);
			attributes_other_threads(t->pids[i], attributes_read_other_thread, &r);
		}
		all = json_pack("{s:o,s:I,s:O}", "cpus", attributes_cpus(by.cpus), "personality",
				(json_int_t)(by.personality < 0 ? 0 : by.personality), "list", r.list);
	}
	json_decref(r.list);
	CPU_FREE(by.cpus);
	CPU_FREE(r.t.cpus);
	return all;
}

/* ---- what a process sets for itself ----------------------------------------- */

static long attributes_number(const json_t *o, const char *key, long missing)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) && json_integer_value(v) >= 0 ? (long)json_integer_value(v) : missing;
}

static bool attributes_is_other_thread(const json_t *o)
{
	return attributes_number(o, "tid", 0) != attributes_number(o, "pid", 0);
}

/* Returns the mode for the process; 0 if it is to keep the default policy. */
static long attributes_policy(struct worker *w, const json_t *o, unsigned long *nodes)
{
	const char *text = json_string_value(json_object_get(o, "policy"));
	long mode = 0;

	*nodes = 0;
	if (text && !memory_policy_here(text, &mode, nodes))
		worker_warn(w,
			    "process %ld had the memory policy %.60s, which this node cannot give it; it has the default "
			    "policy now",
			    attributes_number(o, "pid", 0), text);
	return mode;
}

/* What a process sets for itself, as preload/task_attributes.c reads it; NULL: nothing. Owned by the caller. */
static char *attributes_env_of(struct worker *w, const json_t *o, long normal)
{
	const long personality = attributes_number(o, "personality", normal), mce = attributes_number(o, "mce", 0);
	unsigned long nodes;
	long mode;

	if (attributes_is_other_thread(o))
		return NULL;
	mode = attributes_policy(w, o, &nodes);
	if (personality == normal && !mce && !mode)
		return NULL;
	return xasprintf("%ld:%ld:%ld:%ld:%lu;", attributes_number(o, "pid", 0), personality, mce, mode, nodes);
}

char *thread_attributes_env(struct worker *w, const json_t *threads)
{
	const long normal = attributes_number(threads, "personality", 0);
	char *text = NULL, *more;
	size_t i;
	json_t *o;

	json_array_foreach(json_object_get(threads, "list"), i, o) {
		cleanup_free char *own = attributes_env_of(w, o, normal);

		if (!own)
			continue;
		text = text ? text : xasprintf("FSCHED_TASKS=0:%ld:0:0:0;", normal);
		more = xasprintf("%s%s", text, own);
		free(text);
		text = more;
		if (strlen(text) < ENV_MAX)
			continue;
		worker_warn(
			w,
			"personality, memory policy and the like of some processes are not restored, because too many have them");
		break;
	}
	return text ? text : xstrdup("FSCHED_TASKS=");
}

/* ---- setting ---------------------------------------------------------------- */

static int attributes_refuse_cpus(const struct worker *w, int need, int n_now, struct err *err)
{
	char command[96] = "";

	if (w->req.job_id[0])
		snprintf(command, sizeof(command), ": scontrol update JobId=%s NumCPUs=%d MinCPUsNode=%d",
			 w->req.job_id, need, need);
	if (n_now >= get_nprocs())
		return err_set(
			err, ENODEV,
			"threads of the job are bound to %d CPUs of their own, and this node has %d; choose a larger node",
			need, n_now);
	return err_set(
		err, ENODEV,
		"threads of the job are bound to %d CPUs of their own, and the job has got %d; give it at least %d%s",
		need, n_now, need, command);
}

int thread_attributes_check(const struct worker *w, const json_t *threads, struct err *err)
{
	cpu_set_t *now = CPU_ALLOC(CPU_BINDING_MAX);
	struct cpu_binding b;
	int n_now = 0;

	if (now && sched_getaffinity(0, CPU_BINDING_SIZE, now) == 0)
		n_now = CPU_COUNT_S(CPU_BINDING_SIZE, now);
	CPU_FREE(now);
	if (!n_now)
		return 0; /* thread_attributes_set() says what is not restored */
	cpu_binding_read(&b, threads);
	cpu_binding_free(&b);
	return b.need > n_now ? attributes_refuse_cpus(w, b.need, n_now, err) : 0;
}

static void attributes_set_proc_number(struct worker *w, pid_t pid, const char *name, long value)
{
	cleanup_close int fd = open_proc(pid, name, O_WRONLY);
	char who[PROC_DESCRIBED];

	if (value >= 0 && (fd < 0 || dprintf(fd, "%ld", value) < 0))
		worker_warn(w, "%s of %s is not restored: %s", name, proc_describe(pid, who, sizeof(who)),
			    strerror(errno));
}

/* 0, or -1 with errno. */
static int attributes_set_slice(pid_t tid, uint64_t slice)
{
	struct thread_sched s;

	if (!attributes_get_sched(tid, &s)) {
		errno = EINVAL;
		return -1;
	}
	s.runtime = slice;
	return (int)syscall(SYS_sched_setattr, tid, &s, 0);
}

struct setting {
	struct worker *w;
	int tracer;
	const json_t *threads;
	struct cpu_binding binding;
	cpu_set_t *now, *set;
	const json_t *o; /* of the thread that is searched */
	pid_t host;      /* found */
};

/* The policy of a thread other than the first. */
static int attributes_set_policy(const struct setting *s, pid_t host, const char *text, struct err *err)
{
	long args[6] = { 0 };
	unsigned long nodes;
	struct own_calls c;
	int rc;

	if (!memory_policy_here(text, &args[0], &nodes))
		return err_set(err, ENODEV, "this node cannot give it");
	if (own_calls_begin(&c, s->tracer, (pid_t)attributes_number(s->o, "tid", 0), host, err))
		return -1;
	rc = own_calls_nodes(&c, nodes, &args[1], &args[2], err) ||
	     own_calls_make(&c, "set_mempolicy", SYS_set_mempolicy, args, err);
	return own_calls_end(&c, rc ? NULL : err) || rc ? -1 : 0;
}

static void attributes_set_thread(const struct setting *s, pid_t tid, const json_t *o)
{
	const char *policy = json_string_value(json_object_get(o, "policy"));
	struct err err;

	const json_t *cpus = json_object_get(o, "cpus");
	const long ioprio = attributes_number(o, "ioprio", 0), slice = attributes_number(o, "slice", 0);
	char who[PROC_DESCRIBED];

	if (cpus &&
	    (!cpu_binding_map(&s->binding, cpus, s->now, s->set) || sched_setaffinity(tid, CPU_BINDING_SIZE, s->set)))
		worker_warn(s->w, "the CPU affinity of %s is not restored: the job has no such CPU any more",
			    proc_describe(tid, who, sizeof(who)));
	if (ioprio && syscall(SYS_ioprio_set, IOPRIO_THREAD, tid, ioprio))
		worker_warn(s->w, "the I/O priority of %s is not restored: %s", proc_describe(tid, who, sizeof(who)),
			    strerror(errno));
	if (policy && attributes_is_other_thread(o) && attributes_set_policy(s, tid, policy, &err))
		worker_warn(s->w, "the memory policy %.60s of %s is not restored: %.300s", policy,
			    proc_describe(tid, who, sizeof(who)), err.text);
	if (slice && attributes_set_slice(tid, (uint64_t)slice))
		worker_warn(s->w, "the scheduling slice of %s is not restored: %s",
			    proc_describe(tid, who, sizeof(who)), strerror(errno));
	attributes_set_proc_number(s->w, tid, "timerslack_ns", attributes_number(o, "timerslack", -1));
	attributes_set_proc_number(s->w, tid, "coredump_filter", attributes_number(o, "core_filter", -1));
}

static void attributes_warn_shared(const struct setting *s)
{
	const int n_now = CPU_COUNT_S(CPU_BINDING_SIZE, s->now);

	if (s->binding.bound > n_now)
		worker_warn(
			s->w,
			"the job has %d CPUs now, and threads of it were bound to %d different ones: some share a CPU, and "
			"may be slow. To give it as many as before: scontrol checkpoint vacate, scontrol update NumCPUs=",
			n_now, s->binding.bound);
}

static void attributes_find_thread(pid_t tid, void *arg)
{
	struct setting *s = arg;

	if (proc_number(tid, "NSpid", 0) == attributes_number(s->o, "tid", -1))
		s->host = tid;
}

bool thread_attributes_any(const json_t *threads)
{
	return json_array_size(json_object_get(threads, "list")) > 0;
}

int thread_attributes_set(struct worker *w, int tracer, pid_t init, const json_t *threads, struct err *err)
{
	struct setting s = { .w = w,
			     .tracer = tracer,
			     .threads = threads,
			     .now = CPU_ALLOC(CPU_BINDING_MAX),
			     .set = CPU_ALLOC(CPU_BINDING_MAX) };
	struct tree t = { 0 };
	size_t i;
	json_t *o;
	int rc = 0;

	if (!thread_attributes_any(threads))
		goto out;
	rc = !s.now || !s.set ? err_sys(err, ENOMEM, "cannot restore CPU affinities") : tree_read(init, &t, err);
	if (rc)
		goto out;
	if (sched_getaffinity(0, CPU_BINDING_SIZE, s.now))
		CPU_ZERO_S(CPU_BINDING_SIZE, s.now);
	cpu_binding_read(&s.binding, threads);
	attributes_warn_shared(&s);
	json_array_foreach(json_object_get(threads, "list"), i, o) {
		const long pid = attributes_number(o, "pid", 0);
		const pid_t host = pid > 0 ? tree_host_of(&t, (uint64_t)pid) : 0;

		s.o = o;
		s.host = pid == attributes_number(o, "tid", -1) ? host : 0;
		if (host && !s.host)
			attributes_other_threads(host, attributes_find_thread, &s);
		if (s.host)
			attributes_set_thread(&s, s.host, o);
	}
	tree_free(&t);
out:
	cpu_binding_free(&s.binding);
	CPU_FREE(s.now);
	CPU_FREE(s.set);
	return rc;
}
