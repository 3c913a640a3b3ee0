#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/proc_self.h"
#include "base/io.h"
#include "base/util.h"

#define STATE_NAME  "pod.json"
#define END_WAIT_US INT64_C(30000000)
#define END_STEP_US 10000

/* ---- the directory */

int pod_home_open(struct pod_home *h, const char *dir, bool create, struct job_record **rec, struct err *err)
{
	struct err why;

	h->supervisor_lock = -1;
	if (rec)
		*rec = NULL;
	if (store_open_path(&h->store, dir, create, err))
		return -1;
	if (!rec)
		return 0;
	*rec = xcalloc(1, sizeof(**rec));
	if (!store_load_record(&h->store, *rec, &why) || (create && why.num == ENOENT))
		return 0;
	if (err)
		*err = why;
	if (why.num == ENOENT)
		err_set(err, ENOENT, "%s is not the directory of a pod: fsched pod run --dir makes one", dir);
	free(steal_ptr(rec));
	store_close(&h->store);
	return -1;
}

void pod_home_close(struct pod_home *h)
{
	if (h->supervisor_lock >= 0)
		close(steal_fd(&h->supervisor_lock));
	store_close(&h->store);
}

static int open_lock(const struct pod_home *h, const char *name, struct err *err)
{
	int fd = openat(h->store.dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? err_sys(err, errno, "cannot open %s/%s", h->store.path, name) : fd;
}

int pod_home_supervise(struct pod_home *h, struct err *err)
{
	cleanup_close int fd = open_lock(h, "supervisor.lock", err);

	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK
			       ? err_set(err, EBUSY, "a pod runs in %s already; `fsched pod kill %s` ends it",
					 h->store.path, h->store.path)
			       : err_sys(err, errno, "cannot lock %s/supervisor.lock", h->store.path);
	h->supervisor_lock = steal_fd(&fd);
	return 0;
}

int pod_home_await_end(const struct pod_home *h, struct err *err)
{
	const int64_t end = now_us() + END_WAIT_US;
	cleanup_close int fd = open_lock(h, "supervisor.lock", err);

	if (fd < 0)
		return -1;
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (now_us() >= end)
			return err_set(err, EBUSY, "the pod in %s has ended, but the command that ran it has not",
				       h->store.path);
		usleep(END_STEP_US);
	}
	return 0;
}

int pod_home_lock(const struct pod_home *h, struct err *err)
{
	cleanup_close int fd = open_lock(h, "operation.lock", err);

	if (fd < 0)
		return -1;
	while (flock(fd, LOCK_EX))
		if (errno != EINTR)
			return err_sys(err, errno, "cannot lock %s/operation.lock", h->store.path);
	return steal_fd(&fd);
}

void pod_home_dir(const struct pod_home *h, char *buf, size_t len)
{
	snprintf(buf, len, "%.*s/pod", (int)len - 5, h->store.path);
}

/* ---- the running pod */

int pod_state_save(const struct pod_home *h, struct pod_state *s, struct err *err)
{
	cleanup_free char *text = NULL;
	json_t *o;

	proc_boot_id(s->boot, sizeof(s->boot), NULL);
	s->init_start = proc_start_time(s->init);
	o = json_pack("{s:i, s:i, s:I, s:s, s:b, s:s, s:O, s:i, s:[i,i]}", "version", 1, "init_pid", s->init,
		      "init_start", (json_int_t)s->init_start, "boot", s->boot, "private_tmp", s->private_tmp, "user",
		      s->user, "outside", s->outside, "supervisor", s->supervisor, "mailbox", s->mailbox.in,
		      s->mailbox.out);
	text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	if (!text)
		return err_set(err, EINVAL, "cannot describe the pod in %s/" STATE_NAME, h->store.path);
	if (write_file_atomic(h->store.dirfd, STATE_NAME, 0600, 0, text, strlen(text)))
		return err_sys(err, errno, "cannot write %s/" STATE_NAME, h->store.path);
	return 0;
}

static int state_parse(const char *text, struct pod_state *s, struct err *err)
{
	json_error_t je;
	json_t *o = json_loads(text, 0, &je), *outside;
	const char *boot, *user;
	json_int_t start;
	int version, tmp, rc;

	rc = json_unpack_ex(o, &je, 0, "{s:i, s:i, s:I, s:s, s:b, s:s, s:o, s?i, s?[i,i]}", "version", &version,
			    "init_pid", &s->init, "init_start", &start, "boot", &boot, "private_tmp", &tmp, "user",
			    &user, "outside", &outside, "supervisor", &s->supervisor, "mailbox", &s->mailbox.in,
			    &s->mailbox.out);
	if (!o || rc || version != 1 || !json_is_array(outside)) {
		json_decref(o);
		return err_set(err, EINVAL, STATE_NAME " is damaged (%s)", je.text);
	}
	s->init_start = (uint64_t)start;
	s->private_tmp = tmp;
	snprintf(s->boot, sizeof(s->boot), "%s", boot);
	snprintf(s->user, sizeof(s->user), "%s", user);
	s->outside = json_incref(outside);
	json_decref(o);
	return 0;
}

int pod_state_load(const struct pod_home *h, struct pod_state *s, struct err *err)
{
	cleanup_free char *text = NULL;
	char boot[sizeof(s->boot)];

	memset(s, 0, sizeof(*s));
	s->mailbox = (struct mailbox){ -1, -1 };
	if (read_file_at(h->store.dirfd, STATE_NAME, 1 << 20, &text) < 0)
		return errno == ENOENT
			       ? err_set(err, ESRCH,
					 "no pod runs in %s; `fsched pod restore %s` continues the command if an epoch was made",
					 h->store.path, h->store.path)
			       : err_sys(err, errno, "cannot read %s/" STATE_NAME, h->store.path);
	if (state_parse(text, s, err))
		return err_wrap(err, "%s", h->store.path);
	proc_boot_id(boot, sizeof(boot), NULL);
	if (!strcmp(boot, s->boot) && s->init_start && proc_start_time(s->init) == s->init_start)
		return 0;
	pod_state_free(s);
	return err_set(err, ESRCH,
		       "the pod of %s has ended without notice (machine restarted, or supervisor killed); "
		       "`fsched pod restore %s` continues the command if an epoch was made",
		       h->store.path, h->store.path);
}

void pod_state_remove(const struct pod_home *h)
{
	unlinkat(h->store.dirfd, STATE_NAME, 0);
}

void pod_state_free(struct pod_state *s)
{
	json_decref(s->outside);
	s->outside = NULL;
}

int pod_set_intent(const struct pod_home *h, enum intent intent, struct err *err)
{
	cleanup_close int lock = pod_home_lock(h, err);
	cleanup_free struct job_record *rec = xcalloc(1, sizeof(*rec));

	if (lock < 0 || store_load_record(&h->store, rec, err))
		return -1;
	rec->intent = intent;
	return store_save_record(&h->store, rec, err);
}
