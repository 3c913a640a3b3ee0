#include "slurm/rpc/slurm_rpc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* From 26.05 on: functions that take a job id still do. */
#define SLURM_BACKWARD_COMPAT
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "base/util.h"
#include "slurm/rpc/nodelist.h"
#include "slurm/slurm_compat.h"

/* Exported by libslurm, but in no public header. Weak, because it is needed only to fix a leak. */
void slurm_xfree(void **p) __attribute__((weak));

#define EPOCH_KEY    "fsched-restart="
#define EPOCH_LATEST "latest"
#define EPOCH_NONE   "none"
#define EPOCH_MAX    99999999u

int rpc_errno(void)
{
	return errno ? errno : EIO;
}

static int slurm_fail(struct err *err, int num, const char *doing, const char *job)
{
	return err_set(err, num, "%s job %s: %s", doing, job, slurm_strerror(num));
}

void rpc_init(void)
{
	slurm_init(NULL);
}

/* ---- one record --------------------------------------------------------- */

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		[JOB_PENDING] = "PENDING",     [JOB_RUNNING] = "RUNNING",     [JOB_SUSPENDED] = "SUSPENDED",
		[JOB_COMPLETE] = "COMPLETED",  [JOB_CANCELLED] = "CANCELLED", [JOB_FAILED] = "FAILED",
		[JOB_TIMEOUT] = "TIMEOUT",     [JOB_NODE_FAIL] = "NODE_FAIL", [JOB_PREEMPTED] = "PREEMPTED",
		[JOB_BOOT_FAIL] = "BOOT_FAIL", [JOB_DEADLINE] = "DEADLINE",   [JOB_OOM] = "OUT_OF_MEMORY",
	};
	const uint32_t base = state & JOB_STATE_BASE;

	return base < ARRAY_SIZE(names) && names[base] ? names[base] : "UNKNOWN";
}

/* The pending and failure reasons that occur with checkpoints. Slurm's own table is in no public header. */
static const char *reason_name(uint32_t reason, char *buf, size_t len)
{
	static const struct {
		uint32_t reason;
		const char *name;
	} names[] = {
		{ WAIT_NO_REASON, "" },
		{ WAIT_PRIORITY, "Priority" },
		{ WAIT_DEPENDENCY, "Dependency" },
		{ WAIT_RESOURCES, "Resources" },
		{ WAIT_HELD, "JobHeldAdmin" },
		{ WAIT_HELD_USER, "JobHeldUser" },
		{ WAIT_TIME, "BeginTime" },
		{ WAIT_CLEANING, "Cleaning" },
		{ WAIT_NODE_NOT_AVAIL, "ReqNodeNotAvail" },
		{ WAIT_PART_DOWN, "PartitionDown" },
		{ WAIT_PART_INACTIVE, "PartitionInactive" },
		{ WAIT_LICENSES, "Licenses" },
		{ WAIT_RESERVATION, "Reservation" },
		{ FAIL_DOWN_NODE, "NodeDown" },
		{ FAIL_TIMEOUT, "TimeLimit" },
		{ FAIL_EXIT_CODE, "NonZeroExitCode" },
		{ FAIL_LAUNCH, "JobLaunchFailure" },
		{ FAIL_SYSTEM, "SystemFailure" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].reason == reason)
			return names[i].name;
	snprintf(buf, len, "reason %u", reason);
	return buf;
}

static void set_label(struct slurm_job *j)
{
	if (j->array_task != RPC_NO_TASK)
		snprintf(j->label, sizeof(j->label), "%u_%lld", j->array_id, (long long)j->array_task);
	else
		snprintf(j->label, sizeof(j->label), "%u", j->id);
}

/* The label of the waiting tasks of an array: "12_[3-5]", or "12_[...]" for a list that is too long. */
static void label_rest(struct slurm_job *j, const char *tasks)
{
	int n = snprintf(j->label, sizeof(j->label), "%u_[%.*s]", j->array_id, (int)strcspn(tasks, "%"), tasks);

	if (n >= (int)sizeof(j->label) || strstr(j->label, "..."))
		snprintf(j->label, sizeof(j->label), "%u_[...]", j->array_id);
}

static int64_t time_of(time_t t)
{
	return t > 0 && t != (time_t)NO_VAL && t != (time_t)INFINITE ? (int64_t)t : 0;
}

