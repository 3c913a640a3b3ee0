#include "pod/alone.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "pod/pod_hosts.h"
#include "pod/pod_internal.h"

#define NONLOCAL_BIND_6 "/proc/sys/net/ipv6/ip_nonlocal_bind"

/* The route "local default dev lo" of the family. 0 or -1 with errno. */
static int alone_add_route(int sk, unsigned char family)
{
	struct {
		struct nlmsghdr head;
		struct rtmsg route;
		struct rtattr attribute;
		uint32_t device;
	} request = {
		.head = { .nlmsg_len = sizeof(request),
			  .nlmsg_type = RTM_NEWROUTE,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK },
		.route = { .rtm_family = family,
			   .rtm_table = RT_TABLE_LOCAL,
			   .rtm_protocol = RTPROT_STATIC,
			   .rtm_scope = RT_SCOPE_HOST,
			   .rtm_type = RTN_LOCAL },
		.attribute = { .rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = RTA_OIF },
		.device = if_nametoindex("lo"),
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	ssize_t n;

	if (send(sk, &request, sizeof(request), 0) != (ssize_t)sizeof(request))
		return -1;
	n = recv(sk, &answer, sizeof(answer), 0);
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.error)) || answer.head.nlmsg_type != NLMSG_ERROR) {
		errno = EPROTO;
		return -1;
	}
	errno = -answer.error.error;
	return answer.error.error ? -1 : 0;
}

static int alone_network_routes(struct err *err)
{
	cleanup_close int sk = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), bind6 = -1;

	if (sk < 0 || alone_add_route(sk, AF_INET))
		return err_sys(err, errno, "cannot make a network without a way out");
	/* A kernel without IPv6 has neither. */
	bind6 = open(NONLOCAL_BIND_6, O_WRONLY | O_CLOEXEC);
	if (bind6 < 0)
		return 0;
	if (alone_add_route(sk, AF_INET6) || write_all(bind6, "1", 1))
		return err_sys(err, errno, "cannot make a network (IPv6) without a way out");
	return 0;
}

static int alone_write_hosts(const struct pod_spec *spec, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/" POD_HOSTS, spec->dir);
	cleanup_free char *hosts = pod_hosts_text(spec->net.hostname, spec->net.address, err);
	cleanup_close int fd = -1;

	if (!hosts)
		return -1;
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) || write_all(fd, hosts, strlen(hosts)))
		return err_sys(err, errno, "cannot write %s", path);
	return 0;
}

int alone_network_make(struct pod_spec *spec, struct err *err)
{
	cleanup_close int ns = pod_network_namespace(alone_network_routes, err);

	if (ns < 0 || (spec->net.hostname[0] && alone_write_hosts(spec, err)))
		return -1;
	if (!spec->net.hostname[0] && gethostname(spec->net.hostname, sizeof(spec->net.hostname) - 1))
		return err_sys(err, errno, "cannot read the name of the node");
	spec->net_ns = steal_fd(&ns);
	spec->private_net = true;
	return 0;
}
