/* userfaultfd as a way to notice writes: pages are protected, the first write to each takes the protection away,
 * without anybody being asked (UFFD_FEATURE_WP_ASYNC, Linux 6.7). It works on the descriptor of another process's
 * memory too: the memory is that of the process that called userfaultfd(). All: 0 or -1 with errno. */
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

/* Of the caller's own memory, ready to be used; -1 with errno. */
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
