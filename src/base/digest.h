/* SHA-256 as text. */
#ifndef FSCHED_BASE_DIGEST_H
#define FSCHED_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 65 /* bytes of the text with its final NUL */

/* SHA-256 of len bytes from off on, as hex. Returns 0, or -1 with errno (ENODATA: the file ends before). */
int digest_range(int fd, uint64_t off, uint64_t len, char hex[SHA256_HEX]);
void digest_bytes(const void *buf, size_t len, char hex[SHA256_HEX]);

#endif
