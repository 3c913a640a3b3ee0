#include "base/ipv4_range.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t ipv4_mask(unsigned bits)
{
	return bits ? ~UINT32_C(0) << (32 - bits) : 0;
}

int ipv4_range_parse(const char *text, struct ipv4_range *r)
{
	const char *slash = strchr(text, '/');
	char address[16];
	struct in_addr in;
	unsigned long bits;
	char *end;

	if (!slash || slash - text >= (long)sizeof(address) || slash[1] < '0' || slash[1] > '9')
		return -1;
	snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
	bits = strtoul(slash + 1, &end, 10);
	if (*end || bits < IPV4_RANGE_BITS_MIN || bits > IPV4_RANGE_BITS_MAX || inet_pton(AF_INET, address, &in) != 1)
		return -1;
	*r = (struct ipv4_range){ ntohl(in.s_addr), (unsigned)bits };
	if (r->first & ~ipv4_mask(r->bits))
		return -1;
	return r->first >> 24 == 0 || r->first >> 24 == 127 || r->first >> 28 >= 0xe ? -1 : 0;
}

uint32_t ipv4_range_size(const struct ipv4_range *r)
{
	return ~ipv4_mask(r->bits) + 1;
}

bool ipv4_range_overlaps(const struct ipv4_range *r, uint32_t first, unsigned bits)
{
	const uint32_t mask = ipv4_mask(bits < r->bits ? bits : r->bits);

	return (r->first & mask) == (first & mask);
}

char *ipv4_text(uint32_t address, char buf[16])
{
	const struct in_addr in = { htonl(address) };

	return (char *)(uintptr_t)inet_ntop(AF_INET, &in, buf, 16);
}
