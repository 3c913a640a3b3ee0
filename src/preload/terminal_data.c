/* Part of libfsched-criu.so: the data in a pseudo-terminal, between the write at one end and the read at the other.
 *
 * criu reads them at both ends of each terminal in a dump, writes them back at the other ends in the same dump, and
 * writes them in a restore. It does so through the terminal's settings. So the job would get other data than it had:
 *
 * - Output would be processed once more ("\r\n" becomes "\r\r\n"), and input echoed once more.
 *
 * - A line that is not complete could not be read at all.
 *
 * - The end of file that was typed would end the reading.
 *
 * - In packet mode the kernel puts a byte before the data of each read.
 *
 * This file changes the settings for the time of such a call. The processes of the job do not run meanwhile. criu has
 * no other reason to read from a terminal or to write to one. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define MAJOR_SLAVE      136
#define MAJOR_SLAVE_LAST 143
#define ONE_WRITE        1024 /* fits into one buffer of the kernel's, which the line discipline takes as a whole */
#define READ_BUFFER      4095 /* of the line discipline */
#define LATE_MS          200
#define OPEN_TERMINAL    (O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)

struct terminal {
	int fd;
	bool master;
	struct termios t;
};

static long terminal_ioctl(int fd, unsigned request, void *arg)
{
	return raw_syscall(SYS_ioctl, fd, request, (long)arg, 0, 0, 0);
}

/* True if fd is an end of a pseudo-terminal in use. */
static bool terminal_get(struct terminal *x, int fd)
{
	struct statx st;
	int index;

	x->fd = fd;
	if (terminal_ioctl(fd, TCGETS, &x->t))
		return false;
	x->master = !terminal_ioctl(fd, TIOCGPTN, &index);
	return x->master ||
	       (preload_stat(fd, "", &st) && st.stx_rdev_major >= MAJOR_SLAVE && st.stx_rdev_major <= MAJOR_SLAVE_LAST);
}

static bool terminal_is_canonical(const struct termios *t)
{
	return (t->c_lflag & ICANON) && !(t->c_lflag & EXTPROC);
}

/* Another descriptor of a slave end that the job has open only for reading or only for writing. */
static long terminal_reopen(int fd)
{
	char link[PRELOAD_FD_LINK];

	preload_fd_link(fd, link);
	return raw_syscall(SYS_openat, AT_FDCWD, (long)link, OPEN_TERMINAL, 0, 0, 0);
}

/* ---- reading ------------------------------------------------------------------ */

static long terminal_read_master(const struct terminal *x, char *buf, size_t n)
{
	int packet = 0, off = 0;
	long got;

	terminal_ioctl(x->fd, TIOCGPKT, &packet);
	if (packet)
		terminal_ioctl(x->fd, TIOCPKT, &off);
	got = raw_syscall(SYS_read, x->fd, (long)buf, (long)n, 0, 0, 0);
	if (packet)
		terminal_ioctl(x->fd, TIOCPKT, &packet);
	return got;
}

static bool terminal_ends_line(const struct termios *t, char c)
{
	const cc_t k = (cc_t)c;

	return c == '\n' || (k && (k == t->c_cc[VEOL] || k == t->c_cc[VEOL2]));
}

/* The beginning of a line whose end has not been typed yet. */
static long terminal_read_beginning(const struct terminal *x, char *buf, size_t n)
{
	struct termios raw = x->t;
	long got;

	raw.c_lflag &= ~(tcflag_t)ICANON;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (terminal_ioctl(x->fd, TCSETS, &raw))
		return -EAGAIN;
	got = raw_syscall(SYS_read, x->fd, (long)buf, (long)n, 0, 0, 0);
	terminal_ioctl(x->fd, TCSETS, (void *)&x->t);
	return got;
}

/* Reads a line, and the beginning of the last one when there are no others. The kernel does not return the character
 * that stands for the end of file; it is added, so that the line ends there again when it is written. */
static long terminal_read_slave(const struct terminal *x, char *buf, size_t n)
{
	long got = raw_syscall(SYS_read, x->fd, (long)buf, (long)n, 0, 0, 0);

	if (!terminal_is_canonical(&x->t))
		return got;
	if (got == -EAGAIN)
		return terminal_read_beginning(x, buf, n);
	if (got < 0 || (size_t)got == n || !x->t.c_cc[VEOF] || (got > 0 && terminal_ends_line(&x->t, buf[got - 1])))
		return got;
	buf[got] = (char)x->t.c_cc[VEOF];
	return got + 1;
}

