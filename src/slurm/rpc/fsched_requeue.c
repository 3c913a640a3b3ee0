/* fsched-requeue FD [SLURM_CONF]: lets jobs whose node has failed start again at once.
 *
 * slurmctld makes a requeued job wait for cred_expire (two minutes by default), so that the credential of its last
 * start expires. A job of fsched does not need that wait: its lease prevents a second copy from running. The job_submit
 * plugin starts this program as slurmctld's user. It exits when slurmctld closes its end of the pipe of which FD is the
 * other.
 *
 * It loads the nodes every few seconds, which costs slurmctld as much as an sinfo, and less when nothing has changed.
 * For a minute after a node has gone down or was booted it loads the jobs each time, else now and then.
 *
 * It sends users mails about the checkpoints of their jobs (mails.h): it sees all jobs, on the host and as the user
 * that send Slurm's own mails.
 *
 * It also requeues jobs of which slurmctld has forgotten on which node they run (forgotten(), below), and jobs that
 * were lost in a boot of their node that slurmctld will notice much later (boots.h).
 *
 * A job is released once per restart, if its Checkpoint entry says that it was running or continues at its time limit,
 * and if it is pending only for its begin time, or because a node refused it, or because it has been requeued too
 * often. Jobs that a person has requeued or held, or that have a dependency, are left alone. */
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
#include "slurm/rpc/boots.h"
#include "slurm/rpc/mails.h"
#include "slurm/rpc/slurm_rpc.h"

#define POLL_MS    2000
#define FIRST_MS   100 /* the same until slurmctld has answered */
#define IDLE_POLLS 10  /* polls from one load of the jobs to the next while the nodes are unchanged */
#define JOB_LOADS  30  /* loads of the jobs after a change of the nodes: slurmctld requeues jobs a little later */
#define DELAY      2   /* s; see RELEASE_DELAY in slurm_rpc.c */
#define SOON       3   /* s: a job that waits no longer than that is left alone */
#define RING_SIZE  4096
/* Nodes register at least every REGISTERS * SlurmdTimeout: every 20th ping, three pings per SlurmdTimeout. */
#define REGISTERS  8

struct seen {
	uint32_t job_id, restarts, epoch;
	time_t since;
};
struct ring {
	struct seen v[RING_SIZE];
	unsigned n;
}; /* n in all */

struct watch {
	time_t nodes_at;    /* last_update of the nodes */
	uint64_t nodes;     /* hash_nodes() of them */
	unsigned job_loads; /* loads of the jobs still to be made */
	unsigned polls;
	bool looked;     /* at the jobs: slurmctld has answered */
	time_t jobs_at;  /* last_update of the jobs */
	bool jobs_again; /* the update of a job failed: load all again */
	struct ring released;
	struct ring too_often; /* the jobs in released that had been requeued too often */
	struct ring refused;   /* jobs whose update failed; logged once per restart */
	struct ring forgotten; /* jobs that slurmctld has forgotten, as of the first look at them */
	struct boots boots;
	struct ring survived; /* jobs that began before their node's boot, as far as one can see, but are there */
	struct mails *mails;
	time_t registers; /* s in which every node registers */
	time_t launch;    /* s that the start of a job may take, until its node knows it */
};

/* ---- nodes ---- */

static uint64_t hash_mix(uint64_t h, const void *p, size_t n)
{
	const unsigned char *c = p;

	/* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ c[i]) * 0x100000001b3ULL;
	return h;
}

/* A hash of which nodes are down and when each was booted. */
static uint64_t hash_nodes(const node_info_msg_t *msg)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (uint32_t i = 0; i < msg->record_count; i++) {
		const node_info_t *n = &msg->node_array[i];
		bool down = (n->node_state & NODE_STATE_BASE) == NODE_STATE_DOWN;

		if (!n->name)
			continue;
		h = hash_mix(h, n->name, strlen(n->name));
		h = hash_mix(h, &down, sizeof(down));
		h = hash_mix(h, &n->boot_time, sizeof(n->boot_time));
	}
	return h;
}

static void scan_slurm_nodes(struct watch *w)
{
	node_info_msg_t *msg = NULL;
	uint64_t h;

	errno = 0;
	if (slurm_load_node(w->nodes_at, &msg, SHOW_ALL))
		return; /* SLURM_NO_CHANGE_IN_DATA, or slurmctld does not answer */
	w->nodes_at = msg->last_update;
	boots_set(&w->boots, msg);
	h = hash_nodes(msg);
	if (h != w->nodes) {
		w->job_loads = JOB_LOADS;
		w->jobs_again = true; /* a boot need not have changed any job */
	}
	w->nodes = h;
	slurm_free_node_info_msg(msg);
}

/* ---- jobs ---- */

static const struct seen *ring_last(const struct ring *r, uint32_t job_id)
{
	for (unsigned i = r->n; i > 0 && r->n - i < RING_SIZE; i--)
		if (r->v[(i - 1) % RING_SIZE].job_id == job_id)
			return &r->v[(i - 1) % RING_SIZE];
	return NULL;
}

