/* Attributes of mappings, and of address spaces as a whole, that criu does not save. They are the member "spaces" of an
 * epoch's manifest:
 *
 *   [{"pid",                                    in the pod
 *     "policies": [[START, END, "bind:0"]…],    memory policies of mappings (mbind(2)), as in /proc/PID/numa_maps
 *     "on_fault": [[START, END]…],              mappings that were locked with MLOCK_ONFAULT
 *     "future": N,                              argument of mlockall(2) for mappings to come
 *     "undo": [[ID, NUMBER, ADJUSTMENT]…],      semaphore_undo.c
 *     "merge": 1}…]                             PR_SET_MEMORY_MERGE
 *
 * The first two are looked for before the freeze, because the kernel walks all page tables for them. Policies are then
 * read again in the freeze where there were any. On a node with one NUMA node policies change nothing, and they are
 * not looked for in large processes.
 *
 * Nobody but the process is told what mlockall(2) has asked for. So in the freeze a process that has locked memory
 * makes a mapping: it is locked if it is to be.  */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/util.h"
#include "base/vmas.h"

#define MAPS_MAX             (256u << 20)
#define LARGE                (1L << 20) /* KiB in memory */
#define RANGES_MAX           4096       /* of a process */
#define PAGE                 4096u
#define PRESENT              (UINT64_C(1) << 63) /* in an entry of pagemap */
#define PR_SET_MEMORY_MERGE_ 67                  /* Linux 6.4 */

/* The entry of a process, made if there is none. */
static json_t *spaces_entry(json_t *list, pid_t inner)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
		if (json_integer_value(json_object_get(o, "pid")) == inner)
			return o;
	o = json_pack("{s:i}", "pid", (int)inner);
	json_array_append_new(list, o);
	return o;
}

/* ---- before the freeze ------------------------------------------------------ */

/* Whether the list has no room for another mapping, which is said if there is a worker. */
static bool spaces_is_full(struct worker *w, pid_t host, const json_t *found, const char *what)
{
	char who[PROC_DESCRIBED];

	if (json_array_size(found) < RANGES_MAX)
		return false;
	if (w)
		worker_warn(w, "%s of %s are restored for the first %d mappings only that have any", what,
			    proc_describe(host, who, sizeof(who)), RANGES_MAX);
	return true;
}

/* Mappings with a policy other than that of the process, which is the one that most have. */
static json_t *spaces_policies(struct worker *w, pid_t host, const struct vmas *m)
{
	cleanup_close int fd = open_proc(host, "numa_maps", O_RDONLY);
	char general[MEMORY_POLICY_TEXT], policy[MEMORY_POLICY_TEXT];
	json_t *found = json_array();
	cleanup_file FILE *f = fd < 0 ? NULL : fdopen(steal_fd(&fd), "r");
	cleanup_free char *line = NULL;
	size_t cap = 0;

	if (!f || !memory_policy_of_thread(host, general))
		return found;
	while (getline(&line, &cap, f) > 0) {
		const uint64_t start = strtoull(line, NULL, 16);
		const struct vma *v = vmas_find(m, start);

		memory_policy_of_line(line, policy);
		if (!v || v->start != start || !strcmp(policy, general))
			continue;
		if (spaces_is_full(w, host, found, "memory policies"))
			break;
		json_array_append_new(found, json_pack("[I, I, s]", (json_int_t)v->start, (json_int_t)v->end, policy));
	}
	return found;
}

static void spaces_set_list(json_t *list, pid_t inner, const char *key, json_t *found)
{
	if (json_array_size(found))
		json_object_set_new(spaces_entry(list, inner), key, found);
	else
		json_decref(found);
}

static void spaces_scan_policies(struct worker *w, json_t *list, pid_t host, pid_t inner)
{
	struct vmas m;

	if (vmas_read(host, &m, NULL))
		return;
	spaces_set_list(list, inner, "policies", spaces_policies(w, host, &m));
	vmas_free(&m);
}