bool terminal_data_read(int fd, void *buf, size_t n, long *ret)
{
	struct terminal x;
	long again;

	if (!n || !terminal_get(&x, fd))
		return false;
	*ret = x.master ? terminal_read_master(&x, buf, n) : terminal_read_slave(&x, buf, n);
	if (*ret != -EBADF || x.master || (again = terminal_reopen(fd)) < 0)
		return true;
	x.fd = (int)again;
	*ret = terminal_read_slave(&x, buf, n);
	raw_syscall(SYS_close, again, 0, 0, 0, 0, 0);
	return true;
}

/* ---- writing ------------------------------------------------------------------ */

static long terminal_write_all(int fd, const char *buf, size_t n)
{
	size_t done = 0, piece;
	long ret;

	while (done < n) {
		/* The pieces are cut from the end: what was typed after the last complete line goes with that line. */
		piece = (n - done) % ONE_WRITE ? (n - done) % ONE_WRITE : ONE_WRITE;
		ret = raw_syscall(SYS_write, fd, (long)(buf + done), (long)piece, 0, 0, 0);
		if (ret <= 0)
			return done ? (long)done : ret;
		done += (size_t)ret;
	}
	return (long)done;
}

static long terminal_write_slave(const struct terminal *x, const char *buf, size_t n)
{
	struct termios plain = x->t;
	long ret;

	plain.c_oflag &= ~(tcflag_t)OPOST;
	ret = terminal_ioctl(x->fd, TCSETS, &plain);
	if (ret)
		return ret;
	ret = terminal_write_all(x->fd, buf, n);
	terminal_ioctl(x->fd, TCSETS, (void *)&x->t);
	return ret;
}

/* How much FIONREAD grows by these data. With lines it counts the complete ones, without ends of file. */
static int terminal_readable(const struct termios *t, const char *buf, size_t n)
{
	int all = 0, lines = 0;

	if (!terminal_is_canonical(t))
		return n > READ_BUFFER ? READ_BUFFER : (int)n;
	for (; n > 0; buf++, n--) {
		const bool end = t->c_cc[VEOF] && (cc_t)*buf == t->c_cc[VEOF];

		all += !end;
		if (end || terminal_ends_line(t, *buf))
			lines = all;
	}
	return lines;
}

/* Waits until the kernel has put into the buffer of the slave end what was written: it does that later, with the
 * settings of that time. poll() waits for it if the buffer is empty. Otherwise the lines become readable, and what
 * follows the last of them is added in the same step. */
static void terminal_await(int peer, int wanted)
{
	struct pollfd p = { .fd = peer, .events = POLLIN };
	const struct {
		long s, ns;
	} pause = { 0, 1000000 };
	int have = 0;

	raw_syscall(SYS_poll, (long)&p, 1, 0, 0, 0, 0);
	for (int i = 0; i < LATE_MS && !terminal_ioctl(peer, FIONREAD, &have) && have < wanted; i++)
		raw_syscall(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
}

/* IXON stays: packet mode would report the change. */
static struct termios terminal_unprocessed(const struct termios *t)
{
	struct termios u = *t;

	u.c_iflag &= IXON;
	u.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ISIG);
	u.c_cc[VERASE] = u.c_cc[VKILL] = u.c_cc[VWERASE] = u.c_cc[VREPRINT] = u.c_cc[VLNEXT] = 0;
	return u;
}

static long terminal_write_master(const struct terminal *x, const char *buf, size_t n)
{
	struct termios u = terminal_unprocessed(&x->t);
	long peer = raw_syscall(SYS_ioctl, x->fd, TIOCGPTPEER, OPEN_TERMINAL, 0, 0, 0), ret;
	int before = 0;

	if (peer < 0)
		return peer;
	terminal_ioctl((int)peer, FIONREAD, &before);
	ret = terminal_ioctl(x->fd, TCSETS, &u);
	if (!ret) {
		ret = terminal_write_all(x->fd, buf, n);
		if (ret > 0)
			terminal_await((int)peer, before + terminal_readable(&x->t, buf, (size_t)ret));
		terminal_ioctl(x->fd, TCSETS, (void *)&x->t);
	}
	raw_syscall(SYS_close, peer, 0, 0, 0, 0, 0);
	return ret;
}

bool terminal_data_write(int fd, const void *buf, size_t n, long *ret)
{
	struct terminal x;
	long again;

	if (!n || !terminal_get(&x, fd))
		return false;
	*ret = x.master ? terminal_write_master(&x, buf, n) : terminal_write_slave(&x, buf, n);
	if (*ret != -EBADF || x.master || (again = terminal_reopen(fd)) < 0)
		return true;
	x.fd = (int)again;
	*ret = terminal_write_slave(&x, buf, n);
	raw_syscall(SYS_close, again, 0, 0, 0, 0, 0);
	return true;
}
