/* fsched-requeue FD [SLURM_CONF]: lets jobs whose node has died start again at once.
 *
 * slurmctld makes a requeued job wait for cred_expire (two minutes by default), so that the credential of its last
 * start is void. For a job of fsched's that wait serves nothing: its lease keeps a second copy from running. The
 * job_submit plugin starts this program beside slurmctld, as the same user; it ends when descriptor FD does, which is
 * slurmctld's end of a pipe.
 *
 * It asks for the nodes every few seconds, which costs slurmctld what an sinfo does, and less when nothing has changed.
 * When a node has gone down or was booted it looks at the jobs for a minute, else now and then: that a job is not on a
 * node that was booted right after it was started slurmctld finds out only the next time that the node registers,
 * minutes later.
 *
 * A job is let go once per restart, if its Checkpoint entry says that it was running, and it is pending only for its
 * begin time, or because a node refused it, or because it has been requeued too often: a person's requeue, a hold or a
 * dependency is none of its business. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#define SLURM_BACKWARD_COMPAT
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "base/status.h"
#include "slurm/slurm_compat.h"
#include "slurm/rpc/slurm_rpc.h"

#define POLL_MS    2000
#define SELDOM     10 /* polls from one look at the jobs to the next when the nodes are as they were */
#define LOOKS      30 /* at the jobs after a change of the nodes: slurmctld requeues a little later */
#define DELAY      2  /* s; see RELEASE_DELAY in slurm_rpc.c */
#define SOON       3  /* s: a job that waits no longer than that is left alone */
#define LET_GO_MAX 4096

struct seen {
	uint32_t job_id, restarts, epoch;
};
struct ring {
	struct seen v[LET_GO_MAX];
	unsigned n;
}; /* n in all */

struct watch {
	time_t nodes_at; /* of the last answer with news */
	uint64_t nodes;  /* what matters of the nodes, hashed */
	unsigned looks;  /* at the jobs that are still to be made */
	unsigned polls;
	time_t jobs_at;  /* of the last look at them */
	bool jobs_again; /* one of them could not be let go */
	struct ring let_go;
	struct ring too_often; /* those of them that had been requeued too often */
	struct ring refused;   /* whose update has failed; told once per restart */
};

/* ---- nodes ---- */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	const unsigned char *c = p;

	/* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ c[i]) * 0x100000001b3ULL;
	return h;
}

/* Which nodes are down, and when each was booted. */
static uint64_t summary(const node_info_msg_t *msg)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (uint32_t i = 0; i < msg->record_count; i++) {
		const node_info_t *n = &msg->node_array[i];
		bool down = (n->node_state & NODE_STATE_BASE) == NODE_STATE_DOWN;

		if (!n->name)
			continue;
		h = mix(h, n->name, strlen(n->name));
		h = mix(h, &down, sizeof(down));
		h = mix(h, &n->boot_time, sizeof(n->boot_time));
	}
	return h;
}

static void look_at_nodes(struct watch *w)
{
	node_info_msg_t *msg = NULL;
	uint64_t h;

	errno = 0;
	if (slurm_load_node(w->nodes_at, &msg, SHOW_ALL))
		return; /* SLURM_NO_CHANGE_IN_DATA, or slurmctld is busy */
	w->nodes_at = msg->last_update;
	h = summary(msg);
	if (h != w->nodes)
		w->looks = LOOKS;
	w->nodes = h;
	slurm_free_node_info_msg(msg);
}

/* ---- jobs ---- */

static const struct seen *last_of(const struct ring *r, uint32_t job_id)
{
	for (unsigned i = r->n; i > 0 && r->n - i < LET_GO_MAX; i--)
		if (r->v[(i - 1) % LET_GO_MAX].job_id == job_id)
			return &r->v[(i - 1) % LET_GO_MAX];
	return NULL;
}

static void remember(struct ring *r, const struct seen *job)
{
	r->v[r->n++ % LET_GO_MAX] = *job;
}

static bool was_running(const struct status *s)
{
	return !strcmp(s->state, "running") || !strcmp(s->state, "restoring");
}

/* A slurmd that was behind a cut link when its job was taken from it was never told so, and refuses the next start of
 * the same job
 * ("already running, do not launch second copy"). slurmctld then drains the node and holds the job, which can go on
 * elsewhere. */
static bool launch_failed(const slurm_job_info_t *r)
{
	return r->priority == 0 && r->state_desc && strstr(r->state_desc, "launch failed requeued held");
}

/* slurmctld holds a job for good that it has missed on its nodes, or could not launch, six times in its life
 * (MAX_BATCH_REQUEUE, no setting). That is meant for a job that cannot start, or that crashes nodes. One that was held
 * so before may go on if it has made an epoch since. */