static void fill_job(struct slurm_job *j, const slurm_job_info_t *r)
{
	const uint32_t base = r->job_state & JOB_STATE_BASE;
	char buf[32];

	memset(j, 0, sizeof(*j));
	j->id = RECORD_ID(r);
	j->array_id = r->array_job_id;
	j->array_task = r->array_job_id && r->array_task_id != NO_VAL ? (int64_t)r->array_task_id : RPC_NO_TASK;
	j->het_id = r->het_job_id;
	if (r->array_job_id && r->array_task_id == NO_VAL && r->array_task_str && *r->array_task_str)
		label_rest(j, r->array_task_str);
	else
		set_label(j);
	j->uid = r->user_id;
	j->gid = r->group_id;
	snprintf(j->state, sizeof(j->state), "%s", state_name(r->job_state));
	j->pending = base == JOB_PENDING;
	j->running = base == JOB_RUNNING;
	j->suspended = base == JOB_SUSPENDED;
	j->finished = base > JOB_SUSPENDED;
	j->completing = (r->job_state & JOB_COMPLETING) != 0;
	j->priority = r->priority;
	j->held = j->pending && r->priority == 0;
	j->batch = r->batch_flag != 0;
	j->requeue = r->requeue != 0;
	snprintf(j->reason, sizeof(j->reason), "%s",
		 r->state_desc && *r->state_desc ? r->state_desc : reason_name(r->state_reason, buf, sizeof(buf)));
	if (!j->pending || j->completing)
		snprintf(j->batch_host, sizeof(j->batch_host), "%s", r->batch_host ? r->batch_host : "");
	j->restart_count = r->restart_cnt;
	j->wait_status = (int)r->exit_code;
	snprintf(j->name, sizeof(j->name), "%s", r->name ? r->name : "");
	j->start_time = time_of(r->start_time);
	j->end_time = time_of(r->end_time);
	j->preempt_time = time_of(r->preempt_time);
	snprintf(j->partition, sizeof(j->partition), "%s", r->partition ? r->partition : "");
	j->exc_nodes = xstrdup(r->exc_nodes ? r->exc_nodes : "");
	j->req_nodes = xstrdup(r->req_nodes ? r->req_nodes : "");
	j->work_dir = xstrdup(r->work_dir ? r->work_dir : "");
	j->admin_comment = xstrdup(r->admin_comment ? r->admin_comment : "");
	j->comment = xstrdup(r->comment ? r->comment : "");
}

void rpc_job_free(struct slurm_job *job)
{
	free(job->admin_comment);
	free(job->comment);
	free(job->exc_nodes);
	free(job->req_nodes);
	free(job->work_dir);
	job->admin_comment = job->comment = job->exc_nodes = job->req_nodes = job->work_dir = NULL;
}

/* ---- loading ------------------------------------------------------------ */

static void free_msg(job_info_msg_t **msg)
{
	uint32_t i;

	if (!*msg)
		return;
	/* libslurm 22.05 does not free this member; in later versions it is NULL here */
	for (i = 0; slurm_xfree && i < (*msg)->record_count; i++)
		slurm_xfree((void **)&(*msg)->job_array[i].admin_comment);
	slurm_free_job_info_msg(*msg);
}
#define cleanup_msg __attribute__((cleanup(free_msg)))

static int load_records(job_info_msg_t **msg, uint32_t job_id, const char *shown, struct err *err)
{
	*msg = NULL;
	errno = 0;
	if (slurm_load_job(msg, job_id, SHOW_ALL | SHOW_DETAIL)) {
		int num = rpc_errno();

		if (num == ESLURM_INVALID_JOB_ID)
			return err_set(err, num,
				       "job %s: slurmctld knows no such job (or has forgotten it after MinJobAge)",
				       shown);
		return slurm_fail(err, num, "cannot ask slurmctld about", shown);
	}
	return 0;
}

int rpc_job_load(uint32_t job_id, struct slurm_job *job, struct err *err)
{
	cleanup_msg job_info_msg_t *msg = NULL;
	char shown[16];
	uint32_t i;

	memset(job, 0, sizeof(*job));
	snprintf(shown, sizeof(shown), "%u", job_id);
	if (load_records(&msg, job_id, shown, err))
		return -1;
	/* The id of an array returns the records of all its tasks. One of them has the id itself. */
	for (i = 0; i < msg->record_count; i++) {
		if (RECORD_ID(&msg->job_array[i]) != job_id)
			continue;
		fill_job(job, &msg->job_array[i]);
		return 0;
	}
	return err_set(err, ESLURM_INVALID_JOB_ID,
		       "job %s: slurmctld knows no such job (or has forgotten it after MinJobAge)", shown);
}

