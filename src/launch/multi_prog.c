#include "launch/multi_prog.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "launch/say.h"

#define FILE_MOST 60000
#define ARGS_MOST 128

static char *multi_read(const char *file)
{
	cleanup_close int fd = open(file, O_RDONLY | O_CLOEXEC);
	char *text;

	if (fd < 0) {
		say_error("Could not open multi_prog config file %s", file);
		exit(1);
	}
	if (read_all(fd, FILE_MOST, &text) < 0) {
		if (errno == EFBIG)
			say_error("Multi_prog config file %s is too large", file);
		else
			say_error("Error reading multi_prog config file %s", file);
		exit(1);
	}
	return text;
}

/* One line of the file: the tasks, and the words of the program. */
struct multi_line {
	char *tasks;
	const char *program;
	char *const *more; /* words of the command line that follow those of each program, NULL-terminated */
};

/* "%t" is the number of the task, "%o" its number within the range. */
struct multi_task {
	int task, offset;
};

/* Writes a word without its quotes and backslashes, and returns what follows it. */
static const char *multi_copy(const char *p, struct multi_task t, FILE *out)
{
	const char *end;

	for (; *p && !isspace((unsigned char)*p); p++) {
		if (*p == '\'') {
			end = strchr(p + 1, '\'');
			if (!end)
				return NULL;
			fwrite(p + 1, 1, (size_t)(end - p - 1), out);
			p = end;
		} else if (*p == '%') {
			p++;
			if (*p == 't' || *p == 'o')
				fprintf(out, "%d", *p == 't' ? t.task : t.offset);
			if (!*p)
				return p;
		} else {
			p += *p == '\\' && p[1];
			fputc(*p, out);
		}
	}
	return p;
}

/* Takes the next word. NULL: there is none, or *p is NULL: a quote is not closed. */
static char *multi_word(const char **p, struct multi_task t)
{
	char *text = NULL;
	size_t len;
	FILE *out;

	*p += strspn(*p, " \t");
	if (!**p)
		return NULL;
	out = open_memstream(&text, &len);
	if (!out)
		abort();
	*p = multi_copy(*p, t, out);
	fclose(out);
	if (*p)
		return text;
	free(text);
	return NULL;
}

/* False: a comment or blank line. */
static bool multi_split(char *line, struct multi_line *l)
{
	l->tasks = line + strspn(line, " \t");
	if (!*l->tasks || *l->tasks == '#')
		return false;
	line = l->tasks + strcspn(l->tasks, " \t");
	if (*line)
		*line++ = '\0';
	l->program = line + strspn(line, " \t");
	return true;
}

static void multi_grow(struct multi_prog *m, int ntasks)
{
	m->of_task = xrealloc(m->of_task, (size_t)ntasks * sizeof(*m->of_task));
	while (m->ntasks < ntasks)
		m->of_task[m->ntasks++] = NULL;
}

static bool multi_set(struct multi_prog *m, const struct multi_line *l, struct multi_task t)
{
	char **words = xcalloc(ARGS_MOST + 1, sizeof(*words));
	const char *p = l->program;
	int n = 0;

	while (n < ARGS_MOST && p && (words[n] = multi_word(&p, t)))
		n++;
	for (int i = 0; n < ARGS_MOST && l->more[i]; i++)
		words[n++] = xstrdup(l->more[i]);
	m->of_task[t.task] = words;
	if (!p)
		say_error("Program arguments specification format invalid: %s.", l->program);
	return p != NULL;
}

struct multi_range {
	int low, high;
};

static bool multi_parse_range(const char *text, struct multi_range *r)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	r->low = r->high = (int)strtol(text, &end, 10);
	if (*end == '-' && isdigit((unsigned char)end[1]))
		r->high = (int)strtol(end + 1, &end, 10);
	return *end == '\0';
}

static bool multi_add_range(struct multi_prog *m, const struct multi_line *l, struct multi_range r, bool fixed)
{
	if (r.low > r.high) {
		say_error("Invalid task range, %d-%d", r.low, r.high);
		return false;
	}
	if (r.high >= m->ntasks && fixed) {
		say_error("Invalid task id, %d >= ntasks", r.high);
		return false;
	}
	if (r.high >= m->ntasks)
		multi_grow(m, r.high + 1);
	for (int task = r.low; task <= r.high; task++) {
		if (m->of_task[task]) {
			say_error("Duplicate record for task %d", task);
			return false;
		}
		if (!multi_set(m, l, (struct multi_task){ task, task - r.low }))
			return false;
	}
	return true;
}

static bool multi_add(struct multi_prog *m, const struct multi_line *l, bool fixed)
{
	char *save = NULL;
	struct multi_range r;

	if (!strcmp(l->tasks, "*")) {
		for (int task = 0; task < m->ntasks; task++)
			if (!m->of_task[task] && !multi_set(m, l, (struct multi_task){ task, task }))
				return false;
		return true;
	}
	for (char *part = strtok_r(l->tasks, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		if (!multi_parse_range(part, &r)) {
			say_error("Invalid task range specification (%s)", part);
			return false;
		}
		if (!multi_add_range(m, l, r, fixed))
			return false;
	}
	return true;
}

/* Joins lines that end with a backslash. */
static void multi_join(char *text)
{
	for (char *p = text; (p = strstr(p, "\\\n"));)
		p[0] = p[1] = ' ';
}

int multi_prog_read(struct multi_prog *m, char *const *argv, int ntasks, bool fixed)
{
	const char *file = argv[0];
	cleanup_free char *text = multi_read(file);
	char *save = text, *line;
	struct multi_line l = { .more = argv + 1 };

	*m = (struct multi_prog){ 0 };
	multi_grow(m, ntasks);
	multi_join(text);
	for (int number = 1; (line = strsep(&save, "\n")); number++)
		if (multi_split(line, &l) && (!*l.program || !multi_add(m, &l, fixed))) {
			say_error("Line %d of configuration file %s invalid", number, file);
			exit(1);
		}
	for (int task = 0; task < m->ntasks; task++)
		if (!m->of_task[task]) {
			say_error("Configuration file %s invalid, no record for task id %d", file, task);
			exit(1);
		}
	return m->ntasks;
}
