#include "image/pace.h"

#include <string.h>

void pace_init(struct pace *p, unsigned threads)
{
	memset(p, 0, sizeof(*p));
	pthread_mutex_init(&p->lock, NULL);
	p->threads = threads;
	p->measuring = true;
}

/* How much more compression would deliver than the storage takes. */
static double pace_gain(const struct pace *p, const struct pace_thread *t)
{
	return p->disk > 0 ? p->threads * t->speed / (PACE_MARGIN * p->disk) : 1;
}

/* Whether the thread's speed has to be looked at: the clearer it is that compression does not pay, the less often. */
static bool pace_tries(const struct pace *p, const struct pace_thread *t)
{
	return t->speed == 0 || t->untried * pace_gain(p, t) >= PACE_TRY_EVERY || t->untried >= PACE_TRY_EVERY * 64;
}

bool pace_compresses(struct pace *p, struct pace_thread *t)
{
	bool pays;

	pthread_mutex_lock(&p->lock);
	pays = pace_tries(p, t) || (!p->measuring && pace_gain(p, t) > 1);
	pthread_mutex_unlock(&p->lock);
	return pays;
}

static void pace_learn_speed(struct pace_thread *t, double speed)
{
	if (t->warm)
		t->speed = t->speed == 0 ? speed : t->speed + (speed - t->speed) / 8;
	t->warm = true;
	t->untried = 0;
}

static void pace_count_raw(struct pace *p, size_t len, int64_t now)
{
	const uint64_t warm = PACE_WARM * p->threads;

	p->raw += len;
	if (p->since == 0 && p->raw >= warm) {
		p->raw = 0;
		p->since = now;
	} else if (p->since != 0 && p->raw >= PACE_MEASURE * p->threads && now > p->since) {
		p->disk = (double)p->raw / (double)(now - p->since);
		p->raw = 0;
		p->since = now;
		p->encoded = 0;
		p->measuring = false;
	}
}

/* What is compressed leaves the storage time to rest: the measurement begins again. */
static void pace_count_compressed(struct pace *p, double gain)
{
	p->raw = 0;
	p->since = 0;
	p->measuring |= (double)p->encoded >= PACE_AGAIN * (gain < 1 ? 1 : gain > PACE_CLEAR ? PACE_CLEAR : gain);
}

void pace_encoded(struct pace *p, struct pace_thread *t, size_t len, bool compressed, int64_t us, int64_t now)
{
	pthread_mutex_lock(&p->lock);
	p->encoded += len;
	if (!compressed) {
		pace_count_raw(p, len, now);
		t->untried++;
	} else {
		if (!pace_tries(p, t))
			pace_count_compressed(p, pace_gain(p, t));
		pace_learn_speed(t, (double)len / (double)(us > 0 ? us : 1));
	}
	pthread_mutex_unlock(&p->lock);
}
