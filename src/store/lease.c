#include "store/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/util.h"
#include "base/json.h"
#include "base/proc_self.h"
#include "store/store_internal.h"

#define LEASE     "lease"
#define CLAIM     "claim"
#define BYTES_MAX 4096

int lease_describe_self(struct lease *l, const char *host, struct err *err)
{
	snprintf(l->host, sizeof(l->host), "%s", host);
	l->pid = getpid();
	l->pid_start = proc_start_time(l->pid);
	l->pid_ns = proc_own_pid_ns();
	return proc_boot_id(l->boot_id, sizeof(l->boot_id), err);
}

bool lease_holder_lives(const struct lease *l)
{
	uint64_t start;

	/* A pid of another PID namespace means nothing here. */
	if (l->pid_ns != proc_own_pid_ns())
		return true;
	start = proc_start_time(l->pid);
	return start && start == l->pid_start;
}

static int lease_write_json(int dirfd, const char *name, json_t *o, struct err *err)
{
	cleanup_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!text)
		return err_set(err, EINVAL, "the node's name is not UTF-8");
	if (write_file_atomic(dirfd, name, 0600, 0, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write the job's %s file", name);
	return 0;
}

int lease_write(int dirfd, const struct lease *l, struct err *err)
{
	return lease_write_json(dirfd, LEASE,
				json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "host", l->host, "boot_id",
					  l->boot_id, "pid_ns", (json_int_t)l->pid_ns, "pid", (json_int_t)l->pid,
					  "pid_start", (json_int_t)l->pid_start, "restart_count",
					  (json_int_t)l->restart_count, "duration", (json_int_t)l->duration, "released",
					  (int)l->released),
				err);
}

int lease_parse(const json_t *o, struct lease *l, struct err *err)
{
	int64_t ns, pid, start;

	if (json_get_text(o, "host", l->host, sizeof(l->host), err) < 0 ||
	    json_get_text(o, "boot_id", l->boot_id, sizeof(l->boot_id), err) < 0 ||
	    json_get_int(o, "pid_ns", 0, INT64_MAX, &ns, err) < 0 || json_get_int(o, "pid", 0, INT_MAX, &pid, err) < 0 ||
	    json_get_int(o, "pid_start", 0, INT64_MAX, &start, err) < 0 ||
	    json_get_uint(o, "restart_count", &l->restart_count, err) < 0 ||
	    json_get_uint(o, "duration", &l->duration, err) < 0)
		return -1;
	l->pid_ns = (uint64_t)ns;
	l->pid = (pid_t)pid;
	l->pid_start = (uint64_t)start;
	l->released = json_is_true(json_object_get(o, "released"));
	return 0;
}

static bool lease_is_damaged(const struct err *err)
{
	return err->num == EBADMSG || err->num == EINVAL || err->num == EFBIG;
}

int lease_read(int dirfd, struct lease *l, bool *exists, struct err *err)
{
	cleanup_json json_t *o = NULL;
	struct err why = { 0 };

	memset(l, 0, sizeof(*l));
	o = json_read_at(dirfd, LEASE, BYTES_MAX, LEASE, &why);
	*exists = o || why.num != ENOENT;
	if (!*exists)
		return 0;
	if (o && lease_parse(o, l, &why) == 0)
		return 0;
	memset(l, 0, sizeof(*l));
	return lease_is_damaged(&why) ? 0 : err_set(err, why.num, "%s", why.text);
}

static int64_t lease_stamp_ms(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

int64_t lease_seen(int dirfd)
{
	struct stat st;

	return fstatat(dirfd, LEASE, &st, AT_SYMLINK_NOFOLLOW) ? 0 : (int64_t)st.st_mtim.tv_sec;
}

int lease_claim(int dirfd, const char *host, unsigned restart_count, struct lease_age *age, struct err *err)
{
	struct stat now, then;

	*age = (struct lease_age){ 0 };
	if (lease_write_json(dirfd, CLAIM,
			     json_pack("{s:s, s:I}", "host", host, "restart_count", (json_int_t)restart_count), err))
		return -1;
	if (fstatat(dirfd, CLAIM, &now, AT_SYMLINK_NOFOLLOW))
		return err_sys(err, errno, "cannot look at the job's claim file");
	if (fstatat(dirfd, LEASE, &then, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot look at the job's lease file");
	age->stamp_ms = lease_stamp_ms(&then);
	age->ms = lease_stamp_ms(&now) > age->stamp_ms ? lease_stamp_ms(&now) - age->stamp_ms : 0;
	return 0;
}

int lease_claimed(int dirfd, unsigned restart_count, bool *claimed, char *host, struct err *err)
{
	cleanup_json json_t *o = NULL;
	struct err why = { 0 };
	unsigned theirs = 0;

	*claimed = false;
	o = json_read_at(dirfd, CLAIM, BYTES_MAX, CLAIM, &why);
	if (!o)
		return why.num == ENOENT || lease_is_damaged(&why) ? 0 : err_set(err, why.num, "%s", why.text);
	if (json_get_text(o, "host", host, 256, &why) == 0 && json_get_uint(o, "restart_count", &theirs, &why) == 0)
		*claimed = theirs > restart_count;
	return 0;
}

static bool lease_same_holder(const struct lease *a, const struct lease *b)
{
	return strcmp(a->host, b->host) == 0 && strcmp(a->boot_id, b->boot_id) == 0 && a->pid_ns == b->pid_ns &&
	       a->pid == b->pid && a->pid_start == b->pid_start && a->restart_count == b->restart_count &&
	       a->released == b->released;
}

/* Renews the time stamp only, which needs no space. Works on a descriptor that is opened first, so that it does not
 * touch a lease that another holder writes meanwhile. */
static int lease_touch(int dirfd, const struct lease *l)
{
	cleanup_close int fd = openat(dirfd, LEASE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct lease now;
	struct err err;
	bool exists;

	if (fd < 0 || lease_read(dirfd, &now, &exists, &err) < 0 || !exists || !lease_same_holder(&now, l) ||
	    futimens(fd, NULL) < 0)
		return -1;
	return fsync(fd);
}

int lease_renew(int dirfd, const struct lease *l, struct err *err)
{
	if (lease_write(dirfd, l, err) == 0)
		return 0;
	if (err->num != ENOSPC && err->num != EDQUOT)
		return -1;
	return lease_touch(dirfd, l);
}
