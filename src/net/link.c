/* The veth pair: links, addresses, routes. */
#include "net/net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <linux/neighbour.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include "base/io.h"
#include "base/util.h"

/* Locally administered, the same in all pairs: nothing connects two pairs. */
#define MAC_NODE     "\x02\x66\x73\x00\x00\x02"
#define MAC_POD      "\x02\x66\x73\x00\x00\x01"
#define MAC_LEN      6

#define FORWARD      "/proc/sys/net/ipv4/ip_forward"

/* Routes of fewer bits, such as 0.0.0.0/1 of a VPN, are default routes. */
#define DEFAULT_BITS 8
#define DEFAULT_MTU  1500

static struct nl_sock *link_connect(struct err *err)
{
	struct nl_sock *sk = nl_socket_alloc();

	if (sk && nl_connect(sk, NETLINK_ROUTE) == 0)
		return sk;
	nl_socket_free(sk);
	err_set(err, 0, "cannot reach the kernel by netlink");
	return NULL;
}

static int link_failed(struct err *err, int nl, const char *what)
{
	return err_set(err, nl == -NLE_EXIST ? EEXIST : 0, "%s: %s", what, nl_geterror(nl));
}

static struct nl_addr *link_addr(uint32_t address, int bits)
{
	const uint32_t wire = htonl(address);
	struct nl_addr *a = nl_addr_build(AF_INET, &wire, sizeof(wire));

	if (!a)
		abort();
	nl_addr_set_prefixlen(a, bits);
	return a;
}

static int link_write_sysctl(const char *name, const char *setting, const char *value, struct err *err)
{
	cleanup_free char *path = xasprintf("/proc/sys/net/%s", setting);
	char *star = strchr(path, '*');
	cleanup_free char *full = star ? xasprintf("%.*s%s%s", (int)(star - path), path, name, star + 1) : xstrdup(path);
	cleanup_close int fd = open(full, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write_all(fd, value, strlen(value)))
		return err_sys(err, errno, "cannot write %s", full);
	return 0;
}

/* ---- the node ------------------------------------------------------------------- */

static bool link_is_ours(const char *name)
{
	const size_t n = strlen(NET_PREFIX);

	return name && !strncmp(name, NET_PREFIX, n) && isdigit((unsigned char)name[n]);
}

struct look {
	const struct ipv4_range *range;
	char clash[64];   /* a route into the range; "" = there is none */
	int default_link; /* index of the interface of a default route; 0 = there is none */
	uint32_t beyond;  /* an address that another route leads to; 0 = there is none */
};

static uint32_t link_address_of(const struct nl_addr *a)
{
	uint32_t wire = 0;

	if (a && nl_addr_get_len(a) == sizeof(wire))
		memcpy(&wire, nl_addr_get_binary_addr(a), sizeof(wire));
	return ntohl(wire);
}

/* An address on a network of the node that is not the node's own. */
static uint32_t link_neighbour_on(struct rtnl_route *r, uint32_t network, unsigned bits)
{
	if (bits >= 31)
		return network;
	return network + 1 == link_address_of(rtnl_route_get_pref_src(r)) ? network + 2 : network + 1;
}

static void link_check_route(struct nl_object *o, void *arg)
{
	struct rtnl_route *r = (struct rtnl_route *)o;
	struct nl_addr *dst = rtnl_route_get_dst(r);
	struct rtnl_nexthop *hop = rtnl_route_nexthop_n(r, 0);
	const uint32_t network = link_address_of(dst);
	struct look *k = arg;
	char name[IF_NAMESIZE] = "";
	unsigned bits;

	const bool unicast = rtnl_route_get_type(r) == RTN_UNICAST; /* not one of the node's own addresses */

	if (!dst || nl_addr_get_family(dst) != AF_INET)
		return;
	bits = nl_addr_get_prefixlen(dst); /* the address of a default route has no bytes */
	if (bits == 0 && hop && unicast)
		k->default_link = rtnl_route_nh_get_ifindex(hop);
	if (hop && if_indextoname((unsigned)rtnl_route_nh_get_ifindex(hop), name) && link_is_ours(name))
		return;
	if (bits > 0 && unicast && strcmp(name, "lo") != 0)
		k->beyond = link_neighbour_on(r, network, bits);
	if (bits >= DEFAULT_BITS && ipv4_range_overlaps(k->range, network, bits))
		nl_addr2str(dst, k->clash, sizeof(k->clash));
}

