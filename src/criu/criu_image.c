#include "criu/criu_image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"

#define FIRST_MAX (4u << 20)
#define MM_MAX    (64u << 20)  /* some 50 bytes per mapping */
#define EACH_MAX  (256u << 20) /* some 100 bytes per open file */

int criu_message_next(const uint8_t **p, size_t *len, struct criu_message *m)
{
	if (*len < sizeof(m->len))
		return -1;
	memcpy(&m->len, *p, sizeof(m->len));
	if (m->len > *len - sizeof(m->len))
		return -1;
	m->v = *p + sizeof(m->len);
	*p = m->v + m->len;
	*len -= sizeof(m->len) + m->len;
	return 0;
}

int criu_image_check(const uint8_t **p, size_t *len, uint32_t first, uint32_t magic)
{
	uint32_t word[2];

	if (*len < sizeof(word))
		return -1;
	memcpy(word, *p, sizeof(word));
	if (word[0] != first || word[1] != magic)
		return -1;
	*p += sizeof(word);
	*len -= sizeof(word);
	return 0;
}

int criu_image_first(int dirfd, const char *name, uint32_t first, uint32_t magic, char **buf, struct criu_message *m)
{
	ssize_t n = read_file_at(dirfd, name, magic == CRIU_MAGIC_MM ? MM_MAX : FIRST_MAX, buf);
	const uint8_t *p = (const uint8_t *)*buf;
	size_t len = (size_t)n;

	if (n < 0)
		return -1;
	if (criu_image_check(&p, &len, first, magic) == 0 && criu_message_next(&p, &len, m) == 0)
		return 0;
	free(*buf);
	*buf = NULL;
	errno = EBADMSG;
	return -1;
}

int criu_image_each(int dirfd, const char *name, uint32_t magic, int (*each)(void *arg, const uint8_t *msg, size_t len),
		    void *arg)
{
	cleanup_free char *buf = NULL;
	ssize_t n = read_file_at(dirfd, name, EACH_MAX, &buf);
	const uint8_t *p = (const uint8_t *)buf;
	size_t len = (size_t)n;
	struct criu_message m;

	if (n < 0)
		return -1;
	errno = EBADMSG;
	if (criu_image_check(&p, &len, CRIU_MAGIC_COMMON, magic))
		return -1;
	while (len > 0) {
		errno = EBADMSG;
		if (criu_message_next(&p, &len, &m) || each(arg, m.v, m.len))
			return -1;
	}
	return 0;
}

void criu_image_put_word(struct criu_image_buffer *b, uint32_t word)
{
	array_reserve_more(b->v, b->n, sizeof(word), b->room);
	memcpy(b->v + b->n, &word, sizeof(word));
	b->n += sizeof(word);
}

uint8_t *criu_image_put_message(struct criu_image_buffer *b, size_t len)
{
	uint8_t *at;

	criu_image_put_word(b, (uint32_t)len);
	array_reserve_more(b->v, b->n, len, b->room);
	at = b->v + b->n;
	b->n += len;
	return at;
}

int criu_image_write(int dirfd, const char *name, int flags, const struct criu_image_buffer *b)
{
	cleanup_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | flags, 0600);

	return fd < 0 || write_all(fd, b->v, b->n) ? -1 : 0;
}

pid_t criu_image_pid(const char *name, const char *prefix)
{
	const size_t n = strlen(prefix);
	char *end;
	long pid;

	if (strncmp(name, prefix, n) || name[n] < '0' || name[n] > '9')
		return 0;
	pid = strtol(name + n, &end, 10);
	return strcmp(end, ".img") || pid <= 0 || pid > INT_MAX ? 0 : (pid_t)pid;
}
