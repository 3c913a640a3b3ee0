#include "capture/kept_tracking.h"

#include <errno.h>
#include <unistd.h>

#include "base/util.h"

#define KEPT_MAX (MAILBOX_FDS / 2)

/* A message in the mailbox. With it come two descriptors of each process: its pidfd and a userfaultfd. */
struct kept_message {
	uint32_t version, epoch, n, unused;
	struct {
		uint64_t id;
		int64_t host;
	} v[KEPT_MAX];
};
#define KEPT_VERSION 1u

void kept_tracking_free(struct kept_tracking *k)
{
	for (size_t i = 0; i < k->n; i++) {
		close(k->v[i].pidfd);
		close(k->v[i].uffd);
	}
	free(k->v);
	*k = (struct kept_tracking){ 0 };
}

static void kept_tracking_add(struct kept_tracking *k, const struct kept_message *m, const int *fds)
{
	/* A failed checkpoint has left nothing. A checkpoint without tracking has left older messages where they were,
	 * so messages of more than one epoch may be there: the last epoch counts. */
	if (m->epoch != k->epoch)
		kept_tracking_free(k);
	k->epoch = m->epoch;
	k->v = xrealloc(k->v, (k->n + m->n) * sizeof(*k->v));
	for (uint32_t i = 0; i < m->n; i++)
		k->v[k->n++] = (struct mem_tracked){ (pid_t)m->v[i].host, m->v[i].id, fds[2 * i], fds[2 * i + 1] };
}

void kept_tracking_take(const struct mailbox *m, struct kept_tracking *k)
{
	struct kept_message s;
	int fds[MAILBOX_FDS];
	size_t n_fds;
	ssize_t got;

	*k = (struct kept_tracking){ 0 };
	while ((got = mailbox_take(m, &s, sizeof(s), fds, &n_fds)) != 0)
		if (got == (ssize_t)sizeof(s) && s.version == KEPT_VERSION && s.n > 0 && s.n <= KEPT_MAX &&
		    n_fds == 2 * s.n)
			kept_tracking_add(k, &s, fds);
		else if (got < 0 && errno != EMSGSIZE)
			break;
		else
			for (size_t i = 0; i < n_fds; i++)
				close(fds[i]);
}

void kept_tracking_put(const struct mailbox *m, unsigned epoch, const struct mem_tracked *v, size_t n)
{
	int fds[MAILBOX_FDS];

	for (size_t i = 0; i < n; i += KEPT_MAX) {
		struct kept_message s = { .version = KEPT_VERSION,
					  .epoch = epoch,
					  .n = (uint32_t)(n - i < KEPT_MAX ? n - i : KEPT_MAX) };

		for (uint32_t j = 0; j < s.n; j++) {
			s.v[j].id = v[i + j].id;
			s.v[j].host = v[i + j].host;
			fds[2 * j] = v[i + j].pidfd;
			fds[2 * j + 1] = v[i + j].uffd;
		}
		if (mailbox_put(m, &s, sizeof(s), fds, 2 * s.n))
			return;
	}
}
