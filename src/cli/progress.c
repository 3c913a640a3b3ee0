#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

void progress_start(struct progress *p, const char *label, bool quiet)
{
	memset(p, 0, sizeof(*p));
	p->on = !quiet && isatty(STDERR_FILENO);
	p->began = now_us();
	snprintf(p->label, sizeof(p->label), "%s", label);
}

void progress_tick(struct progress *p)
{
	if (!p->on || !*p->doing)
		return;
	fprintf(stderr, "\r\033[K%s: %s ... %.1f s", p->label, p->doing, (double)(now_us() - p->began) / 1e6);
	fflush(stderr);
	p->drawn = true;
}

void progress_doing(struct progress *p, const char *doing)
{
	printable(doing, p->doing, sizeof(p->doing));
	progress_tick(p);
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	fflush(stderr);
	p->drawn = false;
}

const char *progress_phase(const char *name)
{
	static const char *const text[][2] = {
		{ "queued", "waiting for another operation on the job" },
		{ "before", "the job's signal and command before the checkpoint" },
		{ "make room", "removing old epochs, a quota is in the way" },
		{ "turn", "waiting for other checkpoints on the node" },
		{ "preflight", "checking whether the job can be saved" },
		{ "dump", "saving" },
		{ "frozen", "saving, the job stands still" },
		{ "memory", "the job's memory" },
		{ "files", "saving the job's files" },
		{ "sync", "writing to disk" },
		{ "verify", "reading back and verifying" },
		{ "commit", "completing the epoch" },
		{ "restore", "restoring" },
		{ "run", "running the restored job" },
		{ "kill", "ending the job's processes" },
		{ "requeue", "requeueing" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(text); i++)
		if (strcmp(name, text[i][0]) == 0)
			return text[i][1];
	return NULL;
}
