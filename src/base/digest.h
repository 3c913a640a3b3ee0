/* SHA-256 as text. */
#ifndef FSCHED_BASE_DIGEST_H
#define FSCHED_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 65 /* bytes of the text with its final NUL */

/* Writes the SHA-256 of the len bytes at off of fd to hex. Returns 0, or -1 with errno (ENODATA: the file is shorter).
 */
int digest_range(int fd, uint64_t off, uint64_t len, char hex[SHA256_HEX]);
/* The same for len bytes in memory. */
void digest_bytes(const void *buf, size_t len, char hex[SHA256_HEX]);

#endif
