/* A range of IPv4 addresses, as "198.18.224.0/20". */
#ifndef FSCHED_BASE_IPV4_RANGE_H
#define FSCHED_BASE_IPV4_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#define IPV4_RANGE_BITS_MIN 8
#define IPV4_RANGE_BITS_MAX 26

struct ipv4_range {
	uint32_t first; /* host byte order */
	unsigned bits;  /* length of the prefix */
};

/* Parses A.B.C.D/N with N from 8 to 26; only the first N bits may be set. A range of the loopback, of multicast or of
 * "this network" is refused. Returns 0 or -1. */
int ipv4_range_parse(const char *text, struct ipv4_range *r);
/* How many addresses it has. */
uint32_t ipv4_range_size(const struct ipv4_range *r);
/* Whether the network first/bits has addresses of the range. */
bool ipv4_range_overlaps(const struct ipv4_range *r, uint32_t first, unsigned bits);
/* Writes an address as text. Returns buf. */
char *ipv4_text(uint32_t address, char buf[16]);

#endif
