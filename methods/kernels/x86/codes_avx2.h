/* Codes in vectors of bytes, for the AVX2 set: 32 values a step. Packing works inside halves: codes of a grid are
 * loaded so that the lower half of each vector holds the first 16 values, those of cells are put in order as bytes. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODES_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_CODES_AVX2_H

#include <stdbool.h>

enum { STEP = 32 };

/* A table by cell in registers: of those below 0, and the others. */
struct cell_bytes {
    __m256i below, above;
};

static inline struct cell_bytes load_cells(const uint8_t table[KV_CELLS])
{
    const __m128i *halves = (const __m128i *)(const void *)table;
    return (struct cell_bytes){_mm256_broadcastsi128_si256(_mm_loadu_si128(halves)),
                               _mm256_broadcastsi128_si256(_mm_loadu_si128(halves + 1))};
}

struct cell_tables {
    struct cell_bytes base, low, high;
};

static inline struct cell_tables load_cell_tables(const struct kv_cells *cells)
{
    return (struct cell_tables){load_cells(cells->base), load_cells(cells->low),
                                load_cells(cells->high)};
}

/* 32 bytes by cell: index is the cell's number from -16, signed; a byte whose top bit is set picks
 * 0. */
static inline __m256i pick_cells(struct cell_bytes table, __m256i index, __m256i other)
{
    return _mm256_or_si256(_mm256_shuffle_epi8(table.above, index),
                           _mm256_shuffle_epi8(table.below, other));
}

/* 16 signed words of 16 values: 0 .. 3 and 8 .. 11, then 4 .. 7 and 12 .. 15. What no word or no integer holds
 * becomes 32767 or -32768; the latter stands for all that must be looked at. */
static inline __m256i round_words(const float *x, vec by)
{
    const vec a = mul(load(x), by), b = mul(load(x + LANES), by);
    return _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
}

