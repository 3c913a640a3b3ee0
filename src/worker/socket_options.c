/* Options of sockets that criu does not save. They are the member "options" of an epoch's manifest:
 *
 *   [{"pid", "fd",                                of one descriptor of the socket, in the pod
 *     "set": {"TCP_USER_TIMEOUT": "28230000"}}…]  what getsockopt(2) returned, in hexadecimal
 *
 * Only values are noted that a new socket of the same kind does not have. All options are read that say something about
 * how the socket is to behave, and not about what has happened to it, also those that criu saves: another version may
 * not. A restore sets those that have another value then, when all processes exist and none runs. Whatever an option
 * needs, the job had it, and the manifest is signed.
 *
 * The source of the names is socket(7), ip(7), ipv6(7), tcp(7), udp(7) and linux/include/uapi. */
#include "worker/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/util.h"

#define VALUE_MAX 64 /* bytes of a value */

/* A kind of sockets, as a new one of which sockets are compared with. */
struct kind {
	int domain, type, protocol;
};

struct value {
	unsigned len; /* 0: the socket does not have the option */
	uint8_t bytes[VALUE_MAX];
};

#define NAMED(level, name) #name, level, name

static const struct option {
	const char *name;
	int level, number;
	bool no_streams; /* only of datagram sockets */
} options[] = {
	{ NAMED(SOL_SOCKET, SO_REUSEADDR) },
	{ NAMED(SOL_SOCKET, SO_REUSEPORT) },
	{ NAMED(SOL_SOCKET, SO_DONTROUTE) },
	{ NAMED(SOL_SOCKET, SO_BROADCAST) },
	{ NAMED(SOL_SOCKET, SO_KEEPALIVE) },
	{ NAMED(SOL_SOCKET, SO_OOBINLINE) },
	{ NAMED(SOL_SOCKET, SO_NO_CHECK) },
	{ NAMED(SOL_SOCKET, SO_PRIORITY) },
	{ NAMED(SOL_SOCKET, SO_LINGER) },
	{ NAMED(SOL_SOCKET, SO_PASSCRED) },
	{ NAMED(SOL_SOCKET, SO_RCVLOWAT) },
	{ NAMED(SOL_SOCKET, SO_RCVTIMEO) },
	{ NAMED(SOL_SOCKET, SO_SNDTIMEO) },
	{ NAMED(SOL_SOCKET, SO_TIMESTAMP) },
	{ NAMED(SOL_SOCKET, SO_PASSSEC) },
	{ NAMED(SOL_SOCKET, SO_TIMESTAMPNS) },
	{ NAMED(SOL_SOCKET, SO_TIMESTAMPING) },
	{ NAMED(SOL_SOCKET, SO_RXQ_OVFL) },
	{ NAMED(SOL_SOCKET, SO_WIFI_STATUS) },
	{ NAMED(SOL_SOCKET, SO_PEEK_OFF) },
	{ NAMED(SOL_SOCKET, SO_NOFCS) },
	{ NAMED(SOL_SOCKET, SO_SELECT_ERR_QUEUE) },
	{ NAMED(SOL_SOCKET, SO_BUSY_POLL) },
	{ NAMED(SOL_SOCKET, SO_MAX_PACING_RATE) },
	{ NAMED(SOL_SOCKET, SO_ZEROCOPY) },
	{ NAMED(SOL_SOCKET, SO_TXTIME) },
	{ NAMED(SOL_SOCKET, SO_PREFER_BUSY_POLL) },
	{ NAMED(SOL_SOCKET, SO_BUSY_POLL_BUDGET) },
	{ NAMED(IPPROTO_IP, IP_TOS) },
	{ NAMED(IPPROTO_IP, IP_TTL) },
	{ NAMED(IPPROTO_IP, IP_RECVOPTS) },
	{ NAMED(IPPROTO_IP, IP_RETOPTS) },
	{ NAMED(IPPROTO_IP, IP_PKTINFO) },
	{ NAMED(IPPROTO_IP, IP_MTU_DISCOVER) },
	{ NAMED(IPPROTO_IP, IP_RECVERR) },
	{ NAMED(IPPROTO_IP, IP_RECVTTL) },
	{ NAMED(IPPROTO_IP, IP_RECVTOS) },
	{ NAMED(IPPROTO_IP, IP_FREEBIND) },
	{ NAMED(IPPROTO_IP, IP_PASSSEC) },
	{ NAMED(IPPROTO_IP, IP_TRANSPARENT) },
	{ NAMED(IPPROTO_IP, IP_RECVORIGDSTADDR) },
	{ NAMED(IPPROTO_IP, IP_MINTTL) },
	{ NAMED(IPPROTO_IP, IP_NODEFRAG) },
	{ NAMED(IPPROTO_IP, IP_CHECKSUM) },
	{ NAMED(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT) },
	{ NAMED(IPPROTO_IP, IP_RECVFRAGSIZE) },
	{ NAMED(IPPROTO_IP, IP_RECVERR_RFC4884) },
	{ NAMED(IPPROTO_IP, IP_MULTICAST_TTL), .no_streams = true },
	{ NAMED(IPPROTO_IP, IP_MULTICAST_LOOP), .no_streams = true },
	{ NAMED(IPPROTO_IP, IP_MULTICAST_ALL), .no_streams = true },
	{ NAMED(IPPROTO_IPV6, IPV6_UNICAST_HOPS) },
	{ NAMED(IPPROTO_IPV6, IPV6_MULTICAST_HOPS), .no_streams = true },
	{ NAMED(IPPROTO_IPV6, IPV6_MULTICAST_LOOP), .no_streams = true },
	{ NAMED(IPPROTO_IPV6, IPV6_MTU_DISCOVER) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVERR) },
	{ NAMED(IPPROTO_IPV6, IPV6_MULTICAST_ALL), .no_streams = true },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVERR_RFC4884) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVPKTINFO) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVHOPLIMIT) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVRTHDR) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVPATHMTU) },
	{ NAMED(IPPROTO_IPV6, IPV6_DONTFRAG) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVTCLASS) },
	{ NAMED(IPPROTO_IPV6, IPV6_TCLASS) },
	{ NAMED(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES) },
	{ NAMED(IPPROTO_IPV6, IPV6_MINHOPCOUNT) },
	{ NAMED(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR) },
	{ NAMED(IPPROTO_IPV6, IPV6_FREEBIND) },
	{ NAMED(IPPROTO_TCP, TCP_NODELAY) },
	{ NAMED(IPPROTO_TCP, TCP_CORK) },
	{ NAMED(IPPROTO_TCP, TCP_KEEPIDLE) },
	{ NAMED(IPPROTO_TCP, TCP_KEEPINTVL) },
	{ NAMED(IPPROTO_TCP, TCP_KEEPCNT) },
	{ NAMED(IPPROTO_TCP, TCP_SYNCNT) },
	{ NAMED(IPPROTO_TCP, TCP_LINGER2) },
	{ NAMED(IPPROTO_TCP, TCP_DEFER_ACCEPT) },
	{ NAMED(IPPROTO_TCP, TCP_CONGESTION) },
	{ NAMED(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS) },
	{ NAMED(IPPROTO_TCP, TCP_USER_TIMEOUT) },
	{ NAMED(IPPROTO_TCP, TCP_FASTOPEN) },
	{ NAMED(IPPROTO_TCP, TCP_NOTSENT_LOWAT) },
	{ NAMED(IPPROTO_TCP, TCP_SAVE_SYN) },
	{ NAMED(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE) },
	{ NAMED(IPPROTO_TCP, TCP_INQ) },
	{ NAMED(IPPROTO_TCP, TCP_TX_DELAY) },
	{ NAMED(IPPROTO_UDP, UDP_NO_CHECK6_TX) },
	{ NAMED(IPPROTO_UDP, UDP_NO_CHECK6_RX) },
	{ NAMED(IPPROTO_UDP, UDP_SEGMENT) },
	{ NAMED(IPPROTO_UDP, UDP_GRO) },
};

