/* Preflight: can the job's user open its files again?
 *
 * A child enters the pod's mount namespace, becomes the job's user for good, and asks the kernel for every name once.
 * The job runs meanwhile. A file server that does not answer blocks only the child. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "base/user.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/util.h"

#define ANSWER_MAX_MS 10000 /* for all files; 100000 names take one second */
#define TRIES         3     /* the child has the user's rights, so the user can kill it */

struct wanted {
	char *path;
	unsigned mode; /* of access(2) */
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	pid_t pid;
	char as[32];
};

struct access_list {
	struct wanted *v;
	size_t n, room;
	size_t *slots, n_slots; /* hash table of index + 1, open addressing; n_slots a power of 2 */
};

/* The child's answer for each file, in shared memory: 0 = none yet, CAN_BE_OPENED, or a negative errno. */
#define CAN_BE_OPENED 1

struct access_list *access_list_new(void)
{
	return xcalloc(1, sizeof(struct access_list));
}

void access_list_free(struct access_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].path);
	free(l->v);
	free(l->slots);
	free(l);
}

/* FNV-1a */
static size_t access_list_hash(const char *path, unsigned mode)
{
	uint64_t h = 0xcbf29ce484222325u ^ mode;

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * 0x100000001b3u;
	return (size_t)(h ^ h >> 32);
}

static size_t *access_list_slot(const struct access_list *l, const char *path, unsigned mode)
{
	size_t i = access_list_hash(path, mode) & (l->n_slots - 1);

	while (l->slots[i] && (l->v[l->slots[i] - 1].mode != mode || strcmp(l->v[l->slots[i] - 1].path, path)))
		i = (i + 1) & (l->n_slots - 1);
	return &l->slots[i];
}

static void access_list_grow(struct access_list *l)
{
	array_reserve(l->v, l->n, l->room);
	l->n_slots = 2 * l->room;
	free(l->slots);
	l->slots = xcalloc(l->n_slots, sizeof(*l->slots));
	for (size_t i = 0; i < l->n; i++)
		*access_list_slot(l, l->v[i].path, l->v[i].mode) = i + 1;
}

void access_list_add(struct access_list *l, const struct preflight_file *f, const struct statx *st)
{
	/* criu opens a fifo for reading and writing, whatever the job has open: one end alone would wait for the other.
	 */
	const unsigned mode = S_ISFIFO(st->stx_mode) ? R_OK | W_OK : f->mode;
	struct wanted *w;
	size_t *at;

	if (!S_ISREG(st->stx_mode) && !S_ISDIR(st->stx_mode) && !S_ISFIFO(st->stx_mode) && !S_ISCHR(st->stx_mode))
		return;
	if (l->n == l->room)
		access_list_grow(l);
	at = access_list_slot(l, f->path, mode);
	if (*at)
		return;
	w = &l->v[l->n++];
	*at = l->n;
	*w = (struct wanted){ xstrdup(f->path), mode, st->stx_ino, st->stx_dev_major, st->stx_dev_minor, f->pid, "" };
	snprintf(w->as, sizeof(w->as), "%s", f->as);
}

/* ---- the child, with the user's rights --------------------------------- */

