#include "image/codec.h"
#include "image/image_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <lz4.h>
#include <zstd.h>

#include "base/util.h"

#define SAMPLE_PIECE    4096u /* bytes, from each of SAMPLE_PIECES places in the chunk */
#define SAMPLE_PIECES   4u
#define SAMPLE          (SAMPLE_PIECE * SAMPLE_PIECES)
/* A trial every so many chunks, because neighbours are alike. A chunk that is stored much better or worse than the
 * trial estimated brings the next trial forward. */
#define TRIAL_EVERY     16u
/* The same after a trial that chose raw: raw chunks cannot differ from the estimate, and such a trial is fast. */
#define RAW_TRIAL_EVERY 4u
#define WORTH_PERCENT   97u /* a chunk that stays larger than this is stored raw */

struct mem_codec {
	int level;
	size_t max_len;
	void *lz4;
	ZSTD_CCtx *zc;
	ZSTD_DCtx *zd;
	uint8_t *scratch;             /* max_len: a transformed chunk */
	uint8_t *sample, *sample_out; /* of the trial */
	struct mem_format choice;     /* of the last trial */
	unsigned age;                 /* chunks since the last trial */
	unsigned expected;            /* stored size that the trial estimated, per mille of the raw size */
};

static unsigned element_size(uint8_t transform)
{
	return transform == MEM_SHUFFLE8 ? 8 : 4;
}

struct mem_codec *mem_codec_new(int level, size_t max_len)
{
	struct mem_codec *c = xcalloc(1, sizeof(*c));

	c->level = level < MEM_LEVEL_RAW ? MEM_LEVEL_RAW : level > MEM_LEVEL_MAX ? MEM_LEVEL_MAX : level;
	c->max_len = max_len;
	c->age = TRIAL_EVERY;
	c->scratch = xmalloc(max_len ? max_len : 1);
	return c;
}

void mem_codec_free(struct mem_codec *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->zc);
	ZSTD_freeDCtx(c->zd);
	free(c->lz4);
	free(c->scratch);
	free(c->sample);
	free(c->sample_out);
	free(c);
}

size_t mem_encode_bound(size_t len)
{
	size_t lz4 = (size_t)LZ4_compressBound((int)len), zstd = ZSTD_compressBound(len);

	return lz4 > zstd ? lz4 : zstd;
}

/* ---- one format -------------------------------------------------------- */

/* The stored size; 0 on failure. */
static size_t codec_compress(struct mem_codec *c, uint8_t method, int zstd_level, const uint8_t *in, size_t len,
			     uint8_t *out)
{
	size_t room = mem_encode_bound(len), n;

	if (method == MEM_LZ4) {
		if (!c->lz4)
			c->lz4 = xmalloc((size_t)LZ4_sizeofState());
		n = (size_t)LZ4_compress_fast_extState(c->lz4, (const char *)in, (char *)out, (int)len, (int)room, 1);
		return n;
	}
	if (!c->zc)
		c->zc = ZSTD_createCCtx();
	n = c->zc ? ZSTD_compressCCtx(c->zc, out, room, in, len, zstd_level) : 0;
	return ZSTD_isError(n) ? 0 : n;
}

static const uint8_t *codec_transform(struct mem_codec *c, uint8_t transform, const uint8_t *raw, size_t len)
{
	if (transform == MEM_PLAIN)
		return raw;
	mem_shuffle(element_size(transform), raw, c->scratch, len);
	return c->scratch;
}

/* ---- the trial --------------------------------------------------------- */

static size_t codec_take_sample(uint8_t *sample, const uint8_t *raw, size_t len)
{
	if (len <= SAMPLE) {
		memcpy(sample, raw, len);
		return len;
	}
	for (size_t i = 0; i < SAMPLE_PIECES; i++) {
		size_t at = (len - SAMPLE_PIECE) * i / (SAMPLE_PIECES - 1) / SAMPLE_PIECE * SAMPLE_PIECE;

		memcpy(sample + i * SAMPLE_PIECE, raw + at, SAMPLE_PIECE);
	}
	return SAMPLE;
}

/* The factor, per mille, by which the size of a sample is multiplied to take the time into account. zstd takes several
 * times as long as LZ4 in both directions, so it has to save more: on text it does, on shuffled doubles it does not. */
static unsigned codec_handicap(struct mem_format f)
{
	unsigned method = f.compression == MEM_ZSTD ? 60 : f.compression == MEM_LZ4 ? 20 : 0;

	return 1000 + method + (f.transform != MEM_PLAIN ? 5 : 0);
}

