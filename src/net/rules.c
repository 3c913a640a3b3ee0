/* Rules of netfilter. A transaction replaces all rules of a table at once. */
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <nftables/libnftables.h>

#include "base/io.h"
#include "base/util.h"

#define TABLE      "ip fsched"
#define FROM_POD   "iifname \"" NET_PREFIX "*\""
#define TO_POD     "oifname \"" NET_PREFIX "*\""
#define TRACKED    "/proc/sys/net/netfilter/nf_conntrack_max"
#define LEGACY     "/proc/net/ip_tables_names" /* tables of iptables that are not in nf_tables */
#define LEGACY_MAX 4096

/* Runs commands in the caller's network namespace. out: what they print, to be freed; NULL = nobody wants it. */
static int rules_run(const char *commands, char **out, struct err *err)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	const char *why;
	int rc;

	if (!nft)
		return err_set(err, ENOMEM, "libnftables cannot be used");
	nft_ctx_buffer_output(nft);
	nft_ctx_buffer_error(nft);
	rc = nft_run_cmd_from_buffer(nft, commands);
	why = nft_ctx_get_error_buffer(nft);
	if (rc)
		err_set(err, 0, "netfilter (nf_tables) refuses the rules for address translation: %.*s",
			(int)strcspn(why ? why : "", "\n"), why ? why : "");
	else if (out)
		*out = xstrdup(nft_ctx_get_output_buffer(nft));
	nft_ctx_free(nft);
	return rc ? -1 : 0;
}

static const char *forward_protocol(const struct net_forward *f)
{
	return f->udp ? "udp" : "tcp";
}

static bool forward_is_to_loopback(const struct net_forward *f)
{
	return f->to >> 24 == 127;
}

/* Rules that send what comes to G to the services on the node's loopback. */
static void rules_print_forwards(FILE *f, const struct net_link *l)
{
	char gateway[16], to[16];

	for (size_t i = 0; i < l->forwards.n; i++) {
		const struct net_forward *v = &l->forwards.v[i];

		if (forward_is_to_loopback(v))
			fprintf(f, "add rule " TABLE " prerouting " FROM_POD " ip daddr %s %s dport %u dnat to %s\n",
				ipv4_text(l->gateway, gateway), forward_protocol(v), v->port, ipv4_text(v->to, to));
	}
}

int net_rules_node(const struct net_link *l, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int rc;

	if (!f)
		abort();
	fputs("add table " TABLE "\n"
	      "delete table " TABLE "\n"
	      "add table " TABLE "\n"
	      /* A process of a job can send to 127.0.0.1 through its link (SO_BINDTODEVICE), and the node accepts that
	       * there (route_localnet). Before the translation only G is right. */
	      "add chain " TABLE " raw { type filter hook prerouting priority -300; }\n"
	      "add rule " TABLE " raw " FROM_POD " ip daddr 127.0.0.0/8 drop\n"
	      "add chain " TABLE " prerouting { type nat hook prerouting priority -100; }\n"
	      /* Services of the loopback may refuse, or not be able to answer, other addresses. */
	      "add chain " TABLE " input { type nat hook input priority 100; }\n"
	      "add rule " TABLE " input " FROM_POD " ip daddr 127.0.0.0/8 snat to 127.0.0.1\n"
	      "add chain " TABLE " forward { type filter hook forward priority 0; }\n"
	      /* Packets that are not translated would carry the pod's own address. */
	      "add rule " TABLE " forward " FROM_POD " ct state invalid drop\n"
	      "add rule " TABLE " forward " FROM_POD " " TO_POD " drop\n"
	      "add rule " TABLE " forward " TO_POD " ct state != { established, related } drop\n"
	      "add chain " TABLE " postrouting { type nat hook postrouting priority 100; }\n"
	      "add rule " TABLE " postrouting " FROM_POD " oifname != \"" NET_PREFIX "*\" masquerade\n",
	      f);
	rules_print_forwards(f, l);
	fclose(f);
	rc = rules_run(text, NULL, err);
	return rc;
}

#define FLOWS_MIN  512
#define FLOWS_MAX  8192 /* the kernel looks at all of them when another begins */
#define TABLE_LESS 65536

/* The connections that a pod may have out of it. The kernel tracks those of all pods and of the node in a table of
 * limited size: pods, one for each processor, together get half of it. */
static unsigned long rules_flows(void)
{
	cleanup_free char *text = NULL;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned long most = read_file_at(AT_FDCWD, TRACKED, 32, &text) > 0 ? strtoul(text, NULL, 10) : TABLE_LESS;

	most /= 2 * (cpus > 0 ? (unsigned long)cpus : 1);
	return most < FLOWS_MIN ? FLOWS_MIN : most > FLOWS_MAX ? FLOWS_MAX : most;
}

