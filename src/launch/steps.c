#include "launch/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/step_file.h"
#include "base/util.h"

#define STEPS_FILE    "/dev/shm/.fsched-steps"
#define STEPS_MAGIC   0x53504553U
#define STEPS_RUNNING 4096 /* at the same time */

/* The file: a header and records. Only launchers of the same job read it. */
struct steps_header {
	unsigned magic, next, n;
};

struct steps_record {
	int pid; /* of the launcher; 0 = free */
	int step, ntasks, overlap;
	long long began; /* s since 1970 */
	char name[64];
	unsigned char cpus[PLACEMENT_CPUS / 8];
};

struct steps {
	int fd; /* locked */
	struct steps_header head;
	struct steps_record *v;
};

static void steps_close(struct steps *s)
{
	free(s->v);
	close(s->fd);
}

static int steps_check(int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_sys(err, errno, "cannot examine %s, in which the steps of the job are listed", STEPS_FILE);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, EPERM,
			       "%s, in which the steps of the job are listed, is not a file of this user: remove it",
			       STEPS_FILE);
	return 0;
}

/* The kernel frees the lock when the process ends, and with it the wait of others. */
static int steps_open(struct steps *s, struct err *err)
{
	*s = (struct steps){ .fd = open(STEPS_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600) };
	if (s->fd < 0)
		return err_sys(err, errno, "cannot open %s, in which the steps of the job are listed", STEPS_FILE);
	while (flock(s->fd, LOCK_EX))
		if (errno != EINTR) {
			err_sys(err, errno, "cannot lock %s", STEPS_FILE);
			steps_close(s);
			return -1;
		}
	if (steps_check(s->fd, err)) {
		steps_close(s);
		return -1;
	}
	if (pread_all(s->fd, &s->head, sizeof(s->head), 0) || s->head.magic != STEPS_MAGIC || s->head.n > STEPS_RUNNING)
		s->head = (struct steps_header){ .magic = STEPS_MAGIC };
	s->v = xcalloc(s->head.n + 1, sizeof(*s->v));
	if (pread_all(s->fd, s->v, s->head.n * sizeof(*s->v), sizeof(s->head)))
		s->head.n = 0;
	return 0;
}

static int steps_write(struct steps *s, struct err *err)
{
	if (pwrite_all(s->fd, s->v, s->head.n * sizeof(*s->v), sizeof(s->head)) ||
	    pwrite_all(s->fd, &s->head, sizeof(s->head), 0))
		return err_sys(err, errno, "cannot write %s, in which the steps of the job are listed", STEPS_FILE);
	return 0;
}

/* A launcher that was killed has left its record. Its pid may be that of another program now. */
static bool steps_lives(const struct steps_record *r)
{
	char path[32];
	struct stat theirs, mine;

	snprintf(path, sizeof(path), "/proc/%d/exe", r->pid);
	return r->pid > 0 && r->pid != getpid() && !stat(path, &theirs) && !stat("/proc/self/exe", &mine) &&
	       theirs.st_ino == mine.st_ino && theirs.st_dev == mine.st_dev;
}

static void steps_drop_ended(struct steps *s)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < s->head.n; i++)
		if (steps_lives(&s->v[i]))
			s->v[kept++] = s->v[i];
	s->head.n = kept;
}

/* For the agent, under the lock of the table. A user's file that is in the way is left alone: nobody depends on this
 * one. */
static void steps_tell(const struct steps *s, const struct step_end *e, long long began)
{
	cleanup_close int fd = open("/dev/shm/" STEP_FILE_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
				    0600);
	struct step_file_header head;
	struct step_file_entry entry;
	size_t at;

	if (fd < 0 || steps_check(fd, NULL))
		return;
	if (pread_all(fd, &head, sizeof(head), 0) || head.magic != STEP_FILE_MAGIC)
		head = (struct step_file_header){ .magic = STEP_FILE_MAGIC };
	head.running = s->head.n;
	if (e) {
		entry = (struct step_file_entry){ .began = began,
						  .ended = time(NULL),
						  .step = e->step,
						  .ntasks = e->ntasks,
						  .status = e->status,
						  .max_rss = e->max_rss };
		snprintf(entry.name, sizeof(entry.name), "%s", e->name);
		at = head.ended++ % STEP_FILE_KEPT;
		head.failed += e->status != 0;
		if (pwrite_all(fd, &entry, sizeof(entry), sizeof(head) + at * sizeof(entry)))
			return;
	}
	if (pwrite_all(fd, &head, sizeof(head), 0))
		return;
}

/* When this launcher's step began. */
static long long steps_began(const struct steps *s)
{
	for (unsigned i = 0; i < s->head.n; i++)
		if (s->v[i].pid == getpid())
			return s->v[i].began;
	return time(NULL);
}

static bool steps_is_taken(const struct steps *s, int cpu)
{
	for (unsigned i = 0; i < s->head.n; i++)
		if (!s->v[i].overlap && s->v[i].cpus[cpu / 8] & 1 << cpu % 8)
			return true;
	return false;
}

static void steps_choose(const struct steps *s, const struct step_request *r, struct cpu_list *cpus)
{
	cpus->n = 0;
	for (int cpu = 0; cpu < r->cpus && cpu < PLACEMENT_CPUS && (!r->exact || cpus->n < r->wanted); cpu++)
		if (r->overlap || !steps_is_taken(s, cpu))
			cpus->index[cpus->n++] = cpu;
}

int steps_begin(const struct step_request *r, int *step, struct cpu_list *cpus, struct err *err)
{
	struct steps_record *mine;
	struct steps s;
	int rc;

	if (steps_open(&s, err))
		return -1;
	steps_drop_ended(&s);
	steps_choose(&s, r, cpus);
	if (cpus->n < r->wanted || s.head.n >= STEPS_RUNNING) {
		steps_close(&s);
		return 1;
	}
	mine = &s.v[s.head.n++];
	*mine = (struct steps_record){
		.pid = getpid(), .step = (int)s.head.next++, .ntasks = r->ntasks, .overlap = r->overlap
	};
	mine->began = time(NULL);
	snprintf(mine->name, sizeof(mine->name), "%s", r->name);
	for (int i = 0; i < cpus->n; i++)
		mine->cpus[cpus->index[i] / 8] |= (unsigned char)(1 << cpus->index[i] % 8);
	*step = mine->step;
	rc = steps_write(&s, err);
	steps_tell(&s, NULL, 0);
	steps_close(&s);
	return rc;
}

void steps_end(const struct step_end *e)
{
	struct steps s;
	struct err err;
	long long began;

	if (steps_open(&s, &err))
		return;
	began = steps_began(&s);
	steps_drop_ended(&s); /* also that of this process */
	steps_write(&s, &err);
	steps_tell(&s, e, began);
	steps_close(&s);
}