static unsigned link_mtu(struct nl_sock *sk, int index)
{
	struct rtnl_link *link = NULL;
	unsigned mtu = 0;

	if (index && rtnl_link_get_kernel(sk, index, NULL, &link) == 0)
		mtu = rtnl_link_get_mtu(link);
	rtnl_link_put(link);
	return mtu ? mtu : DEFAULT_MTU;
}

static int link_check_routes(struct net_link *l, struct err *err)
{
	struct nl_sock *sk = link_connect(err);
	struct look k = { .range = &l->range };
	struct nl_cache *all = NULL;
	int rc;

	if (!sk)
		return -1;
	rc = rtnl_route_alloc_cache(sk, AF_INET, 0, &all);
	if (rc == 0)
		nl_cache_foreach(all, link_check_route, &k);
	l->mtu = link_mtu(sk, k.default_link);
	l->beyond = k.default_link ? NET_BEYOND : k.beyond;
	nl_cache_free(all);
	nl_socket_free(sk);
	if (rc < 0)
		return link_failed(err, rc, "cannot list the node's routes");
	if (k.clash[0])
		return err_set(err, EADDRINUSE, "PodNetworkRange is not free, because the node has a route to %s",
			       k.clash);
	return 0;
}

int net_node_check(struct net_link *l, struct err *err)
{
	cleanup_free char *text = NULL;

	if (read_file_at(AT_FDCWD, FORWARD, 16, &text) < 0)
		return err_sys(err, errno, "cannot read " FORWARD);
	if (text[0] == '0')
		return err_set(err, 0,
			       "net.ipv4.ip_forward is 0 on the node, so nothing from such a network would leave it");
	return link_check_routes(l, err);
}

#define ROUTES6 "/proc/net/ipv6_route"

bool net_node_has_ipv6_only(const struct net_link *l)
{
	cleanup_file FILE *f = fopen(ROUTES6, "re");
	cleanup_free char *line = NULL;
	size_t room = 0;
	char name[IF_NAMESIZE];
	unsigned bits;
	bool found = false;

	while (f && getline(&line, &room, f) > 0)
		if (sscanf(line, "%*32s %2x %*32s %*2s %*32s %*8s %*8s %*8s %*8s %15s", &bits, name) == 2)
			found |= bits == 0 && strcmp(name, "lo") != 0;
	return found && l->beyond != NET_BEYOND;
}

bool net_link_any(void)
{
	struct if_nameindex *all = if_nameindex();
	bool any = false;

	for (struct if_nameindex *i = all; i && i->if_index; i++)
		any |= link_is_ours(i->if_name);
	if_freenameindex(all);
	return any;
}

/* ---- the pair --------------------------------------------------------------------- */

static void link_set_mac(struct rtnl_link *link, const char *mac)
{
	struct nl_addr *a = nl_addr_build(AF_LLC, mac, MAC_LEN);

	rtnl_link_set_addr(link, a);
	nl_addr_put(a);
}

