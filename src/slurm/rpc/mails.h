/* Mails about checkpoints to the users who have asked for mails about requeues (--mail-type=REQUEUE or ALL). Sent by
 * Slurm's MailProg, on slurmctld's host and as its user, as Slurm does with its own. */
#ifndef FSCHED_SLURM_RPC_MAILS_H
#define FSCHED_SLURM_RPC_MAILS_H

#include <slurm/slurm.h>
#include "base/status.h"

struct mails;

/* Never NULL. Nothing is sent for what the first look at the jobs finds. */
struct mails *mails_new(void);
/* One look at all jobs: begin, each job that has an entry, end. */
void mails_begin(struct mails *m);
void mails_look(struct mails *m, const slurm_job_info_t *job, const struct status *s);
void mails_end(struct mails *m);

#endif
