/* Attributes of threads that criu does not save. They are the member "threads" of an epoch's manifest:
 *
 *   {"cpus": [CPU…],                                    the CPUs of the job: the affinity of the leader
 *    "personality": N,                                  of the leader
 *    "list": [{"pid", "tid",                            in the pod
 *              "cpus": [CPU…],                          CPU affinity, where it differs from that of the leader
 *              "ioprio": N,                             ioprio_set(2), where it does not follow from the nice value
 *              "timerslack": NS,                        where it differs from that of the leader
 *              "core_filter", "personality", "mce": N,  of processes, where they differ from those of the leader
 *              "policy": "interleave:0-1"}…]}           memory policy of a process, as in /proc/PID/numa_maps
 *
 * Threads that have nothing but defaults are not in the list. Those of the last row are set by the process itself
 * (preload/task_attributes.c), the others from here, when all processes exist and none runs.
 *
 * CPUs are numbers of the node, and the job may get others at its restart: the n-th CPU of the job then becomes the
 * n-th one now. A thread that may use all CPUs of the job may use all of them afterwards, too. */
#include "worker/worker.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/util.h"
#include "criu/criu_image.h"

#define CPUS_MAX      16384
#define CPUS_SIZE     CPU_ALLOC_SIZE(CPUS_MAX)
#define IOPRIO_THREAD 1 /* IOPRIO_WHO_PROCESS */
#define IOPRIO_SHIFT  13
#define IOPRIO_BE     2
#define NICE_LEVELS   5    /* nice values for each I/O priority */
#define MCE_PROCESS   0x80 /* PF_MCE_PROCESS and PF_MCE_EARLY in the flags of /proc/PID/stat */
#define MCE_EARLY     0x08000000
#define NODES_MAX     64
#define ENV_MAX       (100 << 10) /* the kernel takes 128 KiB for one variable */

/* What the leader has; no job changes it. */
struct defaults {
	cpu_set_t *cpus;
	long slack, filter, personality;
};

struct thread {
	pid_t pid, tid; /* in the pod */
	pid_t host;     /* the thread, in the PID namespace of this process */
	const struct defaults *by;
	cpu_set_t *cpus; /* room for an affinity */
};

/* ---- reading ---------------------------------------------------------------- */

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

	for (size_t i = 0; i < CPUS_MAX; i++)
		if (CPU_ISSET_S(i, CPUS_SIZE, set))
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

/* Reads the memory policy of a process from the line of its first mapping. The kernel fills a longer read with more
 * lines, and walks the page tables of each mapping for that. Returns false for the default policy. */
static bool attributes_read_policy(pid_t pid, char *policy, size_t len)
{
	cleanup_close int fd = open_proc(pid, "numa_maps", O_RDONLY);
	char text[64], *p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strchr(text, ' ');
	if (!p)
		return false;
	p[1 + strcspn(p + 1, " \n")] = '\0';
	snprintf(policy, len, "%s", p + 1);
	return strcmp(policy, "default") && strchr(policy, ':') != NULL;
}

static void attributes_set_number(json_t *o, const char *key, long value, long normal)
{
	if (value >= 0 && value != normal)
		json_object_set_new(o, key, json_integer(value));
}

static void attributes_read_process(json_t *o, const struct thread *t)
{
	char policy[64];

	attributes_set_number(o, "core_filter", attributes_read_proc_number(t->host, "coredump_filter", 16, -1),
			      t->by->filter);
	attributes_set_number(o, "personality", attributes_read_proc_number(t->host, "personality", 16, -1),
			      t->by->personality);
	attributes_set_number(o, "mce", attributes_mce(t->host), 0);
	if (attributes_read_policy(t->host, policy, sizeof(policy)))
		json_object_set_new(o, "policy", json_text(policy));
}

