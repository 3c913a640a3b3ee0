/*   fsched-net up NSFD RANGE ADDRESS HOSTNAME   links the network namespace on descriptor NSFD
 *   fsched-net down NAME INDEX                  removes a link, and the node's rules with the last one
 *   fsched-net check RANGE                      tries both in a namespace of its own
 *
 * RANGE is PodNetworkRange. ADDRESS: what the pod's interface gets, "-" = the first of RANGE. HOSTNAME: the job's.
 *
 * Prints one line: "ok NAME INDEX ADDRESS" after up, "ok" else, or "failed TEXT". check prints lines "warning TEXT"
 * before that. */
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define LOCK_DIR "/run/fsched"
#define LOCK     LOCK_DIR "/net.lock" /* one at a time: rules are replaced as a whole, and removed with the last link */
#define OWN_NS   "/proc/self/ns/net"

static int net_say(int rc, const struct err *err)
{
	if (rc)
		printf("failed %s\n", err->text);
	else
		printf("ok\n");
	return rc ? 1 : 0;
}

static int net_lock(struct err *err)
{
	int fd;

	if (mkdir(LOCK_DIR, 0755) && errno != EEXIST)
		return err_sys(err, errno, "cannot make " LOCK_DIR);
	fd = open(LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX))
		return err_sys(err, errno, "cannot lock " LOCK);
	return 0; /* held until the process ends */
}

static int net_up(struct net_link *l, const char *address, const char *hostname, struct err *err)
{
	struct in_addr in;

	l->node_ns = open(OWN_NS, O_RDONLY | O_CLOEXEC);
	if (l->node_ns < 0)
		return err_sys(err, errno, "cannot open " OWN_NS);
	l->address = l->range.first + NET_ADDRESS;
	l->gateway = l->range.first + NET_GATEWAY;
	if (strcmp(address, "-") != 0) {
		if (inet_pton(AF_INET, address, &in) != 1)
			return err_set(err, EINVAL, "\"%s\" is no IPv4 address", address);
		l->address = ntohl(in.s_addr);
	}
	if (l->address == l->gateway)
		return err_set(err, EADDRINUSE,
			       "the job has the address %s, which PodNetworkRange uses for something else", address);
	net_forwards_find(&l->forwards, hostname, l->address);
	if (net_node_check(l, err) || net_link_make(l, err))
		return -1;
	if (net_link_set_up(l, err) == 0)
		return 0;
	net_link_delete(l->name, l->index, NULL);
	if (!net_link_any())
		net_rules_remove();
	return -1;
}

static int net_down(const char *name, unsigned index, struct err *err)
{
	if (net_link_delete(name, index, err))
		return -1;
	if (!net_link_any())
		net_rules_remove();
	return 0;
}

static int net_command_up(char **argv, struct err *err)
{
	struct net_link l = { .pod_ns = atoi(argv[0]) };
	char address[16];

	if (ipv4_range_parse(argv[1], &l.range))
		return net_say(err_set(err, EINVAL, "\"%s\" is no range of addresses", argv[1]), err);
	if (net_lock(err) || net_up(&l, argv[2], argv[3], err))
		return net_say(-1, err);
	printf("ok %s %u %s\n", l.name, l.index, ipv4_text(l.address, address));
	return 0;
}

static int net_command_check(const char *range, struct err *err)
{
	struct net_link l = { .pod_ns = -1 };
	int own = open(OWN_NS, O_RDONLY | O_CLOEXEC), rc;

	if (ipv4_range_parse(range, &l.range))
		return net_say(err_set(err, EINVAL, "\"%s\" is no range of addresses", range), err);
	if (own < 0 || unshare(CLONE_NEWNET) || (l.pod_ns = open(OWN_NS, O_RDONLY | O_CLOEXEC)) < 0 ||
	    setns(own, CLONE_NEWNET))
		return net_say(err_sys(err, errno, "cannot make a network namespace"), err);
	if (net_lock(err))
		return net_say(-1, err);
	net_rules_look();
	if (net_up(&l, "-", "", err))
		return net_say(-1, err);
	if (net_node_has_ipv6_only(&l))
		printf("warning the node has a default route for IPv6 and none for IPv4: a job with a network of its own reaches "
		       "IPv4 addresses only\n");
	rc = net_rules_try(&l, err);
	return net_say(net_down(l.name, l.index, rc ? NULL : err) || rc ? -1 : 0, err);
}

int main(int argc, char **argv)
{
	struct err err;

	if (argc == 6 && !strcmp(argv[1], "up"))
		return net_command_up(argv + 2, &err);
	if (argc == 4 && !strcmp(argv[1], "down"))
		return net_say(net_lock(&err) || net_down(argv[2], (unsigned)strtoul(argv[3], NULL, 10), &err), &err);
	if (argc == 3 && !strcmp(argv[1], "check"))
		return net_command_check(argv[2], &err);
	fprintf(stderr, "fsched-net is started by fsched only\n");
	return 2;
}
