/* A child process that works on a batch of the job's files with the rights of the job's user.
 *
 * Every path comes from the user's processes, and whoever can write to a directory of the path can redirect it
 * meanwhile. So root opens no such path: a child opens them, after it has become the job's user for good. The child
 * gets the copies of the epoch as open descriptors, because only root may enter the epoch's directory. It answers
 * through a pipe with messages that end with NUL: one byte for the kind (enum batch_message) and a text. The last
 * message is 'K'. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/user.h"
#include "base/util.h"
#include "base/io.h"
#include "base/text.h"

#define ANSWER_MAX (1u << 20) /* bytes of all messages of a child */
#define POLL_MS    100        /* interval at which the parent checks whether the child was stopped by a signal */
#define DONE       'K'        /* the child has finished the batch */

/* ---- messages of the child --------------------------------------------- */

static void file_batch_send(const struct file_batch *b, char kind, const char *text)
{
	/* If the parent no longer reads, it notices that DONE is missing. */
	if (write_all(b->out, &kind, 1) < 0 || write_all(b->out, text, strlen(text) + 1) < 0)
		_exit(1);
}

static void file_batch_vsay(const struct file_batch *b, enum batch_message kind, const char *path, const char *fmt,
			    va_list ap) __attribute__((format(printf, 4, 0)));
static void file_batch_vsay(const struct file_batch *b, enum batch_message kind, const char *path, const char *fmt,
			    va_list ap)
{
	char shown[FILES_SHOWN], text[700];
	int n = snprintf(text, sizeof(text), "\"%s\"%s", show_path(path, shown), *fmt ? " " : "");

	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	file_batch_send(b, (char)kind, text);
}

void file_batch_count(const struct file_batch *b, enum batch_message kind, const char *path)
{
	char shown[FILES_SHOWN], text[FILES_SHOWN + 2];

	snprintf(text, sizeof(text), "\"%s\"", show_path(path, shown));
	file_batch_send(b, (char)kind, text);
}

int file_batch_error(const struct file_batch *b, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	file_batch_vsay(b, BATCH_ERROR, path, fmt, ap);
	va_end(ap);
	return -1;
}

void file_batch_warn(const struct file_batch *b, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	file_batch_vsay(b, BATCH_WARNING, path, fmt, ap);
	va_end(ap);
}

/* ---- the child --------------------------------------------------------- */

/* Opens the copies of the records while the child is still root. 0, or -1 with a sentence in text. */
static int file_batch_open_copies(const struct file_record *r, int n, int filesfd, int copies[FILE_BATCH_MAX],
				  char *text, size_t len)
{
	for (int i = 0; i < n; i++) {
		struct stat st;

		copies[i] = -1;
		if (!*r[i].saved)
			continue;
		copies[i] = openat(filesfd, r[i].saved, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (copies[i] < 0 || fstat(copies[i], &st) < 0) {
			snprintf(text, len, "files/%s of the checkpoint cannot be opened: %s", r[i].saved,
				 strerror(errno));
			return -1;
		}
		if (!S_ISREG(st.st_mode) || st.st_size != r[i].saved_size) {
			snprintf(text, len, "files/%s of the checkpoint is damaged: it has not the size that was written",
				 r[i].saved);
			return -1;
		}
	}
	return 0;
}

static void file_batch_child(const struct file_batch *b, const struct file_record *r, int n, int filesfd, pid_t parent)
{
	int copies[FILE_BATCH_MAX];
	char text[256];

	if (b->open_copies && file_batch_open_copies(r, n, filesfd, copies, text, sizeof(text)) < 0) {
		file_batch_send(b, BATCH_ERROR, text);
		_exit(1);
	}
	if (user_become(b->cred->uid, b->cred->gid, b->cred->groups, b->cred->n_groups) < 0) {
		snprintf(text, sizeof(text), "cannot become uid %u: %s", (unsigned)b->cred->uid, strerror(errno));
		file_batch_send(b, BATCH_ERROR, text);
		_exit(1);
	}
	/* The kernel clears the parent-death signal when the uid changes, so it is set after that. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	/* With SIGXFSZ ignored, a write beyond RLIMIT_FSIZE fails with EFBIG instead of killing the child. */
	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < n; i++)
		if (b->step(b, &r[i], b->open_copies ? copies[i] : -1) < 0 && b->stop_at_error)
			break;
	file_batch_send(b, DONE, "");
	_exit(0);
}

