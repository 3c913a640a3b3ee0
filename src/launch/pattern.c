#include "launch/pattern.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"

#define WIDTH_MAX 10
#define NO_VALUE  4294967294UL /* as Slurm writes a number that there is not */

/* A name with a backslash is taken as it is, without its backslashes. */
static char *pattern_unescape(const char *format)
{
	char *name = xcalloc(1, strlen(format) + 1), *out = name;

	for (; *format; format++)
		if (*format != '\\')
			*out++ = *format;
	return name;
}

static void pattern_number(FILE *out, const char *text, int width, unsigned long none)
{
	fprintf(out, "%0*lu", width, text ? strtoul(text, NULL, 10) : none);
}

/* The part of a "%5t" after the percent sign. */
struct conversion {
	int width;
	const char *digit; /* the last one of the width; NULL: there is none */
	char letter;
	const char *end;
};

static struct conversion pattern_conversion(const char *p)
{
	struct conversion c = { 0 };

	while (isdigit((unsigned char)*p)) {
		c.digit = p++;
		c.width = c.width * 10 + (*c.digit - '0') > WIDTH_MAX ? WIDTH_MAX : c.width * 10 + (*c.digit - '0');
	}
	c.letter = *p;
	c.end = *p ? p + 1 : p;
	return c;
}

/* What came with expand_stdio_fields(). srun does not know the count of restarts there: it is always 0. */
static bool pattern_since_25_11(FILE *out, struct conversion c, const struct pattern_job *job)
{
	switch (c.letter) {
	case 'a': pattern_number(out, job->array_task_id, c.width, 0); return true;
	case 'b':
		fprintf(out, "%0*lu", c.width, job->array_task_id ? strtoul(job->array_task_id, NULL, 10) % 10 : 0);
		return true;
	case 'r': fprintf(out, "%0*d", c.width, 0); return true;
	case 'S': fputs(job->sluid ? job->sluid : "", out); return true;
	}
	return false;
}

/* Writes what the conversion becomes for all tasks. False: it differs among tasks, or is none. */
static bool pattern_common(FILE *out, struct conversion c, const struct pattern_job *job)
{
	if (job->since_25_11 && pattern_since_25_11(out, c, job))
		return true;
	switch (c.letter) {
	case 'a': pattern_number(out, job->array_task_id, c.width, NO_VALUE); return true;
	case 'A': pattern_number(out, job->array_job_id ? job->array_job_id : job->job_id, c.width, 0); return true;
	case 'j': pattern_number(out, job->job_id, c.width, 0); return true;
	case 'J':
		pattern_number(out, job->job_id, c.width, 0);
		fprintf(out, ".%d", job->step_id);
		return true;
	case 's': fprintf(out, "%0*d", c.width, job->step_id); return true;
	case 'x': fputs(job->job_name ? job->job_name : "", out); return true;
	}
	return false;
}

/* A conversion that is left, after its percent sign p, or that is none. Until 25.11 srun loses the percent sign and all
 * digits but the last of one that it does not know. */
static void pattern_left(FILE *out, const char *p, struct conversion c, bool each, const struct pattern_job *job)
{
	if (c.digit && !each && !job->since_25_11)
		p = c.digit;
	else
		fputc('%', out);
	fwrite(p, 1, (size_t)(c.end - p), out);
}

/* Expands what all tasks have in common; *each: something else is left, with its percent sign. "%%" becomes `percent`.
 */
static char *pattern_expand(const char *format, const struct pattern_job *job, const char *percent, bool *each)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	*each = false;
	for (const char *p = format; *p; p++) {
		const struct conversion c = pattern_conversion(p + 1);

		if (*p != '%') {
			fputc(*p, out);
			continue;
		}
		if (p[1] == '%') {
			fputs(percent, out);
		} else if (!pattern_common(out, c, job)) {
			const bool left = c.letter && strchr("tnNu", c.letter);

			pattern_left(out, p + 1, c, left, job);
			*each |= left;
		}
		p = c.end - 1;
	}
	fclose(out);
	return text;
}

/* slurmstepd expands what srun leaves to it. Until 25.11 srun leaves "%%" as it is, since then it makes "%" of it
 * first:
 * "%%t.%t" becomes "%t.0", and since 25.11 "0.0". */
static void stream_expand(struct stream *s, const char *format, const struct pattern_job *job)
{
	bool each, ignored;
	cleanup_free char *once = pattern_expand(format, job, "%", &each);

	s->kind = each ? STREAM_EACH : STREAM_ALL;
	if (each)
		s->name = pattern_expand(job->since_25_11 ? once : format, job, "%%", &ignored);
	else
		s->name = xstrdup(once);
}

void stream_parse(struct stream *s, const char *format, int ntasks, const struct pattern_job *job)
{
	char *end;
	unsigned long task;

	*s = (struct stream){ .kind = STREAM_ALL };
	if (!format || !strncasecmp(format, "all", 3) || *format == '-')
		return;
	if (!strcasecmp(format, "none")) {
		*s = (struct stream){ .kind = STREAM_EACH, .name = xstrdup("/dev/null") };
		return;
	}
	task = strtoul(format, &end, 10);
	if (end != format && !*end && task < (unsigned long)ntasks) {
		*s = (struct stream){ .kind = STREAM_ONE, .task = (int)task };
		return;
	}
	if (strchr(format, '\\')) {
		s->name = pattern_unescape(format);
		return;
	}
	stream_expand(s, format, job);
}

char *stream_file(const struct stream *s, const struct pattern_task *task)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	for (const char *p = s->name; *p; p++) {
		const struct conversion c = pattern_conversion(p + 1);

		if (*p != '%') {
			fputc(*p, out);
			continue;
		}
		switch (c.letter) {
		case 't': fprintf(out, "%0*d", c.width, task->task); break;
		case 'n': fprintf(out, "%0*d", c.width, task->node); break;
		case 'N': fputs(task->node_name ? task->node_name : "", out); break;
		case 'u': fputs(task->user ? task->user : "", out); break;
		case '%': fprintf(out, "%.*s", c.digit ? (int)(c.end - p) : 1, p); break;
		default: fprintf(out, "%.*s", (int)(c.end - p), p);
		}
		p = c.end - 1;
	}
	fclose(out);
	return text;
}

void stream_free(struct stream *s)
{
	free(s->name);
	s->name = NULL;
}
