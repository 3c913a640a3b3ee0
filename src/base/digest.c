#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "base/io.h"
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
		size_t n = len < CHUNK ? (size_t)len : CHUNK;

		if (pread_all(fd, buf, n, off) < 0)
			return -1;
		sha256_update(&ctx, n, (const uint8_t *)buf);
		off += n;
		len -= n;
	}
	digest_finish(&ctx, hex);
	return 0;
}