/* ---- the parent -------------------------------------------------------- */

static void file_batch_add(struct batch_count *c, const char *text)
{
	if (c->n++ == 0)
		printable(text, c->first, sizeof(c->first));
}

/* Evaluates the messages of the child. True if DONE was the last one. The user can forge messages as soon as the child
 * runs with his rights, so they are used as text for people and for nothing else. */
static bool file_batch_take_messages(struct batch_outcome *o, char *text, size_t len)
{
	bool complete = false;

	for (char *end, *m = text; m < text + len; m = end + 1) {
		char clean[700];

		end = memchr(m, '\0', (size_t)(text + len - m));
		if (!end)
			return false;
		complete = *m == DONE;
		if (*m == BATCH_WARNING)
			add_warning(o->warnings, "%s", printable(m + 1, clean, sizeof(clean)));
		else if (*m == BATCH_REMOVED)
			file_batch_add(&o->removed, m + 1);
		else if (*m == BATCH_MOVED)
			file_batch_add(&o->moved, m + 1);
		else if (*m == BATCH_REMADE)
			file_batch_add(&o->remade, m + 1);
		else if (*m == BATCH_CHANGED)
			file_batch_add(&o->changed, m + 1);
		else if (*m == BATCH_ERROR && o->errors++ == 0)
			printable(m + 1, o->first, sizeof(o->first));
	}
	return complete;
}

/* Reads all messages of the child until end of file. Meanwhile user_child_ended() continues a child that somebody
 * stops. Returns the length, or -1 with errno. *ended: the child was reaped. */
static ssize_t file_batch_read_messages(struct user_child *c, int fd, char *text, size_t size, bool *ended)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		int n = poll(&p, 1, POLL_MS);
		ssize_t got;

		if (n == 0 && !*ended)
			*ended = user_child_ended(c, false);
		if (n <= 0)
			continue;
		got = read(fd, text + len, size - len);
		if (got == 0)
			return (ssize_t)len;
		if (got < 0 && errno != EINTR)
			return -1;
		len += got > 0 ? (size_t)got : 0;
		if (len == size) {
			errno = EFBIG;
			return -1;
		}
	}
}

static int file_batch_ended_early(const struct file_batch *b, const struct user_child *c, struct err *err)
{
	if (c->given_up)
		return err_set(err, EINTR,
			       "the process that works on the job's files was stopped %u times by signals and has been ended: only root "
			       "and processes of uid %u can send them; end what does so and try again",
			       c->stops, (unsigned)b->cred->uid);
	if (WIFSIGNALED(c->status))
		return err_set(err, 0, "the process that works on the job's files was ended by signal %d",
			       WTERMSIG(c->status));
	return err_set(err, 0, "the process that works on the job's files ended early");
}

int file_batch_run(struct file_batch *b, const struct file_record *r, int n, int filesfd, struct batch_outcome *o,
		   struct err *err)
{
	cleanup_free char *text = xmalloc(ANSWER_MAX);
	pid_t parent = getpid();
	struct user_child c = { 0 };
	bool ended = false;
	int fds[2], saved;
	ssize_t len;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	b->out = fds[1];
	c.pid = fork();
	if (c.pid == 0) {
		close(fds[0]);
		file_batch_child(b, r, n, filesfd, parent);
	}
	saved = errno;
	close(fds[1]);
	if (c.pid < 0) {
		close(fds[0]);
		return err_sys(err, saved, "cannot start a process");
	}
	len = file_batch_read_messages(&c, fds[0], text, ANSWER_MAX, &ended);
	saved = errno;
	close(fds[0]);
	if (len < 0 && !ended)
		kill(c.pid, SIGKILL);
	if (!ended)
		user_child_ended(&c, true);
	if (len < 0)
		return err_sys(err, saved, "cannot read the answer of the process that works on the job's files");
	if (!file_batch_take_messages(o, text, (size_t)len) && o->errors == 0)
		return file_batch_ended_early(b, &c, err);
	return 0;
}