static int access_ask(const struct wanted *w, uid_t uid)
{
	struct statx st;
	int why;

	/* One call per file is enough in most cases. Real and effective ids are the same. */
	if (faccessat(AT_FDCWD, w->path, (int)w->mode, 0) == 0)
		return CAN_BE_OPENED;
	why = errno;
	if (statx(AT_FDCWD, w->path, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return errno == ENOENT || errno == ENOTDIR ? CAN_BE_OPENED : -errno;
	/* The name leads to another file now. criu or the saved files handle the file of the job. */
	if (st.stx_ino != w->ino || st.stx_dev_major != w->dev_major || st.stx_dev_minor != w->dev_minor)
		return CAN_BE_OPENED;
	/* The owner may change the mode, and the restore does so. */
	if (why == EACCES && st.stx_uid == uid && (S_ISREG(st.stx_mode) || S_ISDIR(st.stx_mode)))
		return CAN_BE_OPENED;
	return -why;
}

static void access_child(const struct preflight_scan *s, pid_t parent, int mntns, int *answers)
{
	const struct preflight_job *job = s->job;

	if (setns(mntns, CLONE_NEWNS) || user_become(job->uid, job->gid, job->groups, job->n_groups))
		_exit(1);
	/* The kernel clears the parent-death signal when the uid changes, so it is set after that. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (size_t i = 0; i < s->access->n; i++)
		answers[i] = access_ask(&s->access->v[i], job->uid);
	_exit(0);
}

/* Runs the child. 0: it has ended, with or without all answers. -1: ETIMEDOUT, or it could not be started. */
static int access_run_child(const struct preflight_scan *s, int mntns, int *answers, struct err *err)
{
	const pid_t parent = getpid(), pid = fork();
	struct pollfd p = { -1, POLLIN, 0 };
	int got;

	if (pid < 0)
		return err_sys(err, errno, "cannot start a process that looks at the job's files");
	if (pid == 0)
		access_child(s, parent, mntns, answers);
	p.fd = pidfd_open(pid, 0);
	do
		got = poll(&p, 1, ANSWER_MAX_MS);
	while (got < 0 && errno == EINTR);
	close(p.fd);
	kill(pid, SIGKILL);
	/* While it waits uninterruptibly for a file server it cannot end, so it is not waited for. It dies when the
	 * wait is over. */
	if (got > 0)
		waitpid(pid, NULL, 0);
	return got > 0 ? 0 : err_set(err, ETIMEDOUT, "no answer");
}

/* ---- verdicts ----------------------------------------------------------- */

static size_t access_first_unanswered(const int *answers, size_t n)
{
	size_t i = 0;

	while (i < n && answers[i])
		i++;
	return i;
}

static int access_refuse(const struct preflight_scan *s, const struct wanted *w, int num, struct err *err)
{
	char what[512], clean[256];

	snprintf(what, sizeof(what), "has %s open as %s, %s", printable(w->path, clean, sizeof(clean)), w->as,
		 num == ETIMEDOUT ? "and its file system does not answer"
				  : "and the job's user could not open it again at a restart");
	if (num != ETIMEDOUT)
		snprintf(what + strlen(what), sizeof(what) - strlen(what), " (%s%s)",
			 w->mode & W_OK ? "for writing: " : "", strerror(num));
	return preflight_refuse(w->pid, err, what,
				num == ETIMEDOUT ? "try again when it does"
						 : "give the user the right to it, or close it, and try again");
}

static int access_verdict(const struct preflight_scan *s, const int *answers, struct err *err)
{
	for (size_t i = 0; i < s->access->n; i++)
		if (answers[i] != CAN_BE_OPENED)
			return access_refuse(s, &s->access->v[i], -answers[i], err);
	return 0;
}

static int access_ask_until_answered(const struct preflight_scan *s, int mntns, int *answers, struct err *err)
{
	const size_t n = s->access->n;

	for (int i = 0; i < TRIES && access_first_unanswered(answers, n) < n; i++)
		if (access_run_child(s, mntns, answers, err)) {
			size_t at = access_first_unanswered(answers, n);

			return at < n && err && err->num == ETIMEDOUT
				       ? access_refuse(s, &s->access->v[at], ETIMEDOUT, err)
				       : -1;
		}
	if (access_first_unanswered(answers, n) < n)
		return err_set(err, 0,
			       "cannot find out whether the job's files can be opened again at a restart: the process that looks "
			       "at them is killed again and again; try again");
	return access_verdict(s, answers, err);
}

int preflight_access(const struct preflight_scan *s, struct err *err)
{
	const size_t size = (s->access->n + 1) * sizeof(int);
	cleanup_close int mntns = open_proc(s->job->init, "ns/mnt", O_RDONLY);
	int *answers, rc;

	if (mntns < 0)
		return err_sys(err, errno, "cannot open the mount namespace of the job's pod");
	answers = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (answers == MAP_FAILED)
		return err_sys(err, errno, "cannot allocate memory");
	rc = access_ask_until_answered(s, mntns, answers, err);
	munmap(answers, size);
	return rc;
}
