/* userfaultfd used to track writes: pages are write-protected, and the first write to each page removes the protection
 * without a message to anybody (UFFD_FEATURE_WP_ASYNC, Linux 6.7). A userfaultfd belongs to the memory of the process
 * that called userfaultfd(), so a descriptor that was taken over from another process works on that process's memory.
 * All functions return 0, or -1 with errno. */
#ifndef FSCHED_CAPTURE_UFFD_H
#define FSCHED_CAPTURE_UFFD_H

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11: without it only privileged processes may call userfaultfd() */
#endif
#define UFFD_UNPOPULATED (1ULL << 13) /* UFFD_FEATURE_WP_UNPOPULATED, Linux 6.4 */
#define UFFD_ASYNC       (1ULL << 15) /* UFFD_FEATURE_WP_ASYNC */

static inline int uffd_begin(int fd)
{
	struct uffdio_api a = { .api = UFFD_API, .features = UFFD_UNPOPULATED | UFFD_ASYNC };

	return ioctl(fd, UFFDIO_API, &a);
}

/* A userfaultfd for the caller's own memory, ready to be used; -1 with errno. */
static inline int uffd_open_own(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || uffd_begin(fd) == 0)
		return fd;
	close(fd);
	return -1;
}

static inline int uffd_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register r = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_WP };

	return ioctl(fd, UFFDIO_REGISTER, &r);
}

static inline int uffd_unregister(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_range r = { start, end - start };

	return ioctl(fd, UFFDIO_UNREGISTER, &r);
}

#endif