static int rpc_by_id(const void *a, const void *b)
{
	const uint32_t x = ((const struct slurm_job *)a)->id, y = ((const struct slurm_job *)b)->id;

	return x < y ? -1 : x > y;
}

int rpc_jobs_load(struct slurm_job **jobs, size_t *n, struct err *err)
{
	cleanup_msg job_info_msg_t *msg = NULL;

	*jobs = NULL;
	*n = 0;
	errno = 0;
	if (slurm_load_jobs(0, &msg, SHOW_ALL))
		return err_set(err, rpc_errno(), "cannot ask slurmctld about jobs: %s", slurm_strerror(rpc_errno()));
	*jobs = xcalloc(msg->record_count + 1, sizeof(**jobs));
	for (; *n < msg->record_count; ++*n)
		fill_job(&(*jobs)[*n], &msg->job_array[*n]);
	qsort(*jobs, *n, sizeof(**jobs), rpc_by_id);
	return 0;
}

const struct slurm_job *rpc_jobs_find(const struct slurm_job *jobs, size_t n, uint32_t job_id)
{
	const struct slurm_job key = { .id = job_id };

	return n ? bsearch(&key, jobs, n, sizeof(*jobs), rpc_by_id) : NULL;
}

char *rpc_job_state_text(const struct slurm_job *job, char *buf, size_t len)
{
	snprintf(buf, len, "%s", job->state);
	for (char *p = buf; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return buf;
}

void rpc_jobs_free(struct slurm_job *jobs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rpc_job_free(&jobs[i]);
	free(jobs);
}

/* Whether task is in a list "1-3,5,7-11:2%4". Slurm cuts long lists and ends them in "...": behind that nothing is
 * known, and the result is true. */
static bool task_listed(const char *list, uint32_t task)
{
	const char *p = list;

	while (p && *p && *p != '%') {
		unsigned long first, last, step = 1;
		char *end;

		if (*p == '.')
			return true;
		first = last = strtoul(p, &end, 10);
		if (end == p)
			return false;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (*end == ':')
			step = strtoul(end + 1, &end, 10);
		if (task >= first && task <= last && step && (task - first) % step == 0)
			return true;
		p = *end == ',' ? end + 1 : end;
		if (p == end && *p && *p != '%' && *p != '.')
			return false;
	}
	return false;
}

int rpc_job_load_task(uint32_t array_id, uint32_t task, struct slurm_job *job, struct err *err)
{
	cleanup_msg job_info_msg_t *msg = NULL;
	const slurm_job_info_t *rest = NULL;
	char shown[32];
	uint32_t i;

	memset(job, 0, sizeof(*job));
	snprintf(shown, sizeof(shown), "%u_%u", array_id, task);
	if (load_records(&msg, array_id, shown, err))
		return -1;
	for (i = 0; i < msg->record_count; i++) {
		const slurm_job_info_t *r = &msg->job_array[i];

		if (r->array_job_id != array_id)
			continue;
		if (r->array_task_id == task) {
			fill_job(job, r);
			return 0;
		}
		if (r->array_task_id == NO_VAL && r->array_task_str && task_listed(r->array_task_str, task))
			rest = r;
	}
	if (!rest)
		return err_set(err, ESLURM_INVALID_JOB_ID,
			       "job %s: slurmctld knows no such task (or has forgotten it after MinJobAge)", shown);
	fill_job(job, rest);
	job->array_task = task;
	set_label(job);
	return 0;
}

int rpc_job_ids(uint32_t job_id, uint32_t **ids, struct err *err)
{
	cleanup_msg job_info_msg_t *msg = NULL;
	char shown[16];
	uint32_t i;
	int n = 0;

	*ids = NULL;
	snprintf(shown, sizeof(shown), "%u", job_id);
	if (load_records(&msg, job_id, shown, err))
		return -1;
	*ids = xcalloc(msg->record_count + 1, sizeof(**ids));
	for (i = 0; i < msg->record_count; i++)
		(*ids)[n++] = RECORD_ID(&msg->job_array[i]);
	return n;
}

int rpc_node_addr(const char *node, char *buf, size_t len, struct err *err)
{
	cleanup_free char *name = xstrdup(node);
	node_info_msg_t *msg = NULL;
	const char *addr = NULL;

	errno = 0;
	if (slurm_load_node_single(&msg, name, SHOW_ALL)) {
		int num = rpc_errno();

		return err_set(err, num, "cannot ask slurmctld about node %s: %s", node, slurm_strerror(num));
	}
	if (msg->record_count > 0)
		addr = msg->node_array[0].node_addr ? msg->node_array[0].node_addr : msg->node_array[0].node_hostname;
	if (addr)
		snprintf(buf, len, "%s", addr);
	slurm_free_node_info_msg(msg);
	return addr ? 0 : err_set(err, ENOENT, "slurmctld knows no node %s", node);
}

int rpc_settings(struct rpc_settings *s, struct err *err)
{
	slurm_conf_t *conf = NULL;

	errno = 0;
	if (slurm_load_ctl_conf(0, &conf)) {
		int num = rpc_errno();

		return err_set(err, num, "cannot ask slurmctld for its configuration: %s", slurm_strerror(num));
	}
	*s = (struct rpc_settings){ .slurm_user = conf->slurm_user_id, .kill_wait = conf->kill_wait };
	slurm_free_ctl_conf(conf);
	return 0;
}

/* ---- comments ----------------------------------------------------------- */

int rpc_update(uint32_t job_id, job_desc_msg_t *d, const char *doing, struct err *err)
{
	char shown[16];

	RECORD_ID(d) = job_id;
	errno = 0;
	if (slurm_update_job(d) == 0)
		return 0;
	snprintf(shown, sizeof(shown), "%u", job_id);
	return slurm_fail(err, rpc_errno(), doing, shown);
}

int rpc_publish(uint32_t job_id, const struct status *status, struct err *err)
{
	cleanup_free char *text = NULL;
	struct slurm_job job;
	job_desc_msg_t d;
	int rc = 0;

	if (rpc_job_load(job_id, &job, err))
		return -1;
	text = status_replace(job.admin_comment, status);
	if (strcmp(text, job.admin_comment) != 0) {
		slurm_init_job_desc_msg(&d);
		d.admin_comment = text;
		rc = rpc_update(job_id, &d, "cannot set the AdminComment of", err);
	}
	rpc_job_free(&job);
	return rc;
}

static bool epoch_may_be_asked(unsigned epoch)
{
	return epoch <= EPOCH_MAX || epoch == RPC_EPOCH_LATEST || epoch == RPC_EPOCH_NONE;
}

/* Parses a number or one of the words; 0: it is neither. */
static unsigned epoch_value(const char *p)
{
	size_t len = strcspn(p, " ");

	if (len == strlen(EPOCH_LATEST) && strncmp(p, EPOCH_LATEST, len) == 0)
		return RPC_EPOCH_LATEST;
	if (len == strlen(EPOCH_NONE) && strncmp(p, EPOCH_NONE, len) == 0)
		return RPC_EPOCH_NONE;
	if (len > 8 || strspn(p, "0123456789") != len)
		return 0;
	return (unsigned)strtoul(p, NULL, 10);
}

/* Finds the segment. It begins at the begin of the comment or after a blank, and ends at a blank or at the end. */
static const char *find_epoch_segment(const char *comment, unsigned *epoch)
{
	const char *p;

	for (p = comment; (p = strstr(p, EPOCH_KEY)); p++) {
		*epoch = epoch_value(p + strlen(EPOCH_KEY));
		if ((p == comment || p[-1] == ' ') && *epoch)
			return p;
	}
	return NULL;
}

unsigned rpc_comment_epoch(const char *comment)
{
	unsigned epoch = 0;

	return comment && find_epoch_segment(comment, &epoch) ? epoch : 0;
}

char *rpc_comment_with_epoch(const char *comment, unsigned epoch)
{
	char *text = xstrdup(comment ? comment : "");
	const char *found;
	char *with;
	unsigned old;

	while ((found = find_epoch_segment(text, &old))) {
		char *at = text + (found - text), *end = at + strcspn(at, " ");

		/* The blank that separates it from the rest is removed, too. */
		if (*end == ' ')
			end++;
		else if (at > text)
			at--;
		memmove(at, end, strlen(end) + 1);
	}
	if (epoch == 0 || !epoch_may_be_asked(epoch))
		return text;
	if (epoch == RPC_EPOCH_LATEST || epoch == RPC_EPOCH_NONE)
		with = xasprintf("%s%s" EPOCH_KEY "%s", text, *text ? " " : "",
				 epoch == RPC_EPOCH_LATEST ? EPOCH_LATEST : EPOCH_NONE);
	else
		with = xasprintf("%s%s" EPOCH_KEY "%u", text, *text ? " " : "", epoch);
	free(text);
	return with;
}

static int set_epoch(uint32_t job_id, const struct slurm_job *job, unsigned epoch, struct err *err)
{
	cleanup_free char *text = rpc_comment_with_epoch(job->comment, epoch);
	job_desc_msg_t d;

	if (!strcmp(text, job->comment))
		return 0;
	slurm_init_job_desc_msg(&d);
	d.comment = text;
	return rpc_update(job_id, &d, "cannot set the Comment of", err);
}

int rpc_request_epoch(uint32_t job_id, unsigned epoch, struct err *err)
{
	struct slurm_job job;
	int rc;

	if (!epoch_may_be_asked(epoch))
		return err_set(err, EINVAL, "job %u: there is no epoch %u", job_id, epoch);
	if (rpc_job_load(job_id, &job, err))
		return -1;
	rc = set_epoch(job_id, &job, epoch, err);
	rpc_job_free(&job);
	return rc;
}

int rpc_take_epoch(uint32_t job_id, unsigned *epoch, struct err *err)
{
	struct slurm_job job;
	int rc;

	*epoch = 0;
	if (rpc_job_load(job_id, &job, err))
		return -1;
	*epoch = rpc_comment_epoch(job.comment);
	rc = set_epoch(job_id, &job, 0, err);
	rpc_job_free(&job);
	return rc;
}

/* ---- requeue and release ------------------------------------------------ */

static int allow_requeue(const struct slurm_job *job, struct err *err)
{
	job_desc_msg_t d;

	if (job->requeue)
		return 0;
	slurm_init_job_desc_msg(&d);
	d.requeue = 1;
	return rpc_update(job->id, &d, "cannot allow to requeue", err);
}

int rpc_requeue(uint32_t job_id, bool hold, struct err *err)
{
	struct slurm_job job;
	int rc;

	if (rpc_job_load(job_id, &job, err))
		return -1;
	/* slurmctld would requeue the job, and the person who has just cancelled it would find it in the queue again */
	if (job.finished)
		rc = err_set(err, ESLURM_ALREADY_DONE, "job %s has just been ended by Slurm (%s)", job.label, job.state);
	/* slurmctld up to 26.05.3 may crash if a requeue coincides with the end of the last run */
	else if (job.completing)
		rc = err_set(err, EAGAIN, "job %s is still completing its last run on %s; try again when that has ended",
			     job.label, *job.batch_host ? job.batch_host : "its node");
	else
		rc = allow_requeue(&job, err);
	if (rc == 0) {
		errno = 0;
		if (slurm_requeue(job_id, hold ? JOB_REQUEUE_HOLD : 0))
			rc = slurm_fail(err, rpc_errno(), hold ? "cannot requeue and hold" : "cannot requeue", job.label);
	}
	rpc_job_free(&job);
	return rc;
}

/* slurmd refuses to launch a job whose credential is not newer, in whole seconds, than the end of its last run
 * ("already killed, do not launch", slurmd/slurmd/req.c, slurm_cred_revoked), and slurmctld then fails the job. A
 * person who restarts a job right after a vacate would lose it that way. Two seconds also allow for a small difference
 * between the clocks. */
#define RELEASE_DELAY 2 /* s */

int rpc_release(uint32_t job_id, struct err *err)
{
	struct slurm_job job;
	job_desc_msg_t d;
	int rc;

	if (rpc_job_load(job_id, &job, err))
		return -1;
	if (!job.pending) {
		rc = err_set(err, ESLURM_TRANSITION_STATE_NO_UPDATE,
			     "job %s is %s; only a job in the queue can be released", job.label, job.state);
	} else if (job.completing) {
		rc = err_set(err, EAGAIN, "job %s is still completing its last run on %s; try again when that has ended",
			     job.label, *job.batch_host ? job.batch_host : "its node");
	} else {
		cleanup_free char *nodes = NULL;
		struct status s;

		slurm_init_job_desc_msg(&d);
		d.priority = INFINITE;
		d.begin_time = time(NULL) + RELEASE_DELAY;
		/* the person makes a new attempt: nodes that were excluded because they could not restore the job may
		 * be in order again */
		if (status_parse(job.admin_comment, &s, NULL) == 0 && *s.tried) {
			nodes = nodelist_without(job.exc_nodes, s.tried);
			d.exc_nodes = nodes;
		}
		rc = rpc_update(job_id, &d, "cannot release", err);
	}
	rpc_job_free(&job);
	return rc;
}