static void spaces_scan_locks(struct worker *w, json_t *list, pid_t host, pid_t inner)
{
	json_t *found = json_array();
	struct vmas m = { 0 };

	vmas_read_filled(host, &m, NULL);
	for (size_t i = 0; i < m.n; i++) {
		if (!m.v[i].on_fault)
			continue;
		if (spaces_is_full(w, host, found, "locks on fault"))
			break;
		json_array_append_new(found, json_pack("[I, I]", (json_int_t)m.v[i].start, (json_int_t)m.v[i].end));
	}
	spaces_set_list(list, inner, "on_fault", found);
	vmas_free(&m);
}

json_t *space_attributes_scan(struct worker *w, const struct tree *t)
{
	const unsigned long nodes = memory_policy_online();
	json_t *list = json_array();

	for (int i = 0; i < t->n; i++) {
		if ((nodes & (nodes - 1)) || proc_number(t->pids[i], "VmRSS", 0) < LARGE)
			spaces_scan_policies(NULL, list, t->pids[i], t->inner[i]);
		if (proc_number(t->pids[i], "VmLck", 0) > 0)
			spaces_scan_locks(w, list, t->pids[i], t->inner[i]);
	}
	return list;
}

/* ---- in the freeze ---------------------------------------------------------- */

static bool spaces_page_is_there(pid_t host, uint64_t page)
{
	cleanup_close int fd = open_proc(host, "pagemap", O_RDONLY);
	uint64_t entry = 0;

	return fd >= 0 && pread(fd, &entry, sizeof(entry), (off_t)(page / PAGE * sizeof(entry))) == sizeof(entry) &&
	       (entry & PRESENT);
}

/* What mlockall(2) has asked for; 0 = nothing for mappings to come. -1 with err. */
static int spaces_ask_future(int tracer, pid_t inner, pid_t host, struct err *err)
{
	const long before = proc_number(host, "VmLck", 0);
	struct own_calls c;
	int future = 0;

	if (tracer < 0)
		return err_set(err, ENOTSUP, "that cannot be asked while criu writes the memory itself (MemoryEngine)");
	if (own_calls_begin(&c, tracer, inner, host, err))
		return -1;
	if (proc_number(host, "VmLck", 0) > before)
		future = spaces_page_is_there(host, c.page) ? MCL_FUTURE : MCL_FUTURE | MCL_ONFAULT;
	return own_calls_end(&c, err) ? -1 : future;
}

static bool spaces_merges(pid_t host)
{
	cleanup_close int fd = open_proc(host, "ksm_stat", O_RDONLY);
	char text[512];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "ksm_merge_any: yes") != NULL;
}

/* -1: the adjustments of some semaphores are not known. */
static int spaces_ask_undo(json_t *list, int tracer, pid_t inner, pid_t host)
{
	json_t *found = json_array();
	struct own_calls c;
	int rc;

	if (own_calls_begin(&c, tracer, inner, host, NULL)) {
		json_decref(found);
		return -1;
	}
	rc = semaphore_undo_read(&c, found);
	spaces_set_list(list, inner, "undo", found);
	return own_calls_end(&c, NULL) || rc ? -1 : 0;
}

static void spaces_freeze_process(struct worker *w, json_t *list, int tracer, bool semaphores, pid_t host, pid_t inner)
{
	char who[PROC_DESCRIBED];
	struct err err;
	int future = 0;

	if (proc_number(host, "VmLck", 0) > 0)
		future = spaces_ask_future(tracer, inner, host, &err);
	if (future < 0)
		worker_warn(w, "whether %s has used mlockall(MCL_FUTURE) is not known and not restored: %.300s",
			    proc_describe(host, who, sizeof(who)), err.text);
	if (future > 0)
		json_object_set_new(spaces_entry(list, inner), "future", json_integer(future));
	if (spaces_merges(host))
		json_object_set_new(spaces_entry(list, inner), "merge", json_integer(1));
	if (semaphores && semaphore_undo_any(host) && spaces_ask_undo(list, tracer, inner, host))
		worker_warn(w,
			    "%s may have taken System V semaphores with SEM_UNDO, and what it has taken is not known: if it "
			    "ends after a restart, the kernel does not give them back",
			    proc_describe(host, who, sizeof(who)));
}

