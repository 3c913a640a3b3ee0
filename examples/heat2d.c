/* heat2d - a plate that is hot at one edge: the 2-D heat equation, explicit steps in time.
 *
 *   heat2d STEPS [SIZE [STATE [RESULT]]]
 *
 * Prints one line per step (which holds SWEEPS sweeps over the plate) with a checksum of every temperature, keeps the
 * latest state in STATE, written in place every ten steps, and writes RESULT at the end: a text line, then SIZE x SIZE
 * doubles. Everything is a function of the arguments alone, so two runs can be compared byte for byte. The program
 * knows nothing of checkpoints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SWEEPS      400 /* sweeps per line of output */
#define STATE_EVERY 10  /* steps between writes of the state */
#define ALPHA       0.2 /* stable below 0.25 */

struct plate {
	size_t n;
	double *now, *next;
};

static void die(const char *what, const char *name)
{
	fprintf(stderr, "heat2d: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

static void plate_init(struct plate *p, size_t n)
{
	p->n = n;
	p->now = calloc(n * n, sizeof(double));
	p->next = calloc(n * n, sizeof(double));
	if (!p->now || !p->next)
		die("cannot allocate", "the plate");
	for (size_t x = 0; x < n; x++) {
		double edge = 100.0 * (double)x * (double)(n - 1 - x) * 4.0 / ((double)(n - 1) * (double)(n - 1));

		p->now[x] = p->next[x] = edge;
	}
}

static void sweep(struct plate *p)
{
	const size_t n = p->n;
	double *swap;

	for (size_t y = 1; y < n - 1; y++) {
		const double *row = p->now + y * n;
		double *out = p->next + y * n;

		for (size_t x = 1; x < n - 1; x++)
			out[x] = row[x] + ALPHA * (row[x - 1] + row[x + 1] + row[x - n] + row[x + n] - 4.0 * row[x]);
	}
	swap = p->now;
	p->now = p->next;
	p->next = swap;
}

/* FNV-1a over the bits: one wrong bit anywhere shows. */
static uint64_t checksum(const struct plate *p)
{
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < p->n * p->n; i++) {
		uint64_t bits;

		memcpy(&bits, &p->now[i], sizeof(bits));
		hash = (hash ^ bits) * 1099511628211u;
	}
	return hash;
}

static void write_all(int fd, const void *data, size_t len, off_t at, const char *name)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("cannot write", name);
		p += n;
		at += n;
		len -= (size_t)n;
	}
}

static void save_state(int fd, const struct plate *p, uint64_t step, const char *name)
{
	uint64_t head[2] = { step, p->n };

	write_all(fd, head, sizeof(head), 0, name);
	write_all(fd, p->now, p->n * p->n * sizeof(double), sizeof(head), name);
}

static void save_result(const struct plate *p, uint64_t step, const char *name)
{
	FILE *f = fopen(name, "w");

	if (!f)
		die("cannot create", name);
	fprintf(f, "heat2d %zu x %zu after %llu steps, checksum %016llx\n", p->n, p->n, (unsigned long long)step,
		(unsigned long long)checksum(p));
	if (fwrite(p->now, sizeof(double), p->n * p->n, f) != p->n * p->n || fclose(f) != 0)
		die("cannot write", name);
}

static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max) {
		fprintf(stderr, "heat2d: \"%s\" is not a number from %lu to %lu\n", text, min, max);
		exit(2);
	}
	return v;
}

int main(int argc, char **argv)
{
	const char *state = argc > 3 ? argv[3] : "heat.state";
	const char *result = argc > 4 ? argv[4] : "heat.result";
	struct plate plate;
	unsigned long steps;
	int fd;

	if (argc < 2 || argc > 5) {
		fprintf(stderr, "usage: heat2d STEPS [SIZE [STATE [RESULT]]]\n");
		return 2;
	}
	steps = number(argv[1], 1, 1000000000);
	plate_init(&plate, argc > 2 ? number(argv[2], 3, 20000) : 512);
	fd = open(state, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		die("cannot create", state);

	for (unsigned long step = 1; step <= steps; step++) {
		for (int i = 0; i < SWEEPS; i++)
			sweep(&plate);
		if (step % STATE_EVERY == 0)
			save_state(fd, &plate, step, state);
		printf("step %6lu  inside %.12e  checksum %016llx\n", step,
		       plate.now[plate.n * (plate.n / 8) + plate.n / 2], (unsigned long long)checksum(&plate));
		fflush(stdout);
	}
	save_result(&plate, steps, result);
	close(fd);
	free(plate.now);
	free(plate.next);
	return 0;
}
