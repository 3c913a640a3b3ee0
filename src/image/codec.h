/* How the bytes of a chunk are stored: first a transform, then a compression. Both are chosen by a trial on a sample of
 * the chunk.
 *
 * Transforms regroup the bytes of numbers so that the bytes that change slowly become neighbours: plain LZ4 saves
 * nothing on doubles, with the shuffle it saves a quarter. A chunk that a compression does not make smaller by at least
 * 3 % is stored raw.
 *
 * A struct mem_codec belongs to one thread. Everything here is pure computation. */
#ifndef FSCHED_IMAGE_CODEC_H
#define FSCHED_IMAGE_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define MEM_LEVEL_AUTO -1 /* the writer decides between MEM_LEVEL_RAW and MEM_LEVEL_LZ4, see image/pace.h */
#define MEM_LEVEL_RAW  0  /* no compression */
#define MEM_LEVEL_LZ4  1  /* LZ4 with the best transform */
#define MEM_LEVEL_ZSTD                                                                                \
	2 /* zstd level 1 where it saves enough more than LZ4, else LZ4; 3 is zstd level 2, and so on \
	   */
#define MEM_LEVEL_MAX 20

/* These numbers are on disk: never renumber. */
enum mem_transform { MEM_PLAIN = 0, MEM_SHUFFLE8 = 1, MEM_SHUFFLE4 = 2, MEM_TRANSFORMS };
enum mem_compression { MEM_RAW = 0, MEM_LZ4 = 1, MEM_ZSTD = 2, MEM_COMPRESSIONS };

struct mem_format {
	uint8_t transform, compression;
};

struct mem_codec;
/* For chunks of up to max_len bytes. level is clamped to MEM_LEVEL_RAW..MEM_LEVEL_MAX. Never NULL. */
struct mem_codec *mem_codec_new(int level, size_t max_len);
void mem_codec_free(struct mem_codec *c);

/* Bytes of room that mem_encode() needs in out for len bytes. */
size_t mem_encode_bound(size_t len);
/* Stores len > 0 bytes in out, sets *format and returns the number of stored bytes, which is at most len. */
size_t mem_encode(struct mem_codec *c, const void *raw, size_t len, void *out, struct mem_format *format);
/* The same without compression. */
size_t mem_encode_raw(const void *raw, size_t len, void *out, struct mem_format *format);
/* The reverse. stored and format may come from an attacker; at most len bytes are written to raw. -1 with EBADMSG if
 * stored does not decode to exactly len bytes. */
int mem_decode(struct mem_codec *c, struct mem_format format, const void *stored, size_t stored_len, void *raw,
	       size_t len, struct err *err);

/* out gets the first bytes of all elements, then their second bytes, and so on. Bytes behind the last whole element
 * stay at the end. size: bytes of an element, 4 or 8. in and out must not overlap. */
void mem_shuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len);
void mem_unshuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len);

#endif
