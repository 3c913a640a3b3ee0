#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "base/util.h"

#define CHUNK (256u << 10)

static void digest_finish(struct sha256_ctx *ctx, char hex[SHA256_HEX])
{
	uint8_t sum[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
}

void digest_bytes(const void *buf, size_t len, char hex[SHA256_HEX])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, len, buf);
	digest_finish(&ctx, hex);
}

int digest_range(int fd, uint64_t off, uint64_t len, char hex[SHA256_HEX])
{
	cleanup_free char *buf = xmalloc(CHUNK);
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	while (len > 0) {
		ssize_t n = pread(fd, buf, len < CHUNK ? (size_t)len : CHUNK, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENODATA;
		if (n <= 0)
			return -1;
		sha256_update(&ctx, (size_t)n, (const uint8_t *)buf);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	digest_finish(&ctx, hex);
	return 0;
}