static bool options_get(int sk, const struct option *o, struct value *v)
{
	socklen_t len = sizeof(v->bytes);

	memset(v, 0, sizeof(*v));
	if (getsockopt(sk, o->level, o->number, v->bytes, &len))
		return false;
	v->len = len;
	return true;
}

static bool options_get_int(int sk, int number, int *value)
{
	socklen_t len = sizeof(*value);

	return getsockopt(sk, SOL_SOCKET, number, value, &len) == 0;
}

/* ---- reading ---------------------------------------------------------------- */

struct reader {
	json_t *list;
	unsigned unread; /* UDP sockets with datagrams that nobody has read */
	void *seen;      /* a tree of numbers of sockets that have been looked at */
	struct {
		struct kind kind;
		struct value values[ARRAY_SIZE(options)];
	} * new; /* what new sockets have */
	size_t n_new, room;
};

static int options_compare_inodes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* False if it has been looked at before. */
static bool options_note_seen(struct reader *r, uint64_t ino)
{
	uint64_t *key = xmalloc(sizeof(*key));
	void *node;

	*key = ino;
	node = tsearch(key, &r->seen, options_compare_inodes);
	if (node && *(uint64_t **)node == key)
		return true;
	free(key);
	return false;
}

/* The values of a new socket of this kind. NULL: none can be made. */
static const struct value *options_of_new(struct reader *r, const struct kind *k)
{
	cleanup_close int sk = -1;

	for (size_t i = 0; i < r->n_new; i++)
		if (!memcmp(&r->new[i].kind, k, sizeof(*k)))
			return r->new[i].values;
	sk = socket(k->domain, k->type | SOCK_CLOEXEC, k->protocol);
	if (sk < 0)
		return NULL;
	array_reserve(r->new, r->n_new, r->room);
	r->new[r->n_new].kind = *k;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		options_get(sk, &options[i], &r->new[r->n_new].values[i]);
	return r->new[r->n_new++].values;
}

