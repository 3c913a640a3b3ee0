#include "store/removed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/util.h"
#include "store/store_internal.h"

#define REMOVED_FILE "removed.json"
#define REMOVED_LOCK "removed.lock"
#define REMOVED_LAST 40        /* bytes */
#define REMOVED_MOST (1 << 20) /* bytes */

static int removed_open(const char *base, struct err *err)
{
	cleanup_close int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open checkpoint directory %s", base);
	return store_check_dir(fd, base, err) < 0 ? -1 : steal_fd(&fd);
}

static int removed_read(int basefd, struct history_tally *sum, char *last, struct err *err)
{
	cleanup_json json_t *root = NULL;
	struct err why;

	memset(sum, 0, sizeof(*sum));
	last[0] = '\0';
	root = json_read_at(basefd, REMOVED_FILE, REMOVED_MOST, REMOVED_FILE, &why);
	if (!root)
		return why.num == ENOENT ? 0 : err_set(err, why.num, "%s", why.text);
	return json_get_text(root, "last", last, REMOVED_LAST, err) < 0 ||
			       history_parse_tally(json_object_get(root, "tally"), sum, err) < 0
		       ? err_wrap(err, REMOVED_FILE " is damaged")
		       : 0;
}

int removed_load(const char *base, struct history_tally *sum, char *skip, struct err *err)
{
	cleanup_close int basefd = removed_open(base, err);

	return basefd < 0 ? -1 : removed_read(basefd, sum, skip, err);
}

static int removed_write(int basefd, const struct history_tally *sum, const char *last, struct err *err)
{
	cleanup_json json_t *root = json_pack("{s:s, s:o}", "last", last, "tally", history_render_tally(sum));
	cleanup_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	if (!text)
		return err_set(err, EINVAL, REMOVED_FILE " cannot be made");
	if (write_file_atomic(basefd, REMOVED_FILE, 0600, 0, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write " REMOVED_FILE);
	return 0;
}

int removed_add(const char *base, const char *name, struct err *err)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *path = xasprintf("%s/%s", base, name);
	cleanup_close int basefd = -1, fd = -1, lock = -1;
	struct history_tally sum;
	char last[REMOVED_LAST];

	if (history_load(path, false, h, err) < 0)
		return err->num == ENOENT ? 0 : -1;
	basefd = removed_open(base, err);
	fd = basefd < 0 ? -1 : store_open_dir(basefd, name, path, err);
	if (fd < 0)
		return -1;
	record_load(fd, path, r, NULL); /* a damaged record has the uuid "" */
	lock = openat(basefd, REMOVED_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return err_sys(err, errno, "cannot lock %s/" REMOVED_LOCK, base);
	if (removed_read(basefd, &sum, last, err) < 0)
		return -1;
	if (*r->uuid && strcmp(last, r->uuid) == 0)
		return 0;
	history_tally_add(&sum, &h->tally);
	return removed_write(basefd, &sum, r->uuid, err);
}
