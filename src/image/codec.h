/* How the bytes of a chunk are stored: a transform, then a codec, both chosen by a trial on a sample of the chunk.
 *
 * Transforms regroup the bytes of numbers, so that the slowly changing ones come to lie together: plain LZ4 saves
 * nothing on doubles, with the shuffle a quarter. A chunk that a codec does not make smaller by a few per cent is
 * stored raw.
 *
 * A struct mem_codec belongs to one thread. Everything here is pure computation.
 */
#ifndef FSCHED_IMAGE_CODEC_H
#define FSCHED_IMAGE_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define MEM_LEVEL_RAW  0 /* nothing is compressed */
#define MEM_LEVEL_LZ4  1 /* LZ4 with the best transform */
#define MEM_LEVEL_ZSTD 2 /* zstd level 1 where it beats LZ4 by enough, else LZ4; 3 is zstd level 2, and so on */
#define MEM_LEVEL_MAX  20

/* On disk: never renumber. */
enum mem_transform { MEM_PLAIN = 0, MEM_SHUFFLE8 = 1, MEM_SHUFFLE4 = 2, MEM_TRANSFORMS };
enum mem_method { MEM_RAW = 0, MEM_LZ4 = 1, MEM_ZSTD = 2, MEM_METHODS };

struct mem_format {
	uint8_t transform, method;
};

struct mem_codec;
/* For chunks of up to max_len bytes. level is cut to 0..MEM_LEVEL_MAX. */
struct mem_codec *mem_codec_new(int level, size_t max_len);
void mem_codec_free(struct mem_codec *c);

/* Room that mem_encode() needs for len bytes. */
size_t mem_encode_bound(size_t len);
/* Stores len > 0 bytes in out and returns how many it took: never more than len. */
size_t mem_encode(struct mem_codec *c, const void *raw, size_t len, void *out, struct mem_format *format);
/* The reverse. stored may be anything; raw gets len bytes, no more. -1 with EBADMSG if stored is not what gives exactly
 * len bytes. */
int mem_decode(struct mem_codec *c, struct mem_format format, const void *stored, size_t stored_len, void *raw,
	       size_t len, struct err *err);

/* out gets the first bytes of all elements, then the second bytes, ...; bytes behind the last whole element stay at the
 * end. size: 4 or 8. in and out do not overlap. */
void mem_shuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len);
void mem_unshuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len);

#endif