/* Bytes of two such vectors, as the values come. */
static inline __m256i order_dwords(__m256i bytes)
{
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Codes of 32 values in words, that of an edge as if below it; *same has a bit for each value that
 * rounds to an edge. */
static inline __m256i cells_of_words(const struct cell_tables *tables, const __m256i words[2],
                                     uint32_t *same)
{
    const __m256i index =
        _mm256_packs_epi16(_mm256_srai_epi16(words[0], 11), _mm256_srai_epi16(words[1], 11));
    const __m256i other = _mm256_xor_si256(index, _mm256_set1_epi8(-128));
    const __m256i base = pick_cells(tables->base, index, other);
    const __m256i low = pick_cells(tables->low, index, other);
    const __m256i high = pick_cells(tables->high, index, other);
    const __m256i edge0 = _mm256_unpacklo_epi8(low, high), edge1 = _mm256_unpackhi_epi8(low, high);
    const __m256i equal = _mm256_packs_epi16(_mm256_cmpeq_epi16(words[0], edge0),
                                             _mm256_cmpeq_epi16(words[1], edge1));
    const __m256i above = _mm256_packs_epi16(_mm256_cmpgt_epi16(words[0], edge0),
                                             _mm256_cmpgt_epi16(words[1], edge1));
    *same = (uint32_t)_mm256_movemask_epi8(order_dwords(equal));
    return order_dwords(_mm256_sub_epi8(base, above));
}

/* Values that round to the edge of their cell, compared in full: with its threshold, or, where it
 * has none, with all. */
static __attribute__((noinline)) void KERNEL(settle_cells)(const struct kv_cells *cells,
                                                           const float *x, float factor,
                                                           uint64_t same, uint8_t *codes)
{
    for (; same; same &= same - 1) {
        const int i = __builtin_ctzll(same);
        const float y = x[i] * factor * cells->unit;
        uint32_t code = codes[i] == 255 ? 0 : codes[i];
        const uint32_t end = codes[i] == 255 ? cells->n : code + 1;
        for (; code < end && y > cells->thresholds[code]; code++)
            ;
        codes[i] = (uint8_t)code;
    }
}

/* One or two steps, side by side: from a value to its code some fifteen operations wait for each
 * other. */
ALWAYS_INLINE void code_steps(const struct kv_cells *cells, const struct cell_tables *tables,
                              const float *x, uint32_t many, float factor, uint8_t *codes)
{
    const vec by = spread(factor * cells->steps);
    __m256i words[4];
    uint32_t same[2] = {0, 0};
    UNROLLED for (uint32_t k = 0; k < 2 * many; k++) words[k] =
        round_words(x + k * STEP / 2, by);
    UNROLLED for (uint32_t k = 0; k < many; k++) _mm256_storeu_si256(
        (__m256i *)(void *)(codes + k * STEP), cells_of_words(tables, words + 2 * k, &same[k]));
    if (__builtin_expect(same[0] | same[1], 0))
        KERNEL(settle_cells)(cells, x, factor, (uint64_t)same[1] << 32 | same[0], codes);
}

static void KERNEL(cell_codes)(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    size_t i = 0;
    if (is_plain_factor(cells, factor)) {
        const struct cell_tables tables = load_cell_tables(cells);
        for (; i + 2 * STEP <= n; i += 2 * STEP)
            code_steps(cells, &tables, x + i, 2, factor, codes + i);
        for (; i + STEP <= n; i += STEP) code_steps(cells, &tables, x + i, 1, factor, codes + i);
    }
    if (i < n) KERNEL(plain_cell_codes)(cells, x + i, n - i, factor, codes + i);
}

/* Of a block's STEP values, which have a factor of their own. */
ALWAYS_INLINE void block_cells(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    const struct cell_tables tables = load_cell_tables(cells);
    if (is_plain_factor(cells, factor))
        code_steps(cells, &tables, x, 1, factor, codes);
    else
        KERNEL(plain_cell_codes)(cells, x, n, factor, codes);
}

/* -- grids ------------------------------------------------------------------------------------ */

/* t = q + 1.5 * 2^23, whose low bits are rint(q), with q = (x - low) * inverse from 0 to top, and
 * the largest |q - rint(q)| so far. */
static inline __m256i grid_words(const float *x, __m256 low, __m256 inverse, __m256 top,
                                 __m256 *off)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    __m256 q = _mm256_mul_ps(_mm256_sub_ps(load_halves(x, x + 16), low), inverse);
    q = _mm256_min_ps(_mm256_max_ps(q, _mm256_setzero_ps()), top);
    const __m256 t = _mm256_add_ps(q, magic);
    *off = _mm256_max_ps(*off, magnitude(_mm256_sub_ps(q, _mm256_sub_ps(t, magic))));
    return _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_castps_si256(magic));
}

/* The contract's quotient (x - minimum) / scale, of at most 255, and this product with a rounded
 * inverse differ by less than 255 * 2^-22 < 2^-13: only where the product lies so near to a middle
 * of two codes is the division needed. */
static void KERNEL(grid_codes)(const float *x, size_t n, float minimum, float scale,
                               uint32_t levels, uint8_t *codes)
{
    const bool usual = scale >= 0x1p-100f && scale <= 0x1p100f;
    const __m256 low = _mm256_set1_ps(minimum), inverse = _mm256_set1_ps(1.0f / scale);
    const __m256 top = _mm256_set1_ps((float)(levels - 1)), sure = _mm256_set1_ps(0.5f - 0x1p-13f);
    size_t i = 0;
    for (; usual && i + STEP <= n; i += STEP) {
        __m256 off = _mm256_setzero_ps();
        const __m256i a = grid_words(x + i, low, inverse, top, &off);
        const __m256i b = grid_words(x + i + 4, low, inverse, top, &off);
        const __m256i c = grid_words(x + i + 8, low, inverse, top, &off);
        const __m256i d = grid_words(x + i + 12, low, inverse, top, &off);
        const __m256i bytes =
            _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        if (_mm256_movemask_ps(_mm256_cmp_ps(off, sure, _CMP_GE_OQ)))
            KERNEL(grid_encode)(x + i, STEP, minimum, scale, levels, codes + i);
        else
            _mm256_storeu_si256((__m256i *)(void *)(codes + i), bytes);
    }
    if (i < n) KERNEL(grid_encode)(x + i, n - i, minimum, scale, levels, codes + i);
}