int net_rules_pod(const struct net_link *l, struct err *err)
{
	char own[16], from[16], to[16];
	cleanup_free char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		abort();
	/* The loopback needs no connection tracking, which would cost time for each packet, and would see connections
	 * that criu has restored as new ones. */
	fputs("add table " TABLE "\n"
	      "add chain " TABLE " raw_output { type filter hook output priority -300; }\n"
	      "add chain " TABLE " raw { type filter hook prerouting priority -300; }\n"
	      "add chain " TABLE " output { type nat hook output priority -100; }\n"
	      "add chain " TABLE " postrouting { type nat hook postrouting priority 100; }\n"
	      "add rule " TABLE " raw iifname \"lo\" notrack\n",
	      f);
	for (size_t i = 0; i < l->forwards.n; i++) {
		const struct net_forward *v = &l->forwards.v[i];

		ipv4_text(v->from, from);
		fprintf(f, "add rule " TABLE " raw_output ip daddr %s %s dport %u accept\n", from, forward_protocol(v),
			v->port);
		fprintf(f, "add rule " TABLE " output ip daddr %s %s dport %u dnat to %s\n", from, forward_protocol(v),
			v->port, ipv4_text(forward_is_to_loopback(v) ? l->gateway : v->to, to));
	}
	fprintf(f,
		"add chain " TABLE " out { type filter hook output priority 0; }\n"
		/* The node drops it too, until somebody flushes its rules. */
		"add rule " TABLE " out oifname \"" NET_INSIDE "\" ip daddr 127.0.0.0/8 drop\n"
		"add rule " TABLE " out oifname \"" NET_INSIDE "\" ct state new ct count over %lu drop\n",
		rules_flows());
	fprintf(f,
		"add rule " TABLE " raw_output oifname \"lo\" notrack\n"
		"add rule " TABLE " postrouting oifname \"" NET_INSIDE "\" snat to %s\n",
		ipv4_text(l->own, own));
	fclose(f);
	return rules_run(text, NULL, err);
}

void net_rules_remove(void)
{
	/* "add" makes the removal succeed where there is no table. */
	rules_run("add table " TABLE "\ndelete table " TABLE "\n", NULL, NULL);
}

/* ---- the rules of others --------------------------------------------------------- */

/* Whether a word of iptables' or nft's for the owner of a packet is in the text. */
static bool rules_match_owner(const char *text)
{
	return strstr(text, "skuid") || strstr(text, "skgid") || strstr(text, "\"owner\"") || strstr(text, "--uid-owner");
}

void net_rules_look(void)
{
	cleanup_free char *text = NULL, *legacy = NULL;
	struct err err;

	if (rules_run("list ruleset\n", &text, &err)) {
		printf("warning the node's rules cannot be listed: %s\n", err.text);
		return;
	}
	if (read_file_at(AT_FDCWD, LEGACY, LEGACY_MAX, &legacy) > 0)
		printf("warning the node has rules of the old iptables (iptables-legacy), which fsched cannot read: rules by the "
		       "owner of a packet do not see what comes from a job with a network of its own\n");
	if (rules_match_owner(text))
		printf("warning the node's firewall has rules by the owner of a packet (skuid, skgid): they do not see what "
		       "comes from a job with a network of its own, so match iifname \"" NET_PREFIX
		       "*\" in the forward chain too\n");
}

/* ---- whether the node forwards what comes from a pod ------------------------------- */

#define TRY_TABLE   "ip fsched-try"
#define TRY_PORT    9 /* discard */
#define TRY_WAIT_MS 200

static int rules_send_one(uint32_t address)
{
	const struct sockaddr_in to = { .sin_family = AF_INET,
					.sin_port = htons(TRY_PORT),
					.sin_addr.s_addr = htonl(address) };
	cleanup_close int sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return sk < 0 || sendto(sk, "", 1, 0, (const struct sockaddr *)(const void *)&to, sizeof(to)) < 0 ? -1 : 0;
}

/* Whether the rule that drops the packet behind the forward chains has seen it. */
static bool rules_packet_came(struct err *err)
{
	for (int ms = 0; ms < TRY_WAIT_MS; ms += 20) {
		cleanup_free char *text = NULL;

		if (rules_run("list table " TRY_TABLE "\n", &text, err))
			return false;
		if (strstr(text, "counter packets ") && !strstr(text, "counter packets 0 "))
			return true;
		usleep(20000);
	}
	return false;
}

static int rules_try_in_pod(const struct net_link *l, struct err *err)
{
	int rc;

	if (setns(l->pod_ns, CLONE_NEWNET))
		return err_sys(err, errno, "cannot enter the network namespace of the pod");
	rc = rules_send_one(l->beyond);
	if (rc)
		err_sys(err, errno, "nothing can be sent from such a network");
	if (setns(l->node_ns, CLONE_NEWNET))
		abort();
	return rc;
}

int net_rules_try(const struct net_link *l, struct err *err)
{
	cleanup_free char *text =
		xasprintf("add table " TRY_TABLE "\ndelete table " TRY_TABLE "\nadd table " TRY_TABLE "\n"
			  "add chain " TRY_TABLE " last { type filter hook postrouting priority 300; }\n"
			  "add rule " TRY_TABLE " last iifname \"%s\" udp dport %d counter drop\n",
			  l->name, TRY_PORT);
	struct err mine = { 0 };
	bool came;

	if (!l->beyond)
		return 0;
	if (rules_run(text, NULL, err))
		return -1;
	came = rules_try_in_pod(l, &mine) == 0 && rules_packet_came(&mine);
	rules_run("delete table " TRY_TABLE "\n", NULL, NULL);
	if (!came)
		printf("warning the node's firewall drops what is forwarded from a job with a network of its own%s%s: let iifname "
		       "\"" NET_PREFIX "*\", and what is established to oifname \"" NET_PREFIX "*\", through\n",
		       mine.text[0] ? ", or " : "", mine.text);
	return 0;
}
