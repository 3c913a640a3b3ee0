/* fsched-net: links a pod that has a network namespace of its own to the network of its node, by a veth pair with
 * address translation. It runs as root, for a moment, whenever such a pod is made or has ended.
 *
 *   node                                          pod
 *   fsched17  G/32, route to U                    eth0  A/32, default route to G
 *     nft table ip fsched: U -> node's address      nft table ip fsched: A -> U
 *
 * A is the same in all pods, and as long as a job lives: its sockets may be bound to it. U is the pod's alone on this
 * node. Both ends have fixed hardware addresses and fixed neighbours, so no ARP is needed and nobody has the address U.
 * A pod can begin connections and cannot be reached.
 *
 * Services that listen on the node's loopback are out of reach, except those that a job cannot do without (struct
 * forwards): connections to them are sent to G and from there to the node's loopback.
 *
 * The rules of the node are the same for all pods and are there as long as there is a pod. Deleting the pair, or the
 * death of the pod's namespace, leaves nothing else.
 *
 * Functions that return int return 0, or -1 with err, unless they say otherwise. */
#ifndef FSCHED_NET_NET_H
#define FSCHED_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/ipv4_range.h"

#define NET_PREFIX       "fsched" /* of the names of the node's ends */
#define NET_INSIDE       "eth0"
#define NET_FORWARDS_MAX 16

/* Addresses of a range, counted from its first. */
enum { NET_ADDRESS = 1, NET_GATEWAY = 2, NET_LINKS = 4 };

#define NET_BEYOND                                                                                         \
	0xc0000201 /* 192.0.2.1, of a range for documents, so it is reached by the default route if at all \
		    */

struct net_forward {
	bool udp;
	uint16_t port;
	uint32_t from; /* where the job connects to */
	uint32_t to;   /* where the service is, as the node sees it */
};

struct net_forwards {
	struct net_forward v[NET_FORWARDS_MAX];
	size_t n;
};

struct net_link {
	int node_ns, pod_ns; /* borrowed */
	struct ipv4_range range;
	uint32_t address, gateway, own; /* A, G, U */
	char name[16];
	unsigned index;  /* of the node's end */
	unsigned mtu;    /* of both ends, and of the node's default route */
	uint32_t beyond; /* an address that the node does not have and has a route to; 0 = there is none */
	struct net_forwards forwards;
};

/* forwards.c: the services on the node's loopback that a job needs: name servers of /etc/resolv.conf, and slurmctld.
 * hostname: the job's; address: A, which that name has in the pod. */
void net_forwards_find(struct net_forwards *f, const char *hostname, uint32_t address);

/* link.c */

/* Checks that the node forwards packets and has no route into the range. Sets mtu and beyond. */
int net_node_check(struct net_link *l, struct err *err);
/* Whether the node has a default route for IPv6 and none for IPv4; after net_node_check(). */
bool net_node_has_ipv6_only(const struct net_link *l);
/* Makes the pair and sets name, index and own. */
int net_link_make(struct net_link *l, struct err *err);
/* Sets up the ends. */
int net_link_set_up(const struct net_link *l, struct err *err);
/* Deletes a node's end and with it the pair, if the interface of that name has that index. */
int net_link_delete(const char *name, unsigned index, struct err *err);
/* Whether the node has an end of any pod. */
bool net_link_any(void);

/* rules.c */

/* Makes the rules of the node, or replaces those that there are. */
int net_rules_node(const struct net_link *l, struct err *err);
/* Makes the rules of a pod. To be called in its namespace. */
int net_rules_pod(const struct net_link *l, struct err *err);
/* Removes the rules of the node. */
void net_rules_remove(void);
/* Prints "warning TEXT" for what in the node's rules does not see what comes from pods. */
void net_rules_look(void);
/* Sends a packet from a pod to the network, drops it behind the node's forward chains, and prints "warning TEXT" if it
 * does not come so far. A node without a route is not tried. */
int net_rules_try(const struct net_link *l, struct err *err);

#endif
