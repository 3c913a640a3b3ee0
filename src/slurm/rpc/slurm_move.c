/* Moving a job to another node, requeuing it soon, and how long a preempted job may run. */
#include "slurm/rpc/slurm_rpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#define SLURM_BACKWARD_COMPAT
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "base/util.h"
#include "slurm/rpc/nodelist.h"
#include "slurm/slurm_compat.h"

/* While the last processes of the job end, slurmctld overwrites a begin time that is not later than that end
 * (batch_requeue_fini()). */
#define MOVE_DELAY 6 /* s */

/* ---- is there another node? ---- */

static bool is_node_usable(const node_info_t *n)
{
	const uint32_t base = n->node_state & NODE_STATE_BASE;

	return n->name && (base == NODE_STATE_IDLE || base == NODE_STATE_ALLOCATED || base == NODE_STATE_MIXED) &&
	       !(n->node_state & (NODE_STATE_DRAIN | NODE_STATE_FAIL | NODE_STATE_NO_RESPOND));
}

static char *nodes_of_partitions(const char *names, struct err *err)
{
	partition_info_msg_t *msg = NULL;
	char *nodes = xstrdup("");

	errno = 0;
	if (slurm_load_partitions(0, &msg, SHOW_ALL)) {
		err_set(err, rpc_errno(), "cannot ask slurmctld for its partitions: %s", slurm_strerror(rpc_errno()));
		free(nodes);
		return NULL;
	}
	for (uint32_t i = 0; i < msg->record_count; i++) {
		const partition_info_t *p = &msg->partition_array[i];

		/* job->partition may list several partitions */
		if (!p->name || !p->nodes || !nodelist_has(names, p->name))
			continue;
		char *more = nodelist_add(nodes, p->nodes);

		free(nodes);
		nodes = more;
	}
	slurm_free_partition_info_msg(msg);
	return nodes;
}

int rpc_other_nodes(const struct slurm_job *job, const char *node, struct err *err)
{
	cleanup_free char *nodes = nodes_of_partitions(job->partition, err);
	node_info_msg_t *msg = NULL;
	int n = 0;

	if (!nodes)
		return -1;
	errno = 0;
	if (slurm_load_node(0, &msg, SHOW_ALL))
		return err_set(err, rpc_errno(), "cannot ask slurmctld for its nodes: %s", slurm_strerror(rpc_errno()));
	for (uint32_t i = 0; i < msg->record_count; i++) {
		const node_info_t *r = &msg->node_array[i];

		n += is_node_usable(r) && strcmp(r->name, node) != 0 && nodelist_has(nodes, r->name) &&
		     !nodelist_has(job->exc_nodes, r->name) &&
		     (!*job->req_nodes || nodelist_has(job->req_nodes, r->name));
	}
	slurm_free_node_info_msg(msg);
	return n;
}

/* ---- move ---- */

static int move_exclude_node(const struct slurm_job *job, const struct rpc_move *m, struct err *err)
{
	cleanup_free char *nodes = nodelist_add(job->exc_nodes, m->node), *tried = NULL, *entry = NULL, *comment = NULL;
	struct status s;
	job_desc_msg_t d;

	slurm_init_job_desc_msg(&d);
	d.exc_nodes = nodes;
	d.begin_time = time(NULL) + MOVE_DELAY;
	if (status_parse(job->admin_comment, &s, NULL) == 0) {
		tried = nodelist_add(s.tried, m->node);
		snprintf(s.tried, sizeof(s.tried), "%s", tried);
		s.state = STATUS_RESTORING;
		snprintf(s.error, sizeof(s.error), "%.250s", m->error);
		s.agent[0] = '\0';
		entry = status_replace(job->admin_comment, &s);
		d.admin_comment = entry;
	}
	comment = rpc_comment_with_epoch(job->comment, m->epoch);
	if (strcmp(comment, job->comment) != 0)
		d.comment = comment;
	return rpc_update(job->id, &d, "cannot exclude the node for", err);
}

int rpc_move(uint32_t job_id, const struct rpc_move *m, bool *final, struct err *err)
{
	struct slurm_job job;
	int n, rc;

	*final = false;
	if (rpc_job_load(job_id, &job, err))
		return -1;
	n = rpc_other_nodes(&job, m->node, err);
	if (n == 0) {
		*final = true;
		rc = err_set(err, ENOENT, "no other usable node in partition %s", job.partition);
	} else {
		rc = n < 0 ? -1 : rpc_requeue(job_id, false, err);
	}
	/* The job is in the queue. A failure from here on costs at most another attempt on this node. */
	if (rc == 0)
		move_exclude_node(&job, m, NULL);
	rpc_job_free(&job);
	return rc;
}

int rpc_requeue_soon(uint32_t job_id, struct err *err)
{
	job_desc_msg_t d;

	if (rpc_requeue(job_id, false, err))
		return -1;
	slurm_init_job_desc_msg(&d);
	d.begin_time = time(NULL) + MOVE_DELAY;
	/* if this fails, the job only starts later */
	rpc_update(job_id, &d, "cannot start soon", NULL);
	return 0;
}

/* ---- outlook ---- */

/* The GraceTime of the job's partition in s; 0 = there is none. */
static int partition_grace(const struct slurm_job *job, int64_t *grace, struct err *err)
{
	partition_info_msg_t *msg = NULL;

	*grace = 0;
	errno = 0;
	if (slurm_load_partitions(0, &msg, SHOW_ALL))
		return err_set(err, rpc_errno(), "cannot ask slurmctld for its partitions: %s",
			       slurm_strerror(rpc_errno()));
	for (uint32_t i = 0; i < msg->record_count; i++) {
		const partition_info_t *p = &msg->partition_array[i];

		if (p->name && strcmp(p->name, job->partition) == 0 && p->grace_time != NO_VAL)
			*grace = p->grace_time;
	}
	slurm_free_partition_info_msg(msg);
	return 0;
}

int rpc_outlook(const struct slurm_job *job, int64_t *grace, struct err *err)
{
	slurm_conf_t *conf = NULL;
	bool requeues;

	errno = 0;
	if (slurm_load_ctl_conf(0, &conf))
		return err_set(err, rpc_errno(), "cannot ask slurmctld for its configuration: %s",
			       slurm_strerror(rpc_errno()));
	requeues = conf->preempt_type && !strstr(conf->preempt_type, "none");
	slurm_free_ctl_conf(conf);
	*grace = 0;
	return requeues ? partition_grace(job, grace, err) : 0;
}
