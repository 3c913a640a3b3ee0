/* Decoding of a chunk: two bytes of format, two of length, then what is stored. The decoder is kept, as in a thread
 * that goes through a file. The other way round, the same bytes are encoded and must come back. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fuzz.h"
#include "image/codec.h"
#include "image/image.h"

static void there_and_back(struct mem_codec *c, const uint8_t *data, size_t size)
{
	cleanup_free uint8_t *stored = xmalloc(mem_encode_bound(size)), *raw = xmalloc(size);
	struct mem_format f;
	size_t n = mem_encode(c, data, size, stored, &f);

	if (n == 0 || n > size || mem_decode(c, f, stored, n, raw, size, NULL) < 0 || memcmp(raw, data, size) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mem_codec *codecs[4];
	cleanup_free uint8_t *raw = NULL;
	struct mem_format f;
	uint16_t len;

	if (size < 5)
		return 0;
	for (int i = 0; i < 4; i++)
		if (!codecs[i])
			codecs[i] = mem_codec_new(i, MEM_CHUNK);
	f.transform = data[0] % (MEM_TRANSFORMS + 1);
	f.compression = data[1] % (MEM_COMPRESSIONS + 1);
	memcpy(&len, data + 2, 2);
	raw = xmalloc(len + 1u); /* exactly: the sanitizer watches the end */
	mem_decode(codecs[1], f, data + 4, size - 4, raw, len, NULL);
	there_and_back(codecs[data[2] % 4], data + 4, size - 4);
	return 0;
}