/* Appends the thread to the list if it has anything but defaults. */
static void attributes_read_thread(json_t *list, struct thread *t)
{
	cleanup_json json_t *o = json_object();

	if (sched_getaffinity(t->host, CPUS_SIZE, t->cpus) == 0 && !CPU_EQUAL_S(CPUS_SIZE, t->cpus, t->by->cpus))
		json_object_set_new(o, "cpus", attributes_cpus(t->cpus));
	attributes_set_number(o, "ioprio", attributes_ioprio(t->host), 0);
	attributes_set_number(o, "timerslack", attributes_read_proc_number(t->host, "timerslack_ns", 10, -1),
			      t->by->slack);
	if (t->pid == t->tid)
		attributes_read_process(o, t);
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
		.cpus = CPU_ALLOC(CPUS_MAX),
		.slack = attributes_read_proc_number(leader, "timerslack_ns", 10, -1),
		.filter = attributes_read_proc_number(leader, "coredump_filter", 16, -1),
		.personality = attributes_read_proc_number(leader, "personality", 16, -1),
	};
	struct reading r = { .list = json_array(), .t = { .by = &by, .cpus = CPU_ALLOC(CPUS_MAX) } };
	json_t *all = NULL;

	if (by.cpus && r.t.cpus && leader && sched_getaffinity(leader, CPUS_SIZE, by.cpus) == 0) {
		for (int i = 0; i < t->n; i++) {
			r.t.pid = r.t.tid = t->inner[i];
			r.t.host = t->pids[i];
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

/* Parses "interleave=static:0-1,4" to the mode of set_mempolicy(2), whose flags it includes, and a mask of nodes.
 * Returns false for a policy that is not known. */
static bool attributes_parse_policy(const char *text, long *mode, unsigned long *nodes)
{
	static const char *const modes[] = {
		"default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"
	};
	const size_t len = strcspn(text, ":=");
	const char *p = strchr(text, ':');
	unsigned from, to;
	int n;

	*mode = *nodes = 0;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (strlen(modes[i]) == len && !strncmp(modes[i], text, len))
			*mode = (long)i;
	if (!*mode || !p)
		return false;
	if (text[len] == '=')
		*mode |= strstr(text, "static") ? 1 << 15 : 1 << 14; /* MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES */
	for (p++; isdigit((unsigned char)*p); p += *p == ',') {
		if (sscanf(p, "%u%n", &from, &n) != 1)
			return false;
		p += n;
		to = from;
		if (*p == '-' && sscanf(p, "-%u%n", &to, &n) == 1)
			p += n;
		for (; from <= to && from < NODES_MAX; from++)
			*nodes |= 1ul << from;
	}
	return true;
}

static unsigned long attributes_online_nodes(void)
{
	char text[256] = "x:";
	cleanup_close int fd = open("/sys/devices/system/node/online", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text + 2, sizeof(text) - 3);
	unsigned long nodes = 1;
	long mode;
	char as[300];

	if (n <= 0)
		return nodes;
	text[2 + n] = '\0';
	snprintf(as, sizeof(as), "bind%s", text + 1);
	attributes_parse_policy(as, &mode, &nodes);
	return nodes;
}

static long attributes_number(const json_t *o, const char *key, long missing)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) && json_integer_value(v) >= 0 ? (long)json_integer_value(v) : missing;
}

/* Returns the mode for the process; 0 if it is to keep the default policy. */
static long attributes_policy(struct worker *w, const json_t *o, unsigned long *nodes)
{
	const char *text = json_string_value(json_object_get(o, "policy"));
	unsigned long wanted;
	long mode;

	*nodes = 0;
	if (!text)
		return 0;
	if (attributes_parse_policy(text, &mode, &wanted)) {
		*nodes = wanted & attributes_online_nodes();
		if (*nodes == wanted)
			return mode;
	}
	worker_warn(w,
		    "process %ld had the memory policy %.60s, which this node cannot give it; it has the default policy now",
		    attributes_number(o, "pid", 0), text);
	*nodes = 0;
	return 0;
}

