/* Which processes are the job's. While a dump runs, criu and its driver are in the pod's PID namespace too. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"
#include "pod/pod.h"

#define LEADER_PID 2

struct node {
	pid_t pid, parent;
	int inner, session; /* numbers inside the pod */
	int born_session;   /* the session in which a child was forked, and in which this process must have been before
			       its own; 0: not known */
	bool ended;         /* a zombie */
	bool nested;        /* in a nested PID namespace: inner and session are its numbers there */
	enum {
		UNKNOWN,
		INSIDE,  /* descends from the leader */
		STRAY,   /* descends from pid 1 only */
		ENTERED, /* entered the pod from outside: criu, its driver, a person with nsenter */
	} where;
};

/* All processes of the pod except pid 1. */
struct nodes {
	struct node *v;
	int n;
};

/* The number of PID namespaces in which the process has a pid, from that of this process downwards: 2 = here and in the
 * pod. */
static int count_levels(const char *status)
{
	const char *p = strstr(status, "\nNSpid:");
	int n = 0;

	for (p = p ? p + 1 : "\n"; *p != '\n' && *p; p++)
		n += *p == '\t';
	return n;
}

static void tree_read_node(struct node *n, struct tree *t)
{
	static const char *const keys[] = { "NSpid", "NSpgid", "NSsid" };
	cleanup_free char *status = NULL;
	const char *state;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", n->pid);
	if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0) {
		n->ended = true;
		return;
	}
	state = strstr(status, "\nState:\t");
	n->ended = state && strchr("ZX", state[strlen("\nState:\t")]);
	n->nested = count_levels(status) > 2;
	n->parent = (pid_t)proc_status_number(status, "PPid", 0);
	n->inner = (int)proc_status_number(status, "NSpid", 0);
	n->session = (int)proc_status_number(status, "NSsid", 0);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		long v = proc_status_number(status, keys[k], 0);

		t->max_pid = v > t->max_pid ? (int)v : t->max_pid;
	}
}

static struct node *tree_find_node(const struct nodes *l, pid_t pid)
{
	for (int i = 0; i < l->n; i++)
		if (l->v[i].pid == pid)
			return &l->v[i];
	return NULL;
}

/* The leader is the sub-reaper of everything that the job starts, so every process of the job descends from it. */
static void tree_place_node(const struct nodes *l, struct node *p, pid_t init, int depth)
{
	struct node *up = tree_find_node(l, p->parent);

	if (p->where != UNKNOWN)
		return;
	if (p->inner == LEADER_PID) {
		p->where = INSIDE;
	} else if (p->parent == init) {
		/* A process that entered and whose parent has died, for example a child of a killed criu, is in a
		 * session from outside of the pod (0 here). */
		p->where = p->session ? STRAY : ENTERED;
	} else if (!up || depth > l->n) {
		p->where = ENTERED;
	} else {
		tree_place_node(l, up, init, depth + 1);
		p->where = up->where;
	}
}

static int tree_read_nodes(pid_t init, struct nodes *l, struct tree *t, struct err *err)
{
	*t = (struct tree){ .max_pid = LEADER_PID };
	l->n = pod_pids(init, &t->pids, err);
	if (l->n < 0)
		return -1;
	l->v = xcalloc((size_t)l->n + 1, sizeof(*l->v));
	for (int i = 0; i < l->n; i++) {
		l->v[i].pid = t->pids[i];
		tree_read_node(&l->v[i], t);
	}
	for (int i = 0; i < l->n; i++)
		tree_place_node(l, &l->v[i], init, 0);
	return 0;
}

/* t->pids has room for all processes that were read. */
static void tree_append(struct tree *t, const struct node *p)
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
	struct nodes l;

	if (tree_read_nodes(init, &l, t, err))
		return -1;
	t->inner = xcalloc((size_t)l.n + 1, sizeof(*t->inner));
	for (int i = 0; i < l.n; i++)
		if (l.v[i].where == INSIDE)
			tree_append(t, &l.v[i]);
	free(l.v);
	if (t->n == 0) {
		tree_free(t);
		return err_set(err, ESRCH, "the job has ended: its pod is empty");
	}
	return 0;
}

/* ---- can all processes be saved and restored? ---- */

static bool has_image(int imagesfd, const struct node *p)
{
	char name[32];

	snprintf(name, sizeof(name), "core-%d.img", p->inner);
	return faccessat(imagesfd, name, F_OK, 0) == 0;
}

/* criu puts a process into its session by forking it at the right moment: from the leader of the session, from an
 * ancestor before that ancestor calls setsid(), or, for children of the tree's first process, from a helper. None of
 * these works for an orphan of another session that was adopted by a sub-reaper other than the first process. */
static bool session_fits(const struct nodes *l, const struct node *p)
{
	struct node *up = tree_find_node(l, p->parent);

	if (p->inner == LEADER_PID || p->session == p->inner ||
	    (up && (up->inner == LEADER_PID || up->session == p->session)))
		return true;
	for (; up && up->inner != p->session; up = tree_find_node(l, up->parent)) {
		if (up->inner == LEADER_PID || (up->born_session && up->born_session != p->session))
			return false;
		up->born_session = p->session;
	}
	return up != NULL;
}

static int tree_check_node(const struct nodes *l, const struct node *p, int imagesfd, struct err *err)
{
	char who[PROC_DESCRIBED];

	if (p->where == STRAY && !p->ended)
		return err_set(
			err, 0,
			"%s is no descendant of the job's first process and would not be saved; where an older version of fsched has "
			"restored a job, its daemons are so; the job can be checkpointed once this process has ended",
			proc_describe(p->pid, who, sizeof(who)));
	/* The preflight refuses processes in nested namespaces. */
	if (p->where != INSIDE || p->nested)
		return 0;
	if (!session_fits(l, p))
		return err_set(err, 0,
			       "%s, an orphan of session %d, was adopted by a process of another session (a sub-reaper), which cannot be "
			       "checkpointed; wait until it has ended",
			       proc_describe(p->pid, who, sizeof(who)), p->session);
	if (imagesfd >= 0 && !has_image(imagesfd, p))
		return err_set(err, 0, "criu has not saved %s of the job", proc_describe(p->pid, who, sizeof(who)));
	return 0;
}

int tree_check(pid_t init, int imagesfd, struct err *err)
{
	struct nodes l;
	struct tree t;
	int rc = tree_read_nodes(init, &l, &t, err);

	if (rc)
		return -1;
	for (int i = 0; i < l.n && rc == 0; i++)
		rc = tree_check_node(&l, &l.v[i], imagesfd, err);
	free(l.v);
	tree_free(&t);
	return rc;
}