static void ring_add(struct ring *r, const struct seen *job)
{
	r->v[r->n++ % RING_SIZE] = *job;
}

static bool says_running(const struct status *s)
{
	return s->state == STATUS_RUNNING || s->state == STATUS_RESTORING || s->state == STATUS_REQUEUED;
}

/* A slurmd that was cut off from the network when its job was requeued does not know that, and refuses the next start
 * of the same job
 * ("already running, do not launch second copy"). slurmctld then drains the node and holds the job, which can run on
 * another node. */
static bool launch_failed(const slurm_job_info_t *r)
{
	return r->priority == 0 && r->state_desc && strstr(r->state_desc, "launch failed requeued held");
}

/* slurmctld holds a job that was missing on its nodes or could not be launched six times in its life
 * (MAX_BATCH_REQUEUE, which cannot be configured). That is meant for jobs that cannot start or that crash nodes. A job
 * may continue if it has made an epoch since it was last held for this reason. */
static bool requeued_too_often(const slurm_job_info_t *r)
{
	return r->priority == 0 && r->state_reason == WAIT_MAX_REQUEUE;
}

static bool waits_needlessly(const struct watch *w, const slurm_job_info_t *r, const struct status *s, time_t now)
{
	const struct seen *before;

	if ((r->job_state & JOB_STATE_BASE) != JOB_PENDING || (r->job_state & JOB_COMPLETING) || r->restart_cnt == 0 ||
	    (r->dependency && *r->dependency) || !says_running(s))
		return false;
	if (requeued_too_often(r)) {
		before = ring_last(&w->too_often, RECORD_ID(r));
		return s->epoch > (before ? before->epoch : 0);
	}
	return launch_failed(r) || (r->priority != 0 && r->eligible_time > now + SOON);
}

/* 0; -1: it is to be tried again. */
static int start_at_once(const slurm_job_info_t *r, time_t now, struct err *err)
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

static bool ring_has_restart(const struct ring *ring, const slurm_job_info_t *r)
{
	const struct seen *last = ring_last(ring, RECORD_ID(r));

	return last && last->restarts == r->restart_cnt;
}

/* slurmctld calls the job running, but has lost the node on which it runs (up to 24.11): a node came back, ended what
 * it still had of the job's last run, and the message with the end of its epilog arrived after the job had started
 * again on the same node. slurmctld took that for the end of the new run on this node. It kills the new run when the
 * node registers, and then calls the job running for ever: neither the end of the run nor a failure of the node is
 * noticed. */
static bool forgotten(const slurm_job_info_t *r)
{
	return (r->job_state & JOB_STATE_BASE) == JOB_RUNNING && !(r->job_state & JOB_COMPLETING) && r->batch_flag &&
	       r->nodes && *r->nodes && (!r->node_inx || r->node_inx[0] < 0);
}

/* The run is over if the entry says so. It may have been killed before its agent could say anything, or with its node:
 * after the next registration it is over in any case. */
static bool forgotten_run_is_over(struct watch *w, const slurm_job_info_t *r, const struct status *s, time_t now)
{
	const struct seen *first = ring_last(&w->forgotten, RECORD_ID(r));

	if (!first || first->restarts != r->restart_cnt) {
		ring_add(&w->forgotten,
			 &(struct seen){ .job_id = RECORD_ID(r), .restarts = r->restart_cnt, .since = now });
		syslog(LOG_WARNING, "job %u: slurmctld has forgotten that it runs on %s, and will kill it there",
		       RECORD_ID(r), r->nodes);
		first = ring_last(&w->forgotten, RECORD_ID(r));
	}
	return s->state == STATUS_ENDED || now - first->since > w->registers;
}

static void requeue_forgotten(struct watch *w, const slurm_job_info_t *r, const struct status *s, time_t now)
{
	struct err err;

	/* slurmctld sends the jobs again only if one of them has changed */
	w->jobs_again = true;
	if (!forgotten_run_is_over(w, r, s, now))
		return;
	if (rpc_requeue_soon(RECORD_ID(r), &err))
		syslog(LOG_WARNING, "job %u is called running on %s, but was killed there: %s; trying again",
		       RECORD_ID(r), r->nodes, err.text);
	else
		syslog(LOG_NOTICE,
		       "job %u: requeued, because slurmctld called it running on %s after it had been killed there",
		       RECORD_ID(r), r->nodes);
}

/* The job's batch step was on a node that has been booted since. Whether it still is there is another question: the
 * time of a boot is not exact, and clocks are set. */
static bool began_before_boot(const struct watch *w, const slurm_job_info_t *r)
{
	return (r->job_state & JOB_STATE_BASE) == JOB_RUNNING && !(r->job_state & (JOB_COMPLETING | JOB_CONFIGURING)) &&
	       r->batch_flag && r->batch_host && r->start_time < boots_of(&w->boots, r->batch_host) &&
	       !ring_has_restart(&w->survived, r);
}

