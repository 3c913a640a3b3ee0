#include "unit.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "image/codec.h"
#include "image/image_internal.h"

static struct err err;
static uint8_t raw[MEM_CHUNK], back[MEM_CHUNK + 64], stored[MEM_CHUNK * 2];

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

enum kind { ZEROS, RANDOM, DOUBLES, FLOATS, TEXT, KINDS };

static void make(enum kind kind, uint8_t *out, size_t len)
{
	memset(out, 0, len);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = 0;

		if (kind == RANDOM) {
			byte = (uint8_t)next_random();
		} else if (kind == DOUBLES) {
			double v = sin((double)(i / 8) * 0.003) + 2;

			byte = ((uint8_t *)&v)[i % 8];
		} else if (kind == FLOATS) {
			float v = (float)(300 + sin((double)(i / 4) * 0.001));

			byte = ((uint8_t *)&v)[i % 4];
		} else if (kind == TEXT) {
			byte = (uint8_t) "the quick brown fox jumps over the lazy dog; "[(i * 7 + i / 64) % 45];
		}
		out[i] = byte;
	}
}

/* ---- shuffle ----------------------------------------------------------- */

static void shuffle_and_back(void **state)
{
	static const size_t lens[] = { 0,        1,   3,   4,   7,    8,    9,    63,   64,
				       65,       127, 128, 129, 1000, 4095, 4096, 4099, MEM_CHUNK - 1,
				       MEM_CHUNK };
	static uint8_t plain[MEM_CHUNK], fast[MEM_CHUNK];

	(void)state;
	make(RANDOM, raw, sizeof(raw));
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		for (unsigned size = 4; size <= 8; size += 4) {
			mem_shuffle(size, raw, fast, lens[i]);
			mem_shuffle_plain(size, raw, plain, lens[i]);
			assert_memory_equal(fast, plain, lens[i]);
			mem_unshuffle(size, fast, back, lens[i]);
			assert_memory_equal(back, raw, lens[i]);
			mem_unshuffle_plain(size, fast, back, lens[i]);
			assert_memory_equal(back, raw, lens[i]);
		}
}

static void shuffle_is_what_it_says(void **state)
{
	uint8_t out[20];

	(void)state;
	mem_shuffle(8, (const uint8_t *)"abcdefghABCDEFGHxyz", out, 19);
	assert_memory_equal(out, "aAbBcCdDeEfFgGhHxyz", 19);
	mem_shuffle(4, (const uint8_t *)"abcdABCDxyz", out, 11);
	assert_memory_equal(out, "aAbBcCdDxyz", 11);
}

/* ---- encode, decode ---------------------------------------------------- */

static struct mem_format round_trip(struct mem_codec *c, enum kind kind, size_t len, size_t *n)
{
	struct mem_format f = { 9, 9 };

	make(kind, raw, len);
	*n = mem_encode(c, raw, len, stored, &f);
	assert_true(*n > 0 && *n <= len);
	memset(back, 0xee, sizeof(back));
	if (mem_decode(c, f, stored, *n, back, len, &err) < 0)
		fail_msg("kind %d, %zu bytes: %s", kind, len, err.text);
	assert_memory_equal(back, raw, len);
	assert_int_equal(back[len], 0xee);
	return f;
}

static void every_kind_and_level(void **state)
{
	static const size_t lens[] = { 1, 5, 100, 4096, 4097, 8192, 65536 + 13, MEM_CHUNK - 4096, MEM_CHUNK };

	(void)state;
	assert_true(mem_encode_bound(MEM_CHUNK) <= sizeof(stored));
	for (int level = -1; level <= 6; level++)
		for (int kind = 0; kind < KINDS; kind++) {
			struct mem_codec *c = mem_codec_new(level, MEM_CHUNK);
			size_t n;

			for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
				round_trip(c, (enum kind)kind, lens[i], &n);
			mem_codec_free(c);
		}
}