char *thread_attributes_env(struct worker *w, const json_t *threads)
{
	const long normal = attributes_number(threads, "personality", 0);
	char *text = NULL, *more;
	size_t i;
	json_t *o;

	json_array_foreach(json_object_get(threads, "list"), i, o) {
		unsigned long nodes;
		long personality = attributes_number(o, "personality", normal), mce = attributes_number(o, "mce", 0),
		     mode = attributes_policy(w, o, &nodes);

		if (personality == normal && !mce && !mode)
			continue;
		text = text ? text : xasprintf("FSCHED_TASKS=0:%ld:0:0:0;", normal);
		more = xasprintf("%s%ld:%ld:%ld:%ld:%lu;", text, attributes_number(o, "pid", 0), personality, mce, mode,
				 nodes);
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

/* Fills set with the CPUs of now in place of those that the list names of then. Returns false if none is left. */
static bool attributes_map_cpus(const json_t *list, const json_t *then, const cpu_set_t *now, cpu_set_t *set)
{
	const int n_now = CPU_COUNT_S(CPUS_SIZE, now);
	size_t i, k;
	json_t *cpu, *old;

	CPU_ZERO_S(CPUS_SIZE, set);
	json_array_foreach(list, i, cpu) {
		json_array_foreach(then, k, old) {
			int want = (int)k % (n_now ? n_now : 1), c = 0;

			if (!json_equal(cpu, old))
				continue;
			for (; c < CPUS_MAX && (!CPU_ISSET_S((size_t)c, CPUS_SIZE, now) || want-- > 0); c++)
				;
			CPU_SET_S((size_t)c, CPUS_SIZE, set);
		}
	}
	return CPU_COUNT_S(CPUS_SIZE, set) > 0;
}

static void attributes_set_proc_number(struct worker *w, pid_t pid, const char *name, long value)
{
	cleanup_close int fd = open_proc(pid, name, O_WRONLY);
	char who[PROC_DESCRIBED];

	if (value >= 0 && (fd < 0 || dprintf(fd, "%ld", value) < 0))
		worker_warn(w, "%s of %s is not restored: %s", name, proc_describe(pid, who, sizeof(who)),
			    strerror(errno));
}

struct setting {
	struct worker *w;
	const json_t *threads;
	cpu_set_t *now, *set;
	const json_t *o; /* of the thread that is searched */
	pid_t host;      /* found */
};

static void attributes_set_thread(const struct setting *s, pid_t tid, const json_t *o)
{
	const json_t *cpus = json_object_get(o, "cpus");
	const long ioprio = attributes_number(o, "ioprio", 0);
	char who[PROC_DESCRIBED];

	if (cpus && (!attributes_map_cpus(cpus, json_object_get(s->threads, "cpus"), s->now, s->set) ||
		     sched_setaffinity(tid, CPUS_SIZE, s->set)))
		worker_warn(s->w, "the CPU affinity of %s is not restored: the job has no such CPU any more",
			    proc_describe(tid, who, sizeof(who)));
	if (ioprio && syscall(SYS_ioprio_set, IOPRIO_THREAD, tid, ioprio))
		worker_warn(s->w, "the I/O priority of %s is not restored: %s", proc_describe(tid, who, sizeof(who)),
			    strerror(errno));
	attributes_set_proc_number(s->w, tid, "timerslack_ns", attributes_number(o, "timerslack", -1));
	attributes_set_proc_number(s->w, tid, "coredump_filter", attributes_number(o, "core_filter", -1));
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

int thread_attributes_set(struct worker *w, pid_t init, const json_t *threads, struct err *err)
{
	struct setting s = { .w = w, .threads = threads, .now = CPU_ALLOC(CPUS_MAX), .set = CPU_ALLOC(CPUS_MAX) };
	struct tree t = { 0 };
	size_t i;
	json_t *o;
	int rc = 0;

	if (!thread_attributes_any(threads))
		goto out;
	rc = !s.now || !s.set ? err_sys(err, ENOMEM, "cannot restore CPU affinities") : tree_read(init, &t, err);
	if (rc)
		goto out;
	if (sched_getaffinity(0, CPUS_SIZE, s.now))
		CPU_ZERO_S(CPUS_SIZE, s.now);
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
	CPU_FREE(s.now);
	CPU_FREE(s.set);
	return rc;
}