static void requeue_lost_in_boot(struct watch *w, const slurm_job_info_t *r, time_t now)
{
	enum boots_answer answer;
	struct err err;

	/* slurmctld sends the jobs again only if one of them has changed */
	w->jobs_again = true;
	if (now <= r->start_time + w->launch)
		return;
	answer = boots_ask(r->batch_host, RECORD_ID(r));
	if (answer == BOOTS_HAS_JOB)
		ring_add(&w->survived, &(struct seen){ .job_id = RECORD_ID(r), .restarts = r->restart_cnt });
	if (answer != BOOTS_LACKS_JOB)
		return;
	if (rpc_requeue_soon(RECORD_ID(r), &err))
		syslog(LOG_WARNING, "job %u was lost when %s was booted: %s; trying again", RECORD_ID(r), r->batch_host,
		       err.text);
	else
		syslog(LOG_NOTICE, "job %u: requeued, because it was lost when %s was booted", RECORD_ID(r),
		       r->batch_host);
}

static void scan_slurm_job(struct watch *w, const slurm_job_info_t *r, time_t now)
{
	struct status s;
	struct seen job;
	struct err err;

	if (!r->admin_comment || status_parse(r->admin_comment, &s, NULL))
		return;
	mails_look(w->mails, r, &s);
	if (forgotten(r))
		requeue_forgotten(w, r, &s, now);
	else if (says_running(&s) && began_before_boot(w, r))
		requeue_lost_in_boot(w, r, now);
	if (!waits_needlessly(w, r, &s, now))
		return;
	if (ring_has_restart(&w->released, r))
		return;
	job = (struct seen){ .job_id = RECORD_ID(r), .restarts = r->restart_cnt, .epoch = s.epoch };
	if (start_at_once(r, now, &err)) {
		if (!ring_has_restart(&w->refused, r)) {
			syslog(LOG_WARNING, "%s; trying again", err.text);
			ring_add(&w->refused, &job);
		}
		/* slurmctld sends the jobs again only if one of them has changed */
		w->jobs_again = true;
		return;
	}
	ring_add(&w->released, &job);
	if (requeued_too_often(r))
		ring_add(&w->too_often, &job);
}

static void scan_slurm_jobs(struct watch *w)
{
	job_info_msg_t *msg = NULL;
	time_t now = time(NULL);

	if (slurm_load_jobs(w->jobs_again ? 0 : w->jobs_at, &msg, SHOW_ALL))
		return; /* nothing has changed, or slurmctld does not answer */
	w->jobs_again = false;
	w->looked = true;
	w->jobs_at = msg->last_update;
	mails_begin(w->mails);
	for (uint32_t i = 0; i < msg->record_count; i++)
		scan_slurm_job(w, &msg->job_array[i], now);
	mails_end(w->mails);
	slurm_free_job_info_msg(msg);
}

static void read_slurm_times(struct watch *w)
{
	slurm_conf_t *conf = NULL;
	time_t timeout = 300; /* Slurm's default */

	w->launch = 20; /* with Slurm's defaults */
	if (slurm_load_ctl_conf(0, &conf) == 0) {
		if (conf->slurmd_timeout)
			timeout = conf->slurmd_timeout;
		w->launch = conf->batch_start_timeout + conf->msg_timeout;
	}
	slurm_free_ctl_conf(conf);
	w->registers = REGISTERS * timeout;
}

int main(int argc, char **argv)
{
	static struct watch w;
	struct pollfd p = { .events = POLLIN };
	char *end;

	if (argc < 2 || argc > 3 || (p.fd = (int)strtol(argv[1], &end, 10)) < 3 || *end) {
		fprintf(stderr, "usage: fsched-requeue FD [SLURM_CONF]\nThe job_submit plugin of fsched starts it.\n");
		return 2;
	}
	prctl(PR_SET_NAME, "fsched-requeue");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* mails are sent by a child that nobody waits for */
	/* SIGIO, whose default action is to kill, ends this process when slurmctld ends, even during an RPC. */
	if (fcntl(p.fd, F_SETOWN, getpid()) < 0 || fcntl(p.fd, F_SETFL, O_ASYNC) < 0)
		syslog(LOG_WARNING, "it may outlive slurmctld for a minute: %s", strerror(errno));
	openlog("fsched-requeue", LOG_PID, LOG_DAEMON);
	if (argc == 3)
		setenv("SLURM_CONF", argv[2], 1);
	rpc_init();
	/* jobs may have been requeued while slurmctld was down */
	w.job_loads = JOB_LOADS;
	read_slurm_times(&w);
	w.mails = mails_new();
	/* Users get no mail about what the first look finds, so it is taken as soon as slurmctld answers. */
	while (poll(&p, 1, w.looked ? POLL_MS : FIRST_MS) == 0 || (errno == EINTR && !p.revents)) {
		scan_slurm_nodes(&w);
		if (w.job_loads || ++w.polls % IDLE_POLLS == 0)
			scan_slurm_jobs(&w);
		w.job_loads -= w.job_loads > 0;
	}
	return 0;
}
