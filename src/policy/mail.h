/* Whether a user is to get a mail because the Checkpoint entry of his job has changed. Pure. */
#ifndef FSCHED_POLICY_MAIL_H
#define FSCHED_POLICY_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

enum mail_event { MAIL_NONE, MAIL_VACATED, MAIL_HELD, MAIL_RESTORED, MAIL_FAILED };

struct mail_seen { /* of an entry */
	enum status_state state;
	unsigned epoch, restored, failed;
	unsigned restarts; /* Slurm's count */
	bool told;         /* a mail has said that checkpoints fail, and none has succeeded since */
};

/* before: what was seen last, all zero if the job is new. Sets *now to what is seen now. */
enum mail_event mail_decide(const struct mail_seen *before, const struct status *s, unsigned restarts,
			    struct mail_seen *now);
/* "Checkpoint failed: …", one line without control characters. */
void mail_text(enum mail_event event, const struct status *s, char *buf, size_t len);
/* Whether the text can be given to a mail program as an address: a user, or addresses with commas, and nothing that
 * mail programs take for an option, a file or a command. */
bool mail_address_ok(const char *address);

#endif
