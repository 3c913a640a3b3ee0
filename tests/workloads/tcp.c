/* tcp [STREAMS]: two processes with TCP connections between them over the loopback, half of them IPv6, that check every
 * byte: streams in both directions whose writers are faster than their readers, so that all queues are full; requests
 * and replies; one connection that each end has closed for writing (FIN_WAIT2 and CLOSE_WAIT; over the first the other
 * end goes on to write); a listening socket that is used at the end. Runs until the file "stop" exists; prints "ready"
 * and, at the end, how many errors there were; exits with 0 if there were none. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "workload.h"

#define WORDS       2048
#define END         UINT64_MAX
#define STREAMS_MAX 64

enum kind { STREAM, REQUESTS, HALF_A, HALF_B, N_KINDS };
struct line {
	int sk;
	enum kind kind;
	uint64_t id;
	bool parent;
};

static volatile int errors;
static const char *who;

static void wrong(const struct line *l, const char *what)
{
	printf("%s: connection %llu: %s: %s\n", who, (unsigned long long)l->id, what, strerror(errno));
	fflush(stdout);
	__atomic_add_fetch(&errors, 1, __ATOMIC_SEQ_CST);
}

static bool stopped(void)
{
	return access("stop", F_OK) == 0;
}

static uint64_t word(const struct line *l, bool by_parent, uint64_t n)
{
	return mix(mix(l->id * 2 + by_parent, n), 7) >> 1;
}

static bool put(const struct line *l, const void *p, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(l->sk, (const char *)p + done, len - done);

		if (n <= 0) {
			wrong(l, "write");
			return false;
		}
		done += (size_t)n;
	}
	return true;
}

/* 1, 0 at the end, -1. */
static int get(const struct line *l, void *p, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(l->sk, (char *)p + done, len - done);

		if (n == 0 && done == 0)
			return 0;
		if (n <= 0) {
			wrong(l, n ? "read" : "cut off");
			return -1;
		}
		done += (size_t)n;
	}
	return 1;
}

/* Words, END, and how many there were. trickle: one at a time. */
static void write_words(const struct line *l, bool trickle)
{
	static const size_t most = WORDS;
	uint64_t buf[WORDS], n = 0;
	size_t k = trickle ? 1 : most;

	while (!stopped()) {
		for (size_t i = 0; i < k; i++)
			buf[i] = word(l, l->parent, n++);
		if (!put(l, buf, k * sizeof(*buf)))
			return;
		if (trickle)
			usleep(5000);
	}
	buf[0] = END;
	buf[1] = n;
	put(l, buf, 2 * sizeof(*buf));
}

/* Behind END there are the number of words and the end of the stream. */
static void read_words(const struct line *l)
{
	uint64_t buf[WORDS], n = 0, ended = 0, count = 0;
	size_t have = 0;
	ssize_t got;

	while ((got = read(l->sk, (char *)buf + have, sizeof(buf) - have)) > 0) {
		have += (size_t)got;
		for (size_t i = 0; i < have / sizeof(*buf); i++) {
			if (ended)
				count = ended++ == 1 ? buf[i] : n + 1;
			else if (buf[i] == END)
				ended = 1;
			else if (buf[i] != word(l, !l->parent, n++)) {
				wrong(l, "other bytes");
				return;
			}
		}
		memmove(buf, (char *)buf + have / sizeof(*buf) * sizeof(*buf), have % sizeof(*buf));
		have %= sizeof(*buf);
		if (!stopped())
			usleep(1000);
	}
	if (got < 0)
		wrong(l, "read");
	else if (ended != 2 || count != n || have)
		wrong(l, "cut off");
}

static void *writer(void *arg)
{
	const struct line *l = arg;

	write_words(l, l->kind == HALF_A);
	shutdown(l->sk, SHUT_WR);
	return NULL;
}

static void *reader(void *arg)
{
	read_words(arg);
	return NULL;
}

static void *requests(void *arg)
{
	const struct line *l = arg;
	uint64_t n, reply, last = 0;

	if (l->parent) {
		while (get(l, &n, sizeof(n)) > 0) {
			reply = word(l, true, n);
			if (n != last++)
				wrong(l, "another request");
			if (!put(l, &reply, sizeof(reply)))
				break;
		}
		return NULL;
	}
	for (n = 0; !stopped(); n++) {
		if (!put(l, &n, sizeof(n)) || get(l, &reply, sizeof(reply)) != 1)
			break;
		if (reply != word(l, true, n))
			wrong(l, "another reply");
		if (n % 64 == 0)
			usleep(1000);
	}
	shutdown(l->sk, SHUT_WR);
	return NULL;
}

