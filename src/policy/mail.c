#include "policy/mail.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum mail_event mail_decide(const struct mail_seen *before, const struct status *s, unsigned restarts,
			    struct mail_seen *now)
{
	*now = (struct mail_seen){ .state = s->state,
				   .epoch = s->epoch,
				   .restored = s->restored,
				   .failed = s->failed,
				   .restarts = restarts,
				   .told = before->told && before->epoch == s->epoch };
	if (s->state == STATUS_VACATED && (before->state != STATUS_VACATED || before->epoch != s->epoch))
		return MAIL_VACATED;
	if (s->state == STATUS_HELD && before->state != STATUS_HELD)
		return MAIL_HELD;
	if (s->state != STATUS_RUNNING)
		return MAIL_NONE;
	if (s->restored && (before->restored != s->restored || before->restarts != restarts))
		return MAIL_RESTORED;
	if (s->failed > before->failed && !now->told) {
		now->told = true;
		return MAIL_FAILED;
	}
	return MAIL_NONE;
}

void mail_text(enum mail_event event, const struct status *s, char *buf, size_t len)
{
	char text[400] = "", why[160];

	printable(s->error, why, sizeof(why));
	switch (event) {
	case MAIL_NONE: break;
	case MAIL_VACATED:
		snprintf(text, sizeof(text), "Vacated at epoch %u, held%s%s", s->epoch, *why ? ": " : "", why);
		break;
	case MAIL_HELD: snprintf(text, sizeof(text), "Held, could not be restored: %s", why); break;
	case MAIL_RESTORED: snprintf(text, sizeof(text), "Restored from epoch %u", s->restored); break;
	case MAIL_FAILED: snprintf(text, sizeof(text), "Checkpoints fail, the job runs on: %s", why); break;
	}
	snprintf(buf, len, "%s", text);
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool mail_address_ok(const char *address)
{
	for (const char *p = address; *p; p++) {
		const bool first = p == address || p[-1] == ',';

		if (first ? !is_alnum(*p) : !is_alnum(*p) && !strchr("._%+=@,-", *p))
			return false;
	}
	return *address && address[strlen(address) - 1] != ',' && strlen(address) < 256;
}
