#include "agent/step_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/user_rights.h"
#include "base/util.h"
#include "store/steps.h"

#define STEP_LIST_PAUSE INT64_C(5000000) /* us */

/* The file is the user's: he can exchange it for anything. Returns a descriptor, or -1. */
static int step_list_open(struct step_list *l)
{
	int fd = openat(l->shm, STEP_FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == l->job->task.uid)
		return fd;
	close(fd);
	return -1;
}

static void step_list_look(struct step_list *l)
{
	cleanup_free struct job_steps *s = NULL;
	cleanup_free struct step_file *file = NULL;
	cleanup_close int fd = -1;
	struct err err;
	ssize_t n;

	if (l->shm < 0 || !l->job->store_ok)
		return;
	fd = step_list_open(l);
	if (fd < 0)
		return;
	file = xcalloc(1, sizeof(*file));
	n = pread(fd, file, sizeof(*file), 0);
	if (n <= 0 || memcmp(&l->seen, &file->head, sizeof(l->seen)) == 0)
		return;
	s = xcalloc(1, sizeof(*s));
	steps_take(s, file, (size_t)n);
	l->job->steps_running = s->running;
	if (steps_save(&l->job->store, l->job->rec.uid, s, &err) < 0)
		log_debug("%s", err.text);
	else
		l->seen = file->head;
}

static void step_list_listen(struct step_list *l);

static void step_list_on_pause_over(void *arg)
{
	struct step_list *l = arg;
	char events[4096];

	while (read(l->events, events, sizeof(events)) > 0)
		;
	step_list_look(l);
	step_list_listen(l);
}

/* However much the job writes there, the agent is woken no more often. */
static void step_list_on_event(void *arg)
{
	struct step_list *l = arg;

	loop_remove(l->job->loop, &l->source);
	loop_timer_set(l->job->loop, &l->pause, now_us() + STEP_LIST_PAUSE, step_list_on_pause_over, l);
}

static void step_list_listen(struct step_list *l)
{
	loop_add(l->job->loop, &l->source, l->events, step_list_on_event, l);
}

/* As the job's user: the kernel counts them for each user (fs.inotify.max_user_instances, 128), and a node with many
 * jobs must not use up those of root, which its services need. Returns a descriptor, or -1 with errno. */
static int step_list_make_events(const struct task *t)
{
	struct user_rights rights;
	struct err err;
	int fd;

	if (user_rights_take(&rights, t->uid, t->gid, t->groups, t->n_groups, &err)) {
		errno = err.num;
		return -1;
	}
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	user_rights_return(&rights);
	return fd;
}

static int step_list_watch(struct step_list *l)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", l->shm);
	l->events = step_list_make_events(&l->job->task);
	return l->events < 0 || inotify_add_watch(l->events, path, IN_CLOSE_WRITE | IN_ONLYDIR) < 0 ? -1 : 0;
}

static void step_list_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void step_list_let_go(struct step_list *l)
{
	loop_remove(l->job->loop, &l->source);
	loop_timer_clear(l->job->loop, &l->pause);
	step_list_close(&l->events);
	step_list_close(&l->shm);
	l->seen = (struct step_file_header){ 0 };
	l->job->steps_running = 0;
}

void step_list_start(struct step_list *l, pid_t init)
{
	char path[48];

	step_list_let_go(l);
	snprintf(path, sizeof(path), "/proc/%d/root/dev/shm", init);
	l->shm = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (l->shm < 0 || step_list_watch(l) < 0)
		log_warn("the steps of srun are shown at the end only: %s: %s", path, strerror(errno));
	if (l->events >= 0)
		step_list_listen(l);
	if (l->shm >= 0 && l->job->store_ok && faccessat(l->shm, STEP_FILE_NAME, F_OK, AT_SYMLINK_NOFOLLOW))
		steps_remove(&l->job->store);
	step_list_look(l);
}

void step_list_stop(struct step_list *l)
{
	step_list_look(l);
	step_list_let_go(l);
}