/* What the end that has closed its side had written before lies unread until the end. */
static void *unread(void *arg)
{
	struct line *l = arg;
	char buf[1000];

	while (!stopped())
		usleep(20000);
	for (int i = 0; i < 2; i++)
		if (get(l, buf, 500) != 1 || buf[0] != 'a' + i)
			wrong(l, "what lay unread");
	if (get(l, buf, 1) != 0)
		wrong(l, "no end of it");
	return NULL;
}

static void close_half(const struct line *l)
{
	char buf[500];

	for (int i = 0; i < 2; i++) {
		memset(buf, 'a' + i, sizeof(buf));
		put(l, buf, sizeof(buf));
	}
	shutdown(l->sk, SHUT_WR);
}

static int start(struct line *l, pthread_t *t)
{
	const bool closes = l->kind == HALF_A ? !l->parent : l->parent;
	int n = 0;

	switch (l->kind) {
	case STREAM:
		pthread_create(&t[n++], NULL, writer, l);
		pthread_create(&t[n++], NULL, reader, l);
		break;
	case REQUESTS: pthread_create(&t[n++], NULL, requests, l); break;
	default:
		if (closes)
			close_half(l);
		/* HALF_A: written on by the other end; HALF_B: nothing moves. */
		if (l->kind == HALF_A)
			pthread_create(&t[n++], NULL, closes ? reader : writer, l);
		if (!closes)
			pthread_create(&t[n++], NULL, unread, l);
	}
	return n;
}

static int listen_at(int family, struct sockaddr_storage *a, socklen_t *len)
{
	struct sockaddr_in6 *v6 = (void *)a;
	struct sockaddr_in *v4 = (void *)a;
	int sk = socket(family, SOCK_STREAM, 0), one = 1;

	memset(a, 0, sizeof(*a));
	a->ss_family = (sa_family_t)family;
	*len = family == AF_INET ? sizeof(*v4) : sizeof(*v6);
	if (family == AF_INET)
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		v6->sin6_addr = in6addr_loopback;
	if (sk < 0 || setsockopt(sk, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) || bind(sk, (void *)a, *len) ||
	    listen(sk, 64) || getsockname(sk, (void *)a, len))
		die("listen");
	return sk;
}

static int join(int listener, const struct sockaddr_storage *a, socklen_t len, bool parent)
{
	int sk = parent ? accept(listener, NULL, NULL) : socket(a->ss_family, SOCK_STREAM, 0);

	if (sk < 0 || (!parent && connect(sk, (const void *)a, len)))
		die(parent ? "accept" : "connect");
	return sk;
}

static void use_listener(int listener, const struct sockaddr_storage *a, socklen_t len, bool parent)
{
	struct line l = { join(listener, a, len, parent), STREAM, 1000, parent };
	char c = 'x';

	if (parent ? get(&l, &c, 1) != 1 || !put(&l, &c, 1) : !put(&l, &c, 1) || get(&l, &c, 1) != 1)
		wrong(&l, "the listening socket");
}

int main(int argc, char **argv)
{
	int n_streams = argc > 1 ? atoi(argv[1]) : 4, n = 0, n_threads = 0, listeners[2], status = 0;
	struct line lines[STREAMS_MAX + N_KINDS];
	pthread_t threads[2 * (STREAMS_MAX + N_KINDS)];
	struct sockaddr_storage a[2];
	socklen_t len[2];
	bool parent;
	pid_t child;

	signal(SIGPIPE, SIG_IGN);
	listeners[0] = listen_at(AF_INET, &a[0], &len[0]);
	listeners[1] = listen_at(AF_INET6, &a[1], &len[1]);
	child = fork();
	parent = child != 0;
	who = parent ? "parent" : "child";
	for (int i = 0; i < n_streams + 3 && i < STREAMS_MAX + 3; i++) {
		enum kind kind = i < n_streams ? STREAM : (enum kind)(REQUESTS + i - n_streams);

		lines[n++] = (struct line){ join(listeners[i % 2], &a[i % 2], len[i % 2], parent), kind, (uint64_t)i,
					    parent };
	}
	for (int i = 0; i < n; i++)
		n_threads += start(&lines[i], threads + n_threads);
	printf("ready\n");
	fflush(stdout);
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	while (!stopped())
		usleep(10000);
	for (int i = 0; i < 2; i++)
		use_listener(listeners[i], &a[i], len[i], parent);
	if (!parent)
		return errors != 0;
	waitpid(child, &status, 0);
	errors += status != 0;
	printf("errors %d\n", errors);
	return errors != 0;
}