static void picks_what_fits(void **state)
{
	struct mem_codec *c = mem_codec_new(MEM_LEVEL_LZ4, MEM_CHUNK);
	struct mem_format f;
	size_t n;

	(void)state;
	f = round_trip(c, RANDOM, MEM_CHUNK, &n);
	assert_int_equal(f.compression, MEM_RAW);
	assert_int_equal(n, MEM_CHUNK);
	mem_codec_free(c);

	c = mem_codec_new(MEM_LEVEL_LZ4, MEM_CHUNK);
	f = round_trip(c, DOUBLES, MEM_CHUNK, &n);
	assert_int_equal(f.compression, MEM_LZ4);
	assert_int_equal(f.transform, MEM_SHUFFLE8);
	assert_true(n < MEM_CHUNK * 9 / 10);
	mem_codec_free(c);

	c = mem_codec_new(MEM_LEVEL_LZ4, MEM_CHUNK);
	f = round_trip(c, FLOATS, MEM_CHUNK, &n);
	assert_int_not_equal(f.transform, MEM_PLAIN);
	mem_codec_free(c);

	c = mem_codec_new(MEM_LEVEL_RAW, MEM_CHUNK);
	f = round_trip(c, ZEROS, MEM_CHUNK, &n);
	assert_int_equal(f.compression, MEM_RAW);
	mem_codec_free(c);
}

/* Data that changes its kind all the time: whatever the last trial found, nothing may go wrong. */
static void kinds_in_turn(void **state)
{
	(void)state;
	for (int level = 1; level <= 3; level++) {
		struct mem_codec *c = mem_codec_new(level, MEM_CHUNK);
		size_t n;

		for (int i = 0; i < 200; i++)
			round_trip(c, (enum kind)(next_random() % KINDS), 4096 * (1 + next_random() % 64), &n);
		mem_codec_free(c);
	}
}

static void after_a_change_a_new_trial(void **state)
{
	struct mem_codec *c = mem_codec_new(MEM_LEVEL_LZ4, MEM_CHUNK);
	size_t n, sum = 0;

	(void)state;
	round_trip(c, RANDOM, MEM_CHUNK, &n);
	for (int i = 0; i < 20; i++) {
		round_trip(c, TEXT, MEM_CHUNK, &n);
		sum += n;
	}
	assert_true(sum < 10 * (size_t)MEM_CHUNK);
	mem_codec_free(c);
}

static void rubbish_is_refused(void **state)
{
	struct mem_codec *c = mem_codec_new(2, MEM_CHUNK);

	(void)state;
	for (unsigned t = 0; t < MEM_TRANSFORMS + 1; t++)
		for (unsigned m = 0; m < MEM_COMPRESSIONS + 1; m++)
			for (size_t len = 0; len < 300; len += 7) {
				const struct mem_format f = { (uint8_t)t, (uint8_t)m };

				make(RANDOM, stored, len);
				memset(back, 0xee, sizeof(back));
				/* Bytes that happen to be right are no error; nothing may be written behind the end. */
				mem_decode(c, f, stored, len, back, 4096, &err);
				assert_int_equal(back[4096], 0xee);
			}
	assert_int_equal(mem_decode(c, (struct mem_format){ MEM_PLAIN, MEM_RAW }, stored, 4095, back, 4096, &err), -1);
	assert_int_equal(err.num, EBADMSG);
	assert_int_equal(mem_decode(c, (struct mem_format){ MEM_PLAIN, MEM_RAW }, stored, MEM_CHUNK + 1, back,
				    MEM_CHUNK + 1, &err),
			 -1);
	mem_codec_free(c);
}

static void cut_off_is_refused(void **state)
{
	struct mem_codec *c;
	struct mem_format f;
	size_t n;

	(void)state;
	for (int level = 1; level <= 2; level++) {
		c = mem_codec_new(level, MEM_CHUNK);
		f = round_trip(c, TEXT, 16384, &n);
		assert_int_not_equal(f.compression, MEM_RAW);
		for (size_t cut = 1; cut < n; cut += 3)
			assert_int_equal(mem_decode(c, f, stored, n - cut, back, 16384, &err), -1);
		assert_int_equal(mem_decode(c, f, stored, n, back, 16383, &err), -1);
		mem_codec_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shuffle_and_back),     cmocka_unit_test(shuffle_is_what_it_says),
		cmocka_unit_test(every_kind_and_level), cmocka_unit_test(picks_what_fits),
		cmocka_unit_test(kinds_in_turn),        cmocka_unit_test(after_a_change_a_new_trial),
		cmocka_unit_test(rubbish_is_refused),   cmocka_unit_test(cut_off_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