static size_t codec_try_format(struct mem_codec *c, struct mem_format f, size_t len)
{
	const uint8_t *in = c->sample;

	if (f.transform != MEM_PLAIN) {
		uint8_t *shuffled = c->sample + SAMPLE;

		mem_shuffle(element_size(f.transform), c->sample, shuffled, len);
		in = shuffled;
	}
	return codec_compress(c, f.compression, 1, in, len, c->sample_out);
}

static void codec_trial(struct mem_codec *c, const uint8_t *raw, size_t len)
{
	uint64_t best;

	if (!c->sample) {
		c->sample = xmalloc(2 * SAMPLE);
		c->sample_out = xmalloc(mem_encode_bound(SAMPLE));
	}
	len = codec_take_sample(c->sample, raw, len);
	best = (uint64_t)len * WORTH_PERCENT * 10;
	c->choice = (struct mem_format){ MEM_PLAIN, MEM_RAW };
	c->expected = 1000;
	c->age = 0;
	for (uint8_t m = MEM_LZ4; m <= (c->level >= MEM_LEVEL_ZSTD ? MEM_ZSTD : MEM_LZ4); m++)
		for (uint8_t t = MEM_PLAIN; t < MEM_TRANSFORMS; t++) {
			struct mem_format f = { t, m };
			size_t n = codec_try_format(c, f, len);

			if (n == 0 || n * codec_handicap(f) >= best)
				continue;
			best = n * codec_handicap(f);
			c->choice = f;
			c->expected = (unsigned)(n * 1000 / len);
		}
	if (c->choice.compression == MEM_RAW)
		c->age = TRIAL_EVERY - RAW_TRIAL_EVERY;
}

/* ---- chunks ------------------------------------------------------------ */

size_t mem_encode_raw(const void *raw, size_t len, void *out, struct mem_format *format)
{
	*format = (struct mem_format){ MEM_PLAIN, MEM_RAW };
	memcpy(out, raw, len);
	return len;
}

/* A chunk whose stored size differs much from the estimate has another kind of data than the sample: try again. */
static void codec_check_estimate(struct mem_codec *c, size_t n, size_t len)
{
	unsigned got = (unsigned)(n * 1000 / len), diff = got > c->expected ? got - c->expected : c->expected - got;

	if (diff > 50 + c->expected / 8)
		c->age = TRIAL_EVERY;
}

size_t mem_encode(struct mem_codec *c, const void *raw, size_t len, void *out, struct mem_format *format)
{
	size_t n;

	if (c->level == MEM_LEVEL_RAW)
		return mem_encode_raw(raw, len, out, format);
	if (c->age++ >= TRIAL_EVERY)
		codec_trial(c, raw, len);
	if (c->choice.compression == MEM_RAW)
		return mem_encode_raw(raw, len, out, format);
	*format = c->choice;
	n = codec_compress(c, format->compression, c->level - 1, codec_transform(c, format->transform, raw, len), len,
			   out);
	codec_check_estimate(c, n ? n : len, len);
	if (n == 0 || n >= len / 100 * WORTH_PERCENT)
		return mem_encode_raw(raw, len, out, format);
	return n;
}

static int codec_bad_chunk(struct err *err)
{
	return err_set(err, EBADMSG, "a chunk cannot be decompressed");
}

int mem_decode(struct mem_codec *c, struct mem_format format, const void *stored, size_t stored_len, void *raw,
	       size_t len, struct err *err)
{
	uint8_t *out = format.transform == MEM_PLAIN ? raw : c->scratch;
	size_t n = 0;

	/* No chunk is empty: n = 0 below stands for a failure of a decoder. */
	if (len == 0 || len > c->max_len || stored_len > INT32_MAX || format.transform >= MEM_TRANSFORMS)
		return codec_bad_chunk(err);
	switch (format.compression) {
	case MEM_RAW:
		if (stored_len != len)
			return codec_bad_chunk(err);
		memcpy(out, stored, len);
		n = len;
		break;
	case MEM_LZ4: {
		int got = LZ4_decompress_safe(stored, (char *)out, (int)stored_len, (int)len);

		n = got < 0 ? 0 : (size_t)got;
		break;
	}
	case MEM_ZSTD:
		if (!c->zd)
			c->zd = ZSTD_createDCtx();
		n = c->zd ? ZSTD_decompressDCtx(c->zd, out, len, stored, stored_len) : 0;
		break;
	default: break;
	}
	if (n != len) /* zstd returns errors as huge numbers */
		return codec_bad_chunk(err);
	if (format.transform != MEM_PLAIN)
		mem_unshuffle(element_size(format.transform), c->scratch, raw, len);
	return 0;
}
