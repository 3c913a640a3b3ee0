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

/* One line of the file: the tasks and the words of the program. */
struct multi_line {
	char *tasks;
	char *words[ARGS_MOST + 1];
};

/* "%t" is the number of the task, "%o" its number within the range. */
static char *multi_expand(const char *word, int task, int offset)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	for (; *word; word++) {
		if (*word == '%' && (word[1] == 't' || word[1] == 'o')) {
			fprintf(out, "%d", word[1] == 't' ? task : offset);
			word++;
		} else {
			fputc(*word, out);
		}
	}
	fclose(out);
	return text;
}

/* Takes the next word of a line; quotes keep blanks. NULL: there is none. */
static char *multi_word(char **p)
{
	char *in = *p + strspn(*p, " \t"), *out = in, *word = in, quote = '\0';

	if (!*in)
		return NULL;
	for (; *in && (quote || (*in != ' ' && *in != '\t')); in++) {
		if (quote ? *in == quote : *in == '\'' || *in == '"')
			quote = quote ? '\0' : *in;
		else if (*in == '\\' && in[1])
			*out++ = *++in;
		else
			*out++ = *in;
	}
	*p = *in ? in + 1 : in;
	*out = '\0';
	return word;
}

/* False: a comment or blank line. */
static bool multi_split(char *line, struct multi_line *l)
{
	int n = 0;

	l->tasks = multi_word(&line);
	if (!l->tasks || *l->tasks == '#')
		return false;
	while (n < ARGS_MOST && (l->words[n] = multi_word(&line)))
		n++;
	l->words[n] = NULL;
	return true;
}

static void multi_grow(struct multi_prog *m, int ntasks)
{
	m->of_task = xrealloc(m->of_task, (size_t)ntasks * sizeof(*m->of_task));
	while (m->ntasks < ntasks)
		m->of_task[m->ntasks++] = NULL;
}

static void multi_set(struct multi_prog *m, const struct multi_line *l, int task, int offset)
{
	int n = 0;

	while (l->words[n])
		n++;
	m->of_task[task] = xcalloc((size_t)n + 1, sizeof(char *));
	for (int i = 0; i < n; i++)
		m->of_task[task][i] = multi_expand(l->words[i], task, offset);
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
		multi_set(m, l, task, task - r.low);
	}
	return true;
}

static bool multi_add(struct multi_prog *m, const struct multi_line *l, bool fixed)
{
	char *save = NULL;
	struct multi_range r;

	if (!strcmp(l->tasks, "*")) {
		for (int task = 0; task < m->ntasks; task++)
			if (!m->of_task[task])
				multi_set(m, l, task, task);
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

int multi_prog_read(struct multi_prog *m, const char *file, int ntasks, bool fixed)
{
	cleanup_free char *text = multi_read(file);
	char *save = text, *line;
	struct multi_line l;

	*m = (struct multi_prog){ 0 };
	multi_grow(m, ntasks);
	multi_join(text);
	for (int number = 1; (line = strsep(&save, "\n")); number++)
		if (multi_split(line, &l) && (!l.words[0] || !multi_add(m, &l, fixed))) {
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