void space_attributes_freeze(struct worker *w, const struct tree *t, int tracer, bool semaphores, json_t *list)
{
	json_t *o;
	size_t k;

	json_array_foreach(list, k, o) {
		const pid_t inner = (pid_t)json_integer_value(json_object_get(o, "pid"));
		const pid_t host = tree_host_of(t, (uint64_t)inner);

		if (json_object_del(o, "policies") == 0 && host)
			spaces_scan_policies(w, list, host, inner);
	}
	for (int i = 0; i < t->n; i++)
		spaces_freeze_process(w, list, tracer, semaphores, t->pids[i], t->inner[i]);
}

/* ---- in a restore ----------------------------------------------------------- */

static long spaces_long(const json_t *list, size_t i)
{
	return (long)json_integer_value(json_array_get(list, i));
}

static int spaces_set_policy(const struct own_calls *c, const json_t *range, struct err *err)
{
	const char *text = json_string_value(json_array_get(range, 2));
	const long start = spaces_long(range, 0);
	long args[6] = { start, spaces_long(range, 1) - start };
	unsigned long nodes;

	if (!text || !memory_policy_here(text, &args[2], &nodes))
		return err_set(err, ENODEV, "the memory policy %.60s of a mapping cannot be had on this node",
			       text ? text : "?");
	if (own_calls_nodes(c, nodes, &args[3], &args[4], err))
		return -1;
	return own_calls_make(c, "mbind", SYS_mbind, args, err);
}

static int spaces_set_on_fault(const struct own_calls *c, const json_t *range, struct err *err)
{
	const long start = spaces_long(range, 0);
	const long args[6] = { start, spaces_long(range, 1) - start, MLOCK_ONFAULT };

	return own_calls_make(c, "mlock2", SYS_mlock2, args, err);
}

static int spaces_set_numbers(const struct own_calls *c, const json_t *o, struct err *err)
{
	const long future[6] = { (long)json_integer_value(json_object_get(o, "future")) };
	const long merge[6] = { PR_SET_MEMORY_MERGE_, 1 };

	if (future[0] && own_calls_make(c, "mlockall", SYS_mlockall, future, err))
		return -1;
	return json_object_get(o, "merge") ? own_calls_make(c, "prctl(PR_SET_MEMORY_MERGE)", SYS_prctl, merge, err) : 0;
}

/* What cannot be set is a warning for the whole process. */
static void spaces_set_process(struct worker *w, const struct own_calls *c, const json_t *o)
{
	struct err err = { 0 };
	char who[PROC_DESCRIBED];
	json_t *range;
	size_t i;
	int rc;

	rc = spaces_set_numbers(c, o, &err);
	json_array_foreach(json_object_get(o, "policies"), i, range)
		rc |= spaces_set_policy(c, range, &err);
	json_array_foreach(json_object_get(o, "on_fault"), i, range)
		rc |= spaces_set_on_fault(c, range, &err);
	json_array_foreach(json_object_get(o, "undo"), i, range)
		rc |= semaphore_undo_set(c, range, &err);
	if (rc)
		worker_warn(w, "attributes of the memory of %s are not restored: %.300s",
			    proc_describe(c->task.host, who, sizeof(who)), err.text);
}

bool space_attributes_any(const json_t *list)
{
	return json_array_size(list) > 0;
}

int space_attributes_set(struct worker *w, int tracer, pid_t init, const json_t *list, struct err *err)
{
	struct tree t;
	json_t *o;
	size_t i;

	if (!space_attributes_any(list))
		return 0;
	if (tree_read(init, &t, err))
		return -1;
	json_array_foreach(list, i, o) {
		const pid_t inner = (pid_t)json_integer_value(json_object_get(o, "pid"));
		const pid_t host = tree_host_of(&t, (uint64_t)inner);
		struct err why = { 0 };
		struct own_calls c;

		if (!host || own_calls_begin(&c, tracer, inner, host, &why)) {
			worker_warn(w, "attributes of the memory of process %d are not restored: %.300s", inner,
				    why.text);
			continue;
		}
		spaces_set_process(w, &c, o);
		if (own_calls_end(&c, err)) {
			tree_free(&t);
			return -1;
		}
	}
	tree_free(&t);
	return 0;
}
