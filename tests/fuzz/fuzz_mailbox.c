/* Puts messages into a mailbox, and takes from it what a worker has kept for the next worker. The input is a list of
 * messages: one byte with the number of descriptors, two bytes with the length, and the data. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "capture/kept_tracking.h"
#include "fuzz.h"

#define MESSAGES_MAX 8

/* The lowest free descriptor. It is the same before and after, or a descriptor was left open. */
static int free_number(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static void put_all(const struct mailbox *m, const uint8_t *data, size_t size, int own)
{
	int fds[256];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = own;
	for (int i = 0; i < MESSAGES_MAX && size >= 3; i++) {
		size_t n_fds = data[0], len = (size_t)data[1] | (size_t)data[2] << 8;

		len = len < size - 3 ? len : size - 3;
		if (mailbox_put(m, data + 3, len, fds, n_fds) == 0 && n_fds > MAILBOX_FDS)
			abort();
		data += 3 + len;
		size -= 3 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mailbox m;
	static int own, number;
	struct kept_tracking f;

	if (!own) {
		/* Not a socket, because for sockets in messages the kernel runs a garbage collector, which is slow. */
		own = memfd_create("fuzz", MFD_CLOEXEC);
		if (own < 0 || mailbox_make(&m))
			abort();
		number = free_number();
	}
	put_all(&m, data, size, own);
	kept_tracking_take(&m, &f);
	for (size_t i = 0; i < f.n; i++)
		if (fcntl(f.v[i].pidfd, F_GETFD) != FD_CLOEXEC || fcntl(f.v[i].uffd, F_GETFD) != FD_CLOEXEC)
			abort();
	kept_tracking_free(&f);
	/* The mailbox is empty now, and what is put next is found. */
	const struct mem_tracked one = { .host = 7, .id = 9, .pidfd = own, .uffd = own };
	kept_tracking_put(&m, 5, &one, 1);
	kept_tracking_take(&m, &f);
	if (f.n != 1 || f.epoch != 5 || f.v[0].host != 7 || f.v[0].id != 9)
		abort();
	kept_tracking_free(&f);
	if (free_number() != number)
		abort();
	return 0;
}
