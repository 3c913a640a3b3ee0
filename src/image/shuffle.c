/* Transposes arrays of elements of 8 or 4 bytes to planes of bytes, and back. */
#include "image/codec.h"
#include "image/image_internal.h"

#include <string.h>

/* Elements [from, count) one by one: the rest behind the blocks below, or all elements on processors other than x86. */
static void shuffle_elements(unsigned size, const uint8_t *in, uint8_t *out, size_t from, size_t count)
{
	for (unsigned b = 0; b < size; b++)
		for (size_t i = from; i < count; i++)
			out[b * count + i] = in[i * size + b];
}

static void unshuffle_elements(unsigned size, const uint8_t *in, uint8_t *out, size_t from, size_t count)
{
	for (size_t i = from; i < count; i++)
		for (unsigned b = 0; b < size; b++)
			out[i * size + b] = in[b * count + i];
}

void mem_shuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	size_t count = len / size;

	shuffle_elements(size, in, out, 0, count);
	memcpy(out + count * size, in + count * size, len % size);
}

void mem_unshuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	size_t count = len / size;

	unshuffle_elements(size, in, out, 0, count);
	memcpy(out + count * size, in + count * size, len % size);
}

#ifdef __SSE2__
#include <emmintrin.h>

#define BLOCK 16u /* elements that are transposed in registers */

/* The position of a byte in a block is a bit string: the number of its register, then 4 bits for the position within
 * the register. Interleaving the registers whose numbers differ in one bit moves this bit to the low end of the
 * position within the register, and the high bit of that position into the number. A few of these rotations move the
 * bits that select a byte of the element into the number of the register. */
static inline void interleave(__m128i *v, unsigned n, unsigned bit)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned j = i | bit;
		__m128i a = v[i], b = v[j];

		if (i & bit)
			continue;
		v[i] = _mm_unpacklo_epi8(a, b);
		v[j] = _mm_unpackhi_epi8(a, b);
	}
}

static inline __m128i load(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline void store(uint8_t *p, __m128i v)
{
	_mm_storeu_si128((__m128i *)(void *)p, v);
}

/* Registers are numbered by 3 bits, here (4, 2, 1). At the end, (4, 2, 1) hold bits (0, 2, 1) of the byte's number. */
static void shuffle8(const uint8_t *in, uint8_t *out, size_t count, size_t blocks)
{
	static const uint8_t plane[8] = { 0, 2, 4, 6, 1, 3, 5, 7 };

	for (size_t k = 0; k < blocks; k++) {
		__m128i v[8];

		for (unsigned r = 0; r < 8; r++)
			v[r] = load(in + k * BLOCK * 8 + r * 16);
		interleave(v, 8, 4);
		interleave(v, 8, 2);
		interleave(v, 8, 1);
		interleave(v, 8, 4);
		for (unsigned r = 0; r < 8; r++)
			store(out + plane[r] * count + k * BLOCK, v[r]);
	}
}

static void unshuffle8(const uint8_t *in, uint8_t *out, size_t count, size_t blocks)
{
	for (size_t k = 0; k < blocks; k++) {
		__m128i v[8];

		for (unsigned b = 0; b < 8; b++)
			v[b] = load(in + b * count + k * BLOCK);
		interleave(v, 8, 4);
		interleave(v, 8, 2);
		interleave(v, 8, 1);
		for (unsigned r = 0; r < 8; r++)
			store(out + k * BLOCK * 8 + r * 16, v[r]);
	}
}

static void shuffle4(const uint8_t *in, uint8_t *out, size_t count, size_t blocks)
{
	for (size_t k = 0; k < blocks; k++) {
		__m128i v[4];

		for (unsigned r = 0; r < 4; r++)
			v[r] = load(in + k * BLOCK * 4 + r * 16);
		interleave(v, 4, 2);
		interleave(v, 4, 1);
		interleave(v, 4, 2);
		interleave(v, 4, 1);
		for (unsigned b = 0; b < 4; b++)
			store(out + b * count + k * BLOCK, v[b]);
	}
}

static void unshuffle4(const uint8_t *in, uint8_t *out, size_t count, size_t blocks)
{
	for (size_t k = 0; k < blocks; k++) {
		__m128i v[4];

		for (unsigned b = 0; b < 4; b++)
			v[b] = load(in + b * count + k * BLOCK);
		interleave(v, 4, 2);
		interleave(v, 4, 1);
		for (unsigned r = 0; r < 4; r++)
			store(out + k * BLOCK * 4 + r * 16, v[r]);
	}
}

void mem_shuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	size_t count = len / size, blocks = count / BLOCK;

	if (size == 8)
		shuffle8(in, out, count, blocks);
	else
		shuffle4(in, out, count, blocks);
	shuffle_elements(size, in, out, blocks * BLOCK, count);
	memcpy(out + count * size, in + count * size, len % size);
}

void mem_unshuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	size_t count = len / size, blocks = count / BLOCK;

	if (size == 8)
		unshuffle8(in, out, count, blocks);
	else
		unshuffle4(in, out, count, blocks);
	unshuffle_elements(size, in, out, blocks * BLOCK, count);
	memcpy(out + count * size, in + count * size, len % size);
}

#else

void mem_shuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	mem_shuffle_plain(size, in, out, len);
}
void mem_unshuffle(unsigned size, const uint8_t *in, uint8_t *out, size_t len)
{
	mem_unshuffle_plain(size, in, out, len);
}

#endif