static bool options_apply_to(const struct option *o, const struct kind *k)
{
	if (o->no_streams && k->type == SOCK_STREAM)
		return false;
	switch (o->level) {
	case SOL_SOCKET: return true;
	case IPPROTO_IP: return k->domain == AF_INET;
	case IPPROTO_IPV6: return k->domain == AF_INET6;
	default: return k->domain != AF_UNIX && k->protocol == o->level;
	}
}

static json_t *options_hex(const struct value *v)
{
	char text[2 * VALUE_MAX + 1] = "";

	for (unsigned i = 0; i < v->len; i++)
		snprintf(text + (size_t)2 * i, 3, "%02x", v->bytes[i]);
	return json_string(text);
}

/* Returns the options of the socket that a new one does not have. */
static json_t *options_read_socket(struct reader *r, int sk)
{
	const struct value *normal;
	json_t *set = json_object();
	struct kind k = { 0 };
	struct value v;
	int bytes = 0;

	if (!options_get_int(sk, SO_DOMAIN, &k.domain) || !options_get_int(sk, SO_TYPE, &k.type) ||
	    !options_get_int(sk, SO_PROTOCOL, &k.protocol) ||
	    (k.domain != AF_INET && k.domain != AF_INET6 && k.domain != AF_UNIX))
		return set;
	if (k.protocol == IPPROTO_UDP && ioctl(sk, FIONREAD, &bytes) == 0 && bytes > 0)
		r->unread++;
	normal = options_of_new(r, &k);
	for (size_t i = 0; normal && i < ARRAY_SIZE(options); i++)
		if (options_apply_to(&options[i], &k) && options_get(sk, &options[i], &v) &&
		    memcmp(&v, &normal[i], sizeof(v)))
			json_object_set_new(set, options[i].name, options_hex(&v));
	return set;
}

