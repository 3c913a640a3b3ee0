/* aio: has a context of io_setup(2) with an event that nobody has fetched, of a read of its own file. Prints "ready",
 * and when the file "stop" is there fetches the event, reads once more and prints how many errors there were. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>

#include "workload.h"

#define TEXT "the content of the file"

static char buf[64];

static void submit(aio_context_t ctx, int fd, uint64_t tag)
{
	struct iocb cb = { .aio_data = tag,
			   .aio_lio_opcode = IOCB_CMD_PREAD,
			   .aio_fildes = (uint32_t)fd,
			   .aio_buf = (uintptr_t)buf,
			   .aio_nbytes = sizeof(buf) };
	struct iocb *list[] = { &cb };

	if (syscall(SYS_io_submit, ctx, 1, list) != 1)
		die("io_submit");
}

/* Returns 1 if the next event is not that of the read with this tag. */
static int wrong(aio_context_t ctx, uint64_t tag)
{
	struct io_event e = { 0 };
	struct timespec limit = { .tv_sec = 5 };
	long n = syscall(SYS_io_getevents, ctx, 1, 1, &e, &limit);

	if (n == 1 && e.data == tag && e.res == sizeof(TEXT) && !strcmp(buf, TEXT))
		return 0;
	printf("read %llu: %ld events, tag %llu, result %lld, %s\n", (unsigned long long)tag, n,
	       (unsigned long long)e.data, (long long)e.res, buf);
	return 1;
}

int main(void)
{
	struct timespec nap = { .tv_nsec = 50000000 };
	int fd = open("data", O_RDWR | O_CREAT, 0600), bad;
	aio_context_t ctx = 0;

	if (fd < 0 || write(fd, TEXT, sizeof(TEXT)) != sizeof(TEXT) || syscall(SYS_io_setup, 16, &ctx))
		die("io_setup");
	submit(ctx, fd, 1);
	printf("ready\n");
	fflush(stdout);
	while (access("stop", F_OK))
		nanosleep(&nap, NULL);
	bad = wrong(ctx, 1);
	memset(buf, 0, sizeof(buf));
	submit(ctx, fd, 2);
	bad += wrong(ctx, 2);
	printf("errors %d\n", bad);
	return bad != 0;
}
