/* Which processes are the job's. While a dump runs, criu and its driver are in the pod's PID namespace too. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/util.h"
#include "pod/pod.h"

#define LEADER_PID 2

struct node {
	pid_t pid, parent;
	int   inner;   /* pid inside the pod */
	enum { UNKNOWN, INSIDE, OUTSIDE } where;
};

static void read_node(struct node *n, struct tree *t)
{
	static const char *const keys[] = { "NSpid", "NSpgid", "NSsid" };
	cleanup_free char *status = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", n->pid);
	if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0)
		return;
	n->parent = (pid_t)proc_status_number(status, "PPid", 0);
	n->inner = (int)proc_status_number(status, "NSpid", 0);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		long v = proc_status_number(status, keys[k], 0);

		t->max_pid = v > t->max_pid ? (int)v : t->max_pid;
	}
}

static struct node *find(struct node *list, int n, pid_t pid)
{
	for (int i = 0; i < n; i++)
		if (list[i].pid == pid)
			return &list[i];
	return NULL;
}

/* The leader is the sub-reaper of everything that the job starts, so every process of the job descends from it. */
static bool descends(struct node *list, int n, struct node *p, int depth)
{
	struct node *up;

	if (p->where == UNKNOWN) {
		up = p->inner == LEADER_PID || depth > n ? NULL : find(list, n, p->parent);
		p->where = p->inner == LEADER_PID || (up && descends(list, n, up, depth + 1)) ? INSIDE : OUTSIDE;
	}
	return p->where == INSIDE;
}

/* Never more than were read. */
static void append(struct tree *t, const struct node *p)
{
	t->pids[t->n] = p->pid;
	t->inner[t->n++] = p->inner;
}

bool tree_is_there(pid_t init)
{
	struct tree t;

	if (tree_read(init, &t, NULL))
		return false;
	tree_free(&t);
	return true;
}

void tree_free(struct tree *t)
{
	free(t->pids);
	free(t->inner);
	*t = (struct tree){ 0 };
}

pid_t tree_host_of(const struct tree *t, uint64_t inner)
{
	for (int i = 0; i < t->n; i++)
		if ((uint64_t)t->inner[i] == inner)
			return t->pids[i];
	return 0;
}

int tree_read(pid_t init, struct tree *t, struct err *err)
{
	cleanup_free struct node *list = NULL;
	int n;

	*t = (struct tree){ .max_pid = LEADER_PID };
	n = pod_pids(init, &t->pids, err);
	if (n < 0)
		return -1;
	list = xcalloc((size_t)n + 1, sizeof(*list));
	for (int i = 0; i < n; i++) {
		list[i].pid = t->pids[i];
		read_node(&list[i], t);
	}
	t->inner = xcalloc((size_t)n + 1, sizeof(*t->inner));
	for (int i = 0; i < n; i++)
		if (descends(list, n, &list[i], 0))
			append(t, &list[i]);
	if (t->n == 0) {
		tree_free(t);
		return err_set(err, ESRCH, "the job has ended: its pod is empty");
	}
	return 0;
}