/* -- codes whose bits divide a byte ----------------------------------------------------------- */

/* 32 codes -> 4 bits bytes, neighbours by multiply-adds. */
static inline void pack_step(const uint8_t *codes, uint32_t bits, uint8_t *packed)
{
    const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
    const __m256i v =
        _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)codes), mask);
    if (bits == 1) {
        const uint32_t word = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(v, 7));
        memcpy(packed, &word, sizeof word);
        return;
    }
    __m256i pairs = _mm256_maddubs_epi16(v, _mm256_set1_epi16((short)(1 + (256 << bits))));
    if (bits == 2) pairs = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 + (16 << 16)));
    const __m128i low = _mm256_castsi256_si128(pairs), high = _mm256_extracti128_si256(pairs, 1);
    if (bits == 4)
        _mm_storeu_si128((__m128i *)(void *)packed, _mm_packus_epi16(low, high));
    else
        _mm_storel_epi64((__m128i *)(void *)packed,
                         _mm_packus_epi16(_mm_packus_epi32(low, high), low));
}

/* Bytes of two parts of `bits` bits, the low one first, to bytes of one: 16 become 32. */
static inline void split_parts(__m128i both, int bits, __m128i out[2])
{
    const __m128i part = _mm_set1_epi8((char)((1 << bits) - 1)), first = _mm_and_si128(both, part);
    const __m128i second = _mm_and_si128(_mm_srli_epi16(both, bits), part);
    out[0] = _mm_unpacklo_epi8(first, second);
    out[1] = _mm_unpackhi_epi8(first, second);
}

/* And back. Two bits are halves of nibbles. */
static inline void unpack_step(const uint8_t *packed, uint32_t bits, uint8_t *codes)
{
    const __m128i *from = (const __m128i *)(const void *)packed;
    if (bits > 1) {
        __m128i x[2];
        split_parts(bits == 4 ? _mm_loadu_si128(from) : _mm_loadl_epi64(from), 4, x);
        if (bits == 2) split_parts(x[0], 2, x);
        _mm_storeu_si128((__m128i *)(void *)codes, x[0]);
        _mm_storeu_si128((__m128i *)(void *)(codes + 16), x[1]);
        return;
    }
    const __m256i spread_bytes = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2,
                                                  2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    uint32_t word;
    memcpy(&word, packed, sizeof word);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)word), spread_bytes);
    const __m256i found = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_storeu_si256((__m256i *)(void *)codes, _mm256_and_si256(found, _mm256_set1_epi8(1)));
}

#include "methods/kernels/x86/code_steps.h"

/* 32 codes of three bits, which are 12 bytes: each in a word of its two bytes, moved to its top by
 * a product, then down. */
static inline void unpack_threes(const uint8_t *packed, uint8_t *codes)
{
    const __m256i first = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 1, 2, 1, 2, 1, 2, 2, 3, 2, 3, 6, 7, 6,
                                           7, 6, 7, 7, 8, 7, 8, 7, 8, 8, 9, 8, 9);
    const __m256i last = _mm256_add_epi8(first, _mm256_set1_epi8(3));
    const __m256i up = _mm256_broadcastsi128_si256(
        _mm_setr_epi16(1 << 13, 1 << 10, 1 << 7, 1 << 12, 1 << 9, 1 << 6, 1 << 11, 1 << 8));
    int32_t end;
    memcpy(&end, packed + 8, sizeof end);
    const __m128i begin = _mm_loadl_epi64((const __m128i *)(const void *)packed);
    const __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(begin, _mm_cvtsi32_si128(end)));
    const __m256i a = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, first), up);
    const __m256i b = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, last), up);
    _mm256_storeu_si256((__m256i *)(void *)codes,
                        _mm256_packus_epi16(_mm256_srli_epi16(a, 13), _mm256_srli_epi16(b, 13)));
}

static void KERNEL(unpack_codes)(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes)
{
    for (; bits == 3 && n >= STEP; n -= STEP, packed += 3 * STEP / 8, codes += STEP)
        unpack_threes(packed, codes);
    KERNEL(unpack_steps)(packed, n, bits, codes);
}

#endif
