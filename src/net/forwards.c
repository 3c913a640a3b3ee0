#include "net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/io.h"
#include "base/slurmconf.h"
#include "base/util.h"

#define RESOLV_CONF     "/etc/resolv.conf"
#define RESOLV_MAX      (1 << 20)
#define DNS_PORT        53
#define SLURMCTLD_PORT  6817
#define SLURMCTLD_PORTS 8 /* at most, of a range */

static bool forwards_is_loopback(uint32_t address)
{
	return address >> 24 == 127;
}

/* A port of the same address is forwarded once, and one of the node's loopback for one service. */
static void forwards_add(struct net_forwards *f, bool udp, uint16_t port, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct net_forward *v = &f->v[i];

		if (v->udp == udp && v->port == port &&
		    (v->from == from || (v->to != to && forwards_is_loopback(v->to) && forwards_is_loopback(to))))
			return;
	}
	if (f->n < ARRAY_SIZE(f->v))
		f->v[f->n++] = (struct net_forward){ udp, port, from, to };
}

/* ---- name servers --------------------------------------------------------- */

static void forwards_add_dns(struct net_forwards *f)
{
	cleanup_close int fd = open(RESOLV_CONF, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	char *save = NULL, server[64];
	struct in_addr in;

	if (fd < 0 || read_all(fd, RESOLV_MAX, &text) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, " nameserver %63s", server) != 1 || inet_pton(AF_INET, server, &in) != 1 ||
		    !forwards_is_loopback(ntohl(in.s_addr)))
			continue;
		forwards_add(f, true, DNS_PORT, ntohl(in.s_addr), ntohl(in.s_addr));
		forwards_add(f, false, DNS_PORT, ntohl(in.s_addr), ntohl(in.s_addr));
	}
}

/* ---- slurmctld -------------------------------------------------------------- */

struct controllers {
	struct net_forwards *f;
	const char *hostname; /* the job's */
	uint32_t address;
	unsigned first, last; /* ports */
};

static bool forwards_same_host(const char *a, const char *b)
{
	const size_t n = strcspn(a, ".");

	return n && n == strcspn(b, ".") && !strncasecmp(a, b, n);
}

/* Only names that are looked up at once: of this node, and of the node whose name the job has. */
static bool forwards_resolve(const struct controllers *c, const char *host, uint32_t *address)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST },
			*ai = NULL;
	char node[65] = "";

	gethostname(node, sizeof(node) - 1);
	if (forwards_same_host(host, node) || forwards_same_host(host, c->hostname) || !strcasecmp(host, "localhost"))
		hints.ai_flags = 0;
	if (getaddrinfo(host, NULL, &hints, &ai) != 0 || !ai)
		return false;
	*address = ntohl(((const struct sockaddr_in *)(const void *)ai->ai_addr)->sin_addr.s_addr);
	freeaddrinfo(ai);
	return true;
}

/* value: NAME or NAME(ADDRESS). */
static void forwards_add_controller(const char *value, void *arg)
{
	const struct controllers *c = arg;
	char host[256], *open;
	uint32_t to;

	snprintf(host, sizeof(host), "%s", value);
	open = strchr(host, '(');
	if (open) {
		memmove(host, open + 1, strlen(open));
		host[strcspn(host, ")")] = '\0';
	}
	if (!forwards_resolve(c, host, &to))
		return;
	for (unsigned port = c->first; port <= c->last; port++) {
		if (forwards_is_loopback(to))
			forwards_add(c->f, false, (uint16_t)port, to, to);
		/* In the pod this name has the pod's address. */
		if (forwards_same_host(host, c->hostname))
			forwards_add(c->f, false, (uint16_t)port, c->address, to);
	}
}

void net_forwards_find(struct net_forwards *f, const char *hostname, uint32_t address)
{
	const char *conf = slurmconf_path();
	cleanup_free char *ports = slurmconf_value(conf, "SlurmctldPort");
	struct controllers c = { f, hostname, address, SLURMCTLD_PORT, SLURMCTLD_PORT };
	int n = ports ? sscanf(ports, "%u-%u", &c.first, &c.last) : 0;

	f->n = 0;
	forwards_add_dns(f);
	if (n == 1)
		c.last = c.first;
	if (n && (c.first < 1 || c.last > 65535 || c.last < c.first || c.last - c.first >= SLURMCTLD_PORTS))
		return;
	slurmconf_each(conf, "SlurmctldHost", forwards_add_controller, &c);
}