static void options_read_descriptor(struct reader *r, pid_t inner, int pidfd, int fd)
{
	cleanup_close int sk = pidfd_getfd(pidfd, fd, 0);
	cleanup_json json_t *set = sk < 0 ? NULL : options_read_socket(r, sk);

	if (json_object_size(set))
		json_array_append_new(r->list, json_pack("{s:i, s:i, s:O}", "pid", (int)inner, "fd", fd, "set", set));
}

static void options_read_process(struct reader *r, pid_t host, pid_t inner)
{
	cleanup_close int pidfd = -1;
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64], link[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)host);
	d = opendir(path);
	while (d && dir_next(d, &e) > 0) {
		const ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);
		unsigned long long ino;

		link[n > 0 ? n : 0] = '\0';
		if (sscanf(link, "socket:[%llu]", &ino) != 1 || !options_note_seen(r, ino))
			continue;
		if (pidfd < 0)
			pidfd = pidfd_open(host, 0);
		if (pidfd >= 0)
			options_read_descriptor(r, inner, pidfd, atoi(e->d_name));
	}
}

json_t *socket_options_read(struct worker *w, const struct tree *t)
{
	struct reader r = { .list = json_array() };

	for (int i = 0; i < t->n; i++)
		options_read_process(&r, t->pids[i], t->inner[i]);
	if (r.unread)
		worker_warn(w,
			    "datagrams that %u UDP sockets have received and nobody has read yet are lost at a restart",
			    r.unread);
	tdestroy(r.seen, free);
	free(r.new);
	return r.list;
}

/* ---- setting ---------------------------------------------------------------- */

/* False: it is no value of at most VALUE_MAX bytes. */
static bool options_parse(const char *text, struct value *v)
{
	const size_t n = text ? strlen(text) : 0;
	char digits[3] = "", *end;

	memset(v, 0, sizeof(*v));
	if (!n || n % 2 || n > sizeof(v->bytes) * 2)
		return false;
	for (v->len = 0; v->len < n / 2; v->len++) {
		memcpy(digits, text + (size_t)2 * v->len, 2);
		v->bytes[v->len] = (uint8_t)strtoul(digits, &end, 16);
		if (*end)
			return false;
	}
	return true;
}

static const struct option *options_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	return NULL;
}

/* 0, or -1 with errno. */
static int options_set_one(int sk, const struct option *o, const json_t *value)
{
	struct value want, now;

	if (!o || !options_parse(json_string_value(value), &want)) {
		errno = EBADMSG;
		return -1;
	}
	if (options_get(sk, o, &now) && !memcmp(&now, &want, sizeof(now)))
		return 0;
	return setsockopt(sk, o->level, o->number, want.bytes, want.len);
}

static void options_set_socket(struct worker *w, const struct tree *t, const json_t *o)
{
	const pid_t host = tree_host_of(t, (uint64_t)json_integer_value(json_object_get(o, "pid")));
	const int fd = (int)json_integer_value(json_object_get(o, "fd"));
	cleanup_close int pidfd = host > 0 ? pidfd_open(host, 0) : -1;
	cleanup_close int sk = pidfd < 0 ? -1 : pidfd_getfd(pidfd, fd, 0);
	char who[PROC_DESCRIBED];
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(o, "set"), name, value)
		if (sk < 0 || options_set_one(sk, options_find(name), value))
			worker_warn(w, "%.60s of the socket %d of %s is not restored: %s", name, fd,
				    proc_describe(host, who, sizeof(who)), strerror(errno));
}

bool socket_options_any(const json_t *list)
{
	return json_array_size(list) > 0;
}

int socket_options_set(struct worker *w, pid_t init, const json_t *list, struct err *err)
{
	struct tree t;
	json_t *o;
	size_t i;

	if (!socket_options_any(list))
		return 0;
	if (tree_read(init, &t, err))
		return -1;
	json_array_foreach(list, i, o)
		options_set_socket(w, &t, o);
	tree_free(&t);
	return 0;
}