static int link_add_pair(struct nl_sock *sk, const struct net_link *l)
{
	struct rtnl_link *link = rtnl_link_veth_alloc();
	struct rtnl_link *peer = link ? rtnl_link_veth_get_peer(link) : NULL;
	int rc;

	if (!peer)
		abort();
	rtnl_link_set_name(link, l->name);
	rtnl_link_set_name(peer, NET_INSIDE);
	rtnl_link_set_ns_fd(peer, l->pod_ns);
	rtnl_link_set_mtu(link, l->mtu);
	rtnl_link_set_mtu(peer, l->mtu);
	link_set_mac(link, MAC_NODE);
	link_set_mac(peer, MAC_POD);
	rc = rtnl_link_add(sk, link, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_link_put(peer);
	rtnl_link_put(link);
	return rc;
}

/* The kernel is the register of the numbers in use: it refuses a name that there is. The first number is chosen at
 * random, so that what is still on its way to a pod that has ended does not reach the next one. */
int net_link_make(struct net_link *l, struct err *err)
{
	const uint32_t numbers = ipv4_range_size(&l->range) - NET_LINKS - 1;
	struct nl_sock *sk = link_connect(err);
	uint32_t first = 0;
	int rc = -NLE_EXIST;

	if (!sk)
		return -1;
	if (getrandom(&first, sizeof(first), 0) != sizeof(first))
		first = (uint32_t)getpid();
	for (uint32_t i = 0; i < numbers && rc == -NLE_EXIST; i++) {
		const uint32_t number = (first % numbers + i) % numbers;

		snprintf(l->name, sizeof(l->name), NET_PREFIX "%u", number & 0xffffff); /* as many as there are */
		l->own = l->range.first + NET_LINKS + number;
		rc = link_add_pair(sk, l);
	}
	nl_socket_free(sk);
	l->index = rc < 0 ? 0 : if_nametoindex(l->name);
	if (rc < 0)
		return link_failed(err, rc, "cannot make a veth pair");
	return l->index ? 0 : err_sys(err, errno, "cannot find the new interface %s", l->name);
}

/* ---- its ends ----------------------------------------------------------------------- */

static int link_up(struct nl_sock *sk, unsigned index, struct err *err)
{
	struct rtnl_link *old = rtnl_link_alloc(), *change = rtnl_link_alloc();
	int rc;

	if (!old || !change)
		abort();
	rtnl_link_set_ifindex(old, (int)index);
	rtnl_link_set_flags(change, IFF_UP);
	rc = rtnl_link_change(sk, old, change, 0);
	rtnl_link_put(old);
	rtnl_link_put(change);
	return rc < 0 ? link_failed(err, rc, "cannot start an end of the veth pair") : 0;
}

static int link_add_address(struct nl_sock *sk, unsigned index, uint32_t address, struct err *err)
{
	struct rtnl_addr *a = rtnl_addr_alloc();
	struct nl_addr *local = link_addr(address, 32);
	int rc;

	if (!a)
		abort();
	rtnl_addr_set_ifindex(a, (int)index);
	rtnl_addr_set_local(a, local);
	rc = rtnl_addr_add(sk, a, 0);
	nl_addr_put(local);
	rtnl_addr_put(a);
	return rc < 0 ? link_failed(err, rc, "cannot set an address of the veth pair") : 0;
}

/* The other end has address and mac. */
static int link_add_neighbour(struct nl_sock *sk, unsigned index, uint32_t address, const char *mac, struct err *err)
{
	struct rtnl_neigh *n = rtnl_neigh_alloc();
	struct nl_addr *dst = link_addr(address, 32), *lladdr = nl_addr_build(AF_LLC, mac, MAC_LEN);
	int rc;

	if (!n || !lladdr)
		abort();
	rtnl_neigh_set_ifindex(n, (int)index);
	rtnl_neigh_set_dst(n, dst);
	rtnl_neigh_set_lladdr(n, lladdr);
	rtnl_neigh_set_state(n, NUD_PERMANENT);
	rc = rtnl_neigh_add(sk, n, NLM_F_CREATE | NLM_F_REPLACE);
	nl_addr_put(dst);
	nl_addr_put(lladdr);
	rtnl_neigh_put(n);
	return rc < 0 ? link_failed(err, rc, "cannot set a neighbour of the veth pair") : 0;
}

/* A route to address/bits through the interface, and through the gateway if that is not 0. */
static int link_add_route(struct nl_sock *sk, unsigned index, uint32_t address, int bits, uint32_t gateway,
			  struct err *err)
{
	struct rtnl_route *r = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	struct nl_addr *dst = link_addr(address, bits), *via = gateway ? link_addr(gateway, 32) : NULL;
	int rc;

	if (!r || !hop)
		abort();
	rtnl_route_set_family(r, AF_INET);
	rtnl_route_set_dst(r, dst);
	rtnl_route_set_scope(r, gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
	rtnl_route_nh_set_ifindex(hop, (int)index);
	if (via)
		rtnl_route_nh_set_gateway(hop, via);
	rtnl_route_add_nexthop(r, hop);
	rc = rtnl_route_add(sk, r, 0);
	nl_addr_put(dst);
	nl_addr_put(via);
	rtnl_route_put(r);
	return rc < 0 ? link_failed(err, rc, "cannot set a route of the veth pair") : 0;
}

static int link_set_up_node(const struct net_link *l, struct err *err)
{
	static const char *const settings[][2] = {
		{ "ipv4/conf/*/forwarding", "1" },
		{ "ipv4/conf/*/route_localnet", "1" },      /* what of that is let through: rules.c */
		{ "ipv4/conf/*/accept_source_route", "0" }, /* leads to the loopback behind those rules */
		{ "ipv4/conf/*/rp_filter", "1" },           /* only packets from the pod's own address */
		{ "ipv4/conf/*/send_redirects", "0" },
	};
	struct nl_sock *sk = link_connect(err);
	int rc;

	if (!sk)
		return -1;
	rc = link_up(sk, l->index, err) || link_add_address(sk, l->index, l->gateway, err) ||
	     link_add_neighbour(sk, l->index, l->own, MAC_POD, err) || link_add_route(sk, l->index, l->own, 32, 0, err);
	nl_socket_free(sk);
	for (size_t i = 0; i < ARRAY_SIZE(settings) && rc == 0; i++)
		rc = link_write_sysctl(l->name, settings[i][0], settings[i][1], err);
	if (access("/proc/sys/net/ipv6", F_OK) == 0 && rc == 0)
		rc = link_write_sysctl(l->name, "ipv6/conf/*/disable_ipv6", "1", err);
	return rc ? -1 : 0;
}

static int link_set_up_pod(const struct net_link *l, struct err *err)
{
	const unsigned index = if_nametoindex(NET_INSIDE);
	struct nl_sock *sk = link_connect(err);
	int rc;

	if (!sk)
		return -1;
	if (access("/proc/sys/net/ipv6", F_OK) == 0)
		link_write_sysctl(NET_INSIDE, "ipv6/conf/*/disable_ipv6", "1", NULL);
	rc = link_up(sk, index, err) || link_add_address(sk, index, l->address, err) ||
	     link_add_neighbour(sk, index, l->gateway, MAC_NODE, err) ||
	     link_add_route(sk, index, l->gateway, 32, 0, err) || link_add_route(sk, index, 0, 0, l->gateway, err) ||
	     link_write_sysctl(NET_INSIDE, "ipv4/conf/*/route_localnet", "1", err);
	nl_socket_free(sk);
	return rc ? -1 : 0;
}

int net_link_set_up(const struct net_link *l, struct err *err)
{
	int rc;

	if (link_set_up_node(l, err) || net_rules_node(l, err))
		return -1;
	if (setns(l->pod_ns, CLONE_NEWNET))
		return err_sys(err, errno, "cannot enter the network namespace of the pod");
	rc = link_set_up_pod(l, err) || net_rules_pod(l, err) ? -1 : 0;
	if (setns(l->node_ns, CLONE_NEWNET))
		abort();
	return rc;
}

int net_link_delete(const char *name, unsigned index, struct err *err)
{
	struct rtnl_link *link;
	struct nl_sock *sk;
	int rc;

	if (if_nametoindex(name) != index)
		return 0; /* it has gone with the pod */
	sk = link_connect(err);
	link = rtnl_link_alloc();
	if (!link)
		abort();
	rtnl_link_set_ifindex(link, (int)index);
	rc = sk ? rtnl_link_delete(sk, link) : 0;
	rtnl_link_put(link);
	nl_socket_free(sk);
	return !sk ? -1
	       : rc < 0 && rc != -NLE_NODEV && rc != -NLE_OBJ_NOTFOUND
		       ? link_failed(err, rc, "cannot delete the veth pair")
		       : 0;
}
