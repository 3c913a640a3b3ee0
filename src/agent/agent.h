/* The agent of one job: its state, and the phases that the job goes through. What is to be done in each is decided in
 * policy/recovery.c.
 *
 * The files of this room from leaf to top. Each uses only those above it, and tells its owner what happens by callbacks
 * that the owner sets. Only the last group knows the phases.
 *
 *   knows no job
 *     loop.c              descriptors, timers, children, signals; the hook after each event
 *     lines.c             the lines of a stream
 *     proc.c rpc.c        a child process; a question to Slurm, asked by fsched-slurm
 *     signals.c           which of Slurm's signals the script has got already
 *     gate.c              the process that waits to become the script
 *     pod_watch.c         the pod: fsched-init, its control socket, the script
 *     node_stop.c         whether the node is being shut down
 *     can_checkpoint.c    the check whether a checkpoint could be made now
 *     load_sample.c       the load of the node
 *     write_list.c        which files the job has written
 *     worker_event.c      the events of a worker
 *     request_parse.c     the check of a request
 *     conn.c              the child of one connection, by protocol.h
 *     task.c              what the SPANK plugin tells
 *   job.c                 the job: task, configuration, directory, record, log
 *   record_history.c      what has happened to it, counted
 *   serves the job
 *     publish.c           the job's Checkpoint entry in Slurm
 *     tell_user.c         a line in the job's error file
 *     hook.c              the job's signal and commands around checkpoints
 *     sched.c             when the next periodic checkpoint is due
 *     notice.c            preemption and time limit
 *     lease_watch.c       who has the job
 *     write_list_watch.c  write_list.c in the loop
 *     step_list.c         what the job's steps of srun have done
 *     make_room.c         removes old epochs when a quota is in the way
 *     requests.c          the port for users' requests, and a child per connection
 *     requeue.c           back into Slurm's queue
 *     other_node.c        back into Slurm's queue, for another node
 *     worker_request.c    what a worker is told
 *     prove_epochs.c      a complete epoch is restored on trial
 *   operations
 *     checkpoint.c        one at a time, and those that wait
 *     vacate.c            the second half of a vacate
 *     restore.c           attempts to restore, newest candidate first
 *   knows the phases
 *     grace.c             the job is saved in the time that Slurm leaves it
 *     end.c               the script's end, and every other way in which the agent ends
 *     fence.c             the job may run somewhere else
 *     start.c             from the first event to the decision: run the script, restore, or hold
 *     answer.c            users' requests and their answers
 *     agent.c             makes the agent of all these, and has their callbacks
 *     main.c
 */
#ifndef FSCHED_AGENT_AGENT_H
#define FSCHED_AGENT_AGENT_H

#include <signal.h>
#include <stdbool.h>
#include "agent/can_checkpoint.h"
#include "agent/checkpoint.h"
#include "agent/gate.h"
#include "agent/hook.h"
#include "agent/job.h"
#include "agent/lease_watch.h"
#include "agent/loop.h"
#include "agent/node_stop.h"
#include "agent/notice.h"
#include "agent/other_node.h"
#include "agent/pod_watch.h"
#include "agent/publish.h"
#include "agent/requests.h"
#include "agent/requeue.h"
#include "agent/restore.h"
#include "agent/sched.h"
#include "agent/signals.h"
#include "agent/step_list.h"
#include "agent/tell_user.h"
#include "agent/vacate.h"
#include "agent/write_list_watch.h"
#include "policy/recovery.h"

enum phase {
	PHASE_STARTING, /* until the decision */
	PHASE_RESTORING,
	PHASE_RUNNING, /* the script runs, new or restored */
	PHASE_HOLDING, /* cannot be restored, or was stopped: to be requeued */
	PHASE_LEAVING, /* vacated or held: only Slurm's SIGTERM is missing */
	PHASE_ENDING,  /* the script has ended */
};

struct start {          /* start.c */
	bool up, ready; /* the first pod is up; the script's process waits at the gate */
	struct start_plan plan;
	unsigned requested; /* see struct start_input */
	bool unusable;      /* the same */
	bool deciding;
	bool over;         /* the job starts over, because no epoch can be restored */
	bool ran;          /* the script was started, or restored */
	struct rpc ask;    /* which epoch a person wants */
	struct proc sweep; /* removes what killed agents have left on this node */
	char error[512];   /* why the job runs unprotected so far, "" = it does not */
	bool saved;        /* Slurm's entry names an epoch, whether or not it can be seen here */
	bool keeping;      /* the process at the gate is copying the output of the run before */
	bool kept;         /* the output of the run before has been copied, or need not be */
	bool append;       /* it could not be copied, and must not be truncated */
	char output[600];  /* the names of the copies, or why there are none */
	struct loop_timer keep_limit;
	sigset_t pending; /* signals for a script that does not run yet */
};

struct end {                        /* end.c */
	bool term;                  /* SIGTERM has come */
	bool comes_back;            /* the job is in the queue again */
	bool continues;             /* and is to go on where it was */
	bool itself;                /* the script ended, and not because of Slurm or a shutdown of the node */
	struct rpc get;             /* what SIGTERM means */
	struct node_stop node_stop; /* asked before that */
	int status;                 /* wait status to hand to slurmstepd */
	struct loop_timer limit;
};

struct grace {         /* grace.c */
	int64_t since; /* now_us() of Slurm's last SIGTERM */
	bool known;    /* what it means: */
	enum end_meaning meaning;
	bool completing, preempted; /* of the job, as Slurm said then */
	int64_t kill_wait;          /* s, see grace_learn() */
	bool withheld;              /* the script has not got it, */
	enum sig_scope scope;       /* and is to get it so */
	bool saving;
	struct loop_timer limit;
};

struct agent {
	struct loop loop;
	struct job job;
	enum phase phase; /* changed by agent_enter() only */
	struct start start;
	struct end end;
	struct grace grace;

	struct signals signals;
	struct gate gate;
	struct pod_watch pod; /* that is the job */
	struct can_checkpoint can_checkpoint;
	struct publish publish;
	struct tell_user tell_user;
	struct prove_epochs prove;
	struct hook hook;
	struct sched sched;
	struct notice notice;
	struct lease_watch lease;
	struct write_list_watch write_list;
	struct step_list step_list;
	struct requests requests;
	struct requeue requeue;
	struct other_node other_node;
	struct checkpoint checkpoint;
	struct vacate vacate;
	struct restore restore;
};

static inline void agent_enter(struct agent *a, enum phase phase)
{
	a->phase = phase;
	a->publish.last_chance = phase == PHASE_ENDING || phase == PHASE_LEAVING;
	a->publish.may_be_refused = phase == PHASE_ENDING;
}

/* a is all zero. task_fd: the descriptor of the task file (task.h). */
int agent_begin(struct agent *a, int task_fd, struct err *err);

#endif