static bool requeued_too_often(const slurm_job_info_t *r)
{
	return r->priority == 0 && r->state_reason == WAIT_MAX_REQUEUE;
}

static bool waits_for_nothing(const struct watch *w, const slurm_job_info_t *r, const struct status *s, time_t now)
{
	const struct seen *before;

	if ((r->job_state & JOB_STATE_BASE) != JOB_PENDING || (r->job_state & JOB_COMPLETING) || r->restart_cnt == 0 ||
	    (r->dependency && *r->dependency) || !was_running(s))
		return false;
	if (requeued_too_often(r)) {
		before = last_of(&w->too_often, RECORD_ID(r));
		return s->epoch > (before ? before->epoch : 0);
	}
	return launch_failed(r) || (r->priority != 0 && r->eligible_time > now + SOON);
}

/* 0 done, -1 not: to be tried again. */
static int let_go(const slurm_job_info_t *r, time_t now, struct err *err)
{
	job_desc_msg_t d;

	slurm_init_job_desc_msg(&d);
	d.begin_time = now + DELAY;
	if (r->priority == 0)
		d.priority = INFINITE;
	if (rpc_update(RECORD_ID(r), &d, "cannot start at once", err))
		return -1;
	if (requeued_too_often(r))
		syslog(LOG_NOTICE,
		       "job %u: Slurm held it because it was requeued too often; it has made an epoch meanwhile and may go on",
		       RECORD_ID(r));
	else
		syslog(LOG_INFO, "job %u: its node has failed; it may start again at once, not only in %lld s",
		       RECORD_ID(r), (long long)(r->eligible_time - now));
	return 0;
}

static bool is_in(const struct ring *ring, const slurm_job_info_t *r)
{
	const struct seen *last = last_of(ring, RECORD_ID(r));

	return last && last->restarts == r->restart_cnt;
}

static void look_at_job(struct watch *w, const slurm_job_info_t *r, time_t now)
{
	struct status s;
	struct seen job;
	struct err err;

	if (!r->admin_comment || status_parse(r->admin_comment, &s, NULL) || !waits_for_nothing(w, r, &s, now))
		return;
	if (is_in(&w->let_go, r))
		return;
	job = (struct seen){ .job_id = RECORD_ID(r), .restarts = r->restart_cnt, .epoch = s.epoch };
	if (let_go(r, now, &err)) {
		if (!is_in(&w->refused, r)) {
			syslog(LOG_WARNING, "%s; trying again", err.text);
			remember(&w->refused, &job);
		}
		/* slurmctld sends the jobs again only when one of them has changed */
		w->jobs_again = true;
		return;
	}
	remember(&w->let_go, &job);
	if (requeued_too_often(r))
		remember(&w->too_often, &job);
}

static void look_at_jobs(struct watch *w)
{
	job_info_msg_t *msg = NULL;
	time_t now = time(NULL);

	if (slurm_load_jobs(w->jobs_again ? 0 : w->jobs_at, &msg, SHOW_ALL))
		return; /* nothing has changed, or slurmctld is busy */
	w->jobs_again = false;
	w->jobs_at = msg->last_update;
	for (uint32_t i = 0; i < msg->record_count; i++)
		look_at_job(w, &msg->job_array[i], now);
	slurm_free_job_info_msg(msg);
}

int main(int argc, char **argv)
{
	static struct watch w;
	struct pollfd p = { .events = POLLIN };
	char *end;

	if (argc < 2 || argc > 3 || (p.fd = (int)strtol(argv[1], &end, 10)) < 3 || *end) {
		fprintf(stderr, "fsched-requeue is started by fsched's job_submit plugin\n");
		return 2;
	}
	prctl(PR_SET_NAME, "fsched-requeue");
	signal(SIGPIPE, SIG_IGN);
	/* The end of slurmctld ends this, also in the middle of a question to it: SIGIO kills. */
	if (fcntl(p.fd, F_SETOWN, getpid()) < 0 || fcntl(p.fd, F_SETFL, O_ASYNC) < 0)
		syslog(LOG_WARNING, "it may outlive slurmctld for a minute: %s", strerror(errno));
	openlog("fsched-requeue", LOG_PID, LOG_DAEMON);
	if (argc == 3)
		setenv("SLURM_CONF", argv[2], 1);
	rpc_init();
	/* jobs may have been requeued while slurmctld was down */
	w.looks = LOOKS;
	while (poll(&p, 1, POLL_MS) == 0 || (errno == EINTR && !p.revents)) {
		look_at_nodes(&w);
		if (w.looks || ++w.polls % SELDOM == 0)
			look_at_jobs(&w);
		w.looks -= w.looks > 0;
	}
	return 0;
}
