/* Codes for the AVX-512 set: in vectors of bytes, 64 a step, where their bits divide a byte. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODES_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_CODES_AVX512_H

#include <stdbool.h>

enum { STEP = 64 };

/* 2 LANES values as words, by fours of the first LANES and of the others. What no word or no
 * integer holds becomes 32767 or -32768; the latter stands for all that must be looked at. */
static inline __m512i round_words(const float *x, vec by)
{
    const vec a = mul(load(x), by), b = mul(load(x + LANES), by);
    return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
}

/* See struct kv_cells: codes above 12 bits that are 0 at an edge. */
static inline __m512i sum_words(__m512i words, __m512i sums)
{
    const __m512i cell = _mm512_srli_epi16(words, 11);
    return _mm512_add_epi16(words, _mm512_permutexvar_epi16(cell, sums));
}

static inline __mmask32 at_edges(__m512i summed)
{
    return _mm512_testn_epi16_mask(summed, _mm512_set1_epi16(0x0fff));
}

/* 4 LANES words of round_words, or what became of them. */
static inline __m512i bytes_of_words(__m512i a, __m512i b)
{
    return order_dwords(_mm512_packs_epi16(a, b));
}

/* Values that round to the edge of a cell, compared in full; masks of words that lie as they do in
 * bytes_of_words. */
static __attribute__((noinline)) void KERNEL(settle_cells)(const struct kv_cells *cells,
                                                           const float *x, uint32_t width,
                                                           float factor, uint8_t *codes,
                                                           const uint32_t at[2])
{
    const vec thresholds = load_part(cells->thresholds, cells->n);
    const __mmask16 all = first_lanes(cells->n);
    const __m512i flags = bytes_of_words(_mm512_movm_epi16(at[0]), _mm512_movm_epi16(at[1]));
    uint64_t same = _mm512_movepi8_mask(flags) & ~0ull >> (STEP - width);
    for (; same; same &= same - 1) {
        const int i = __builtin_ctzll(same);
        const vec y = spread(x[i] * factor * cells->unit);
        codes[i] = (uint8_t)__builtin_popcount(all & lanes_above(y, thresholds));
    }
}

/* STEP values, or half as many. */
ALWAYS_INLINE void cell_step(const struct kv_cells *cells, const float *x, uint32_t width,
                             float factor, uint8_t *codes)
{
    const vec by = spread(factor * cells->steps);
    const __m512i sums = _mm512_loadu_si512(cells->sums);
    const __m512i a = sum_words(round_words(x, by), sums);
    const __m512i b = width == STEP ? sum_words(round_words(x + STEP / 2, by), sums) : a;
    const __m512i bytes = bytes_of_words(_mm512_srli_epi16(a, 12), _mm512_srli_epi16(b, 12));
    if (width == STEP)
        _mm512_storeu_si512(codes, bytes);
    else
        _mm256_storeu_si256((__m256i *)(void *)codes, _mm512_castsi512_si256(bytes));
    if (__builtin_expect(!_kortestz_mask32_u8(at_edges(a), at_edges(b)), 0))
        KERNEL(settle_cells)(cells, x, width, factor, codes,
                             (const uint32_t[]){at_edges(a), at_edges(b)});
}

/* Fewer values. */
static __attribute__((noinline)) void KERNEL(cell_rest)(const struct kv_cells *cells,
                                                        const float *x, size_t n, float factor,
                                                        uint8_t *codes)
{
    enum { MOST = STEP / 2 };
    float padded[MOST];
    uint8_t some[MOST];
    for (size_t i = 0; i < MOST; i++) padded[i] = i < n ? x[i] : x[0];
    cell_step(cells, padded, MOST, factor, some);
    memcpy(codes, some, n);
}

/* 16 to 31 thresholds: a table that a search holds in registers. */
static __attribute__((noinline)) void KERNEL(search_products)(const struct kv_cells *cells,
                                                              const float *x, size_t n,
                                                              float factor, uint8_t *codes)
{
    const vec by = spread(factor), unit = spread(cells->unit);
    vec levels[SEARCH_LEVELS], y[4];
    vec_int code[4];
    search_tables(cells->thresholds, cells->n, SEARCH_LEVELS, levels);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLLED for (uint32_t k = 0; k < 4; k++) y[k] =
            mul(mul(load(x + i + k * LANES), by), unit);
        search(y, code, levels, SEARCH_LEVELS, 4);
        UNROLLED for (uint32_t k = 0; k < 4; k++) store_counts(codes + i + k * LANES, code[k]);
    }
    for (; i < n; i += LANES) {
        const size_t width = n - i < LANES ? n - i : LANES;
        y[0] = mul(mul(load_part(x + i, width), by), unit);
        search(y, code, levels, SEARCH_LEVELS, 1);
        _mm_mask_storeu_epi8(codes + i, first_lanes(width), _mm512_cvtepi32_epi8(code[0]));
    }
}

static void KERNEL(cell_codes)(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    size_t i = 0;
    if (is_short_cut(cells, factor)) {
        for (; i + STEP <= n; i += STEP) cell_step(cells, x + i, STEP, factor, codes + i);
        if (i + STEP / 2 <= n) {
            cell_step(cells, x + i, STEP / 2, factor, codes + i);
            i += STEP / 2;
        }
        if (i < n) KERNEL(cell_rest)(cells, x + i, n - i, factor, codes + i);
    } else if (cells->n > KV_SUMMED && cells->n < 1u << SEARCH_LEVELS)
        KERNEL(search_products)(cells, x, n, factor, codes);
    else
        KERNEL(plain_cell_codes)(cells, x, n, factor, codes);
}

/* A block's 32 values, which have a factor of their own. */
ALWAYS_INLINE void block_cells(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    if (is_short_cut(cells, factor))
        cell_step(cells, x, STEP / 2, factor, codes);
    else
        KERNEL(plain_cell_codes)(cells, x, n, factor, codes);
}

/* 64 codes -> 8 bits bytes, neighbours by multiply-adds. */
ALWAYS_INLINE void pack_step(const uint8_t *codes, uint32_t bits, uint8_t *packed)
{
    const __m512i v =
        _mm512_and_si512(_mm512_loadu_si512(codes), _mm512_set1_epi8((char)((1 << bits) - 1)));
    if (bits == 1) {
        const uint64_t word = _mm512_test_epi8_mask(v, v);
        memcpy(packed, &word, sizeof word);
        return;
    }
    const __m512i pairs = _mm512_maddubs_epi16(v, _mm512_set1_epi16((short)(1 + (256 << bits))));
    if (bits == 4) {
        _mm256_storeu_si256((__m256i *)(void *)packed, _mm512_cvtepi16_epi8(pairs));
        return;
    }
    const __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(1 + (16 << 16)));
    _mm_storeu_si128((__m128i *)(void *)packed, _mm512_cvtepi32_epi8(fours));
}

/* And back: bytes apart by their number of codes, then copies moved over each other. */
ALWAYS_INLINE void unpack_step(const uint8_t *packed, uint32_t bits, uint8_t *codes)
{
    __m512i x;
    if (bits == 1) {
        uint64_t word;
        memcpy(&word, packed, sizeof word);
        x = _mm512_maskz_set1_epi8(word, 1);
    } else if (bits == 4) {
        x = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)packed));
        x = _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi16(x, 4)), _mm512_set1_epi8(15));
    } else {
        x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)packed));
        x = _mm512_or_si512(x, _mm512_slli_epi32(x, 12));
        x = _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi32(x, 6)), _mm512_set1_epi8(3));
    }
    _mm512_storeu_si512(codes, x);
}

#include "methods/kernels/x86/code_steps.h"

/* -- bits that do not divide a byte: a word of 64 bits is 8 codes -------------------- */

/* Bytes of two words <-> 2 bits adjacent bytes. */
static inline __m512i word_bytes(uint32_t bits)
{
    const __m128i place = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 second = (__mmask16)(0xffffu << bits);
    return _mm512_broadcast_i32x4(
        _mm_mask_add_epi8(place, second, place, _mm_set1_epi8((char)(8 - bits))));
}

static inline __m512i byte_places(uint32_t bits)
{
    const __m128i place = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const __mmask16 whole = (__mmask16)(((1u << bits) - 1) * 0x101);
    const __m128i second = _mm_mask_add_epi8(place, 0xff00, place, _mm_set1_epi8((char)bits));
    return _mm512_broadcast_i32x4(_mm_mask_blend_epi8(whole, _mm_set1_epi8(-1), second));
}

/* What is in `part` stays, the rest moves down. */
static inline __m512i close_up(__m512i x, __m512i part, uint32_t down)
{
    const __m512i rest = _mm512_andnot_si512(part, x);
    return _mm512_or_si512(_mm512_and_si512(x, part), _mm512_srli_epi64(rest, down));
}

/* What is in `part` stays, as much above it moves up. */
static inline __m512i part_ways(__m512i x, uint64_t part, uint32_t width, uint32_t up)
{
    const __m512i low = _mm512_set1_epi64((long long)part);
    const __m512i rest = _mm512_and_si512(x, _mm512_slli_epi64(low, width));
    return _mm512_or_si512(_mm512_and_si512(x, low), _mm512_slli_epi64(rest, up));
}

/* Neighbours join, three times; then quarters of two words each are written. */
ALWAYS_INLINE void pack_uneven(const uint8_t *codes, uint32_t bits, uint8_t *packed)
{
    __m512i x =
        _mm512_and_si512(_mm512_loadu_si512(codes), _mm512_set1_epi8((char)((1 << bits) - 1)));
    x = close_up(x, _mm512_set1_epi16(0x00ff), 8 - bits);
    x = close_up(x, _mm512_set1_epi32(0x0000ffff), 16 - 2 * bits);
    x = close_up(x, _mm512_set1_epi64(0xffffffff), 32 - 4 * bits);
    x = _mm512_shuffle_epi8(x, word_bytes(bits));
    const __mmask16 some = (__mmask16)((1u << 2 * bits) - 1);
    _mm_mask_storeu_epi8(packed, some, _mm512_castsi512_si128(x));
    _mm_mask_storeu_epi8(packed + 2 * bits, some, _mm512_extracti32x4_epi32(x, 1));
    _mm_mask_storeu_epi8(packed + 4 * bits, some, _mm512_extracti32x4_epi32(x, 2));
    _mm_mask_storeu_epi8(packed + 6 * bits, some, _mm512_extracti32x4_epi32(x, 3));
}

ALWAYS_INLINE void unpack_uneven(const uint8_t *packed, uint32_t bits, uint8_t *codes)
{
    const uint64_t one = (1u << bits) - 1, two = (1u << 2 * bits) - 1,
                   four = (1ull << 4 * bits) - 1;
    const __mmask16 some = (__mmask16)((1u << 2 * bits) - 1);
    __m512i x = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(some, packed));
    x = _mm512_inserti32x4(x, _mm_maskz_loadu_epi8(some, packed + 2 * bits), 1);
    x = _mm512_inserti32x4(x, _mm_maskz_loadu_epi8(some, packed + 4 * bits), 2);
    x = _mm512_inserti32x4(x, _mm_maskz_loadu_epi8(some, packed + 6 * bits), 3);
    x = _mm512_shuffle_epi8(x, byte_places(bits));
    x = part_ways(x, four, 4 * bits, 32 - 4 * bits);
    x = part_ways(x, 0x0000000100000001u * two, 2 * bits, 16 - 2 * bits);
    x = part_ways(x, 0x0001000100010001u * one, bits, 8 - bits);
    _mm512_storeu_si512(codes, x);
}

static bool is_uneven(uint32_t bits)
{
    return bits == 3 || bits == 5 || bits == 6 || bits == 7;
}

static void KERNEL(pack_all)(const uint8_t *codes, size_t n, uint32_t bits, uint8_t *packed)
{
    for (; n >= STEP && is_uneven(bits); n -= STEP) {
        pack_uneven(codes, bits, packed);
        codes += STEP, packed += STEP / 8 * (size_t)bits;
    }
    if (n) KERNEL(pack_codes)(codes, n, bits, packed);
}

static void KERNEL(unpack_all)(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes)
{
    for (; n >= STEP && is_uneven(bits); n -= STEP) {
        unpack_uneven(packed, bits, codes);
        packed += STEP / 8 * (size_t)bits, codes += STEP;
    }
    if (n) KERNEL(unpack_steps)(packed, n, bits, codes);
}

/* Eight partial sums are half a vector: both halves of the squares enter in turn. */
static float KERNEL(sum_squares)(const float *x, size_t n)
{
    __m256 sums = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = load(x + i), squares = mul(v, v);
        sums = _mm256_add_ps(sums, _mm512_castps512_ps256(squares));
        sums = _mm256_add_ps(sums, upper_half(squares));
    }
    if (i < n) { /* adding 0 changes no sum of squares */
        const vec v = load_part(x + i, n - i), squares = mul(v, v);
        sums = _mm256_add_ps(sums, _mm512_castps512_ps256(squares));
        sums = _mm256_add_ps(sums, upper_half(squares));
    }
    return sum_eight(sums);
}

/* The contract's quotient (x - minimum) / scale, of at most 255, and this product with a rounded
 * inverse differ by less than 255 * 2^-22 < 2^-13: only where the product lies so near to a middle
 * of two codes is the division needed. */
static void KERNEL(grid_codes)(const float *x, size_t n, float minimum, float scale,
                               uint32_t levels, uint8_t *codes)
{
    const bool usual = scale >= 0x1p-100f && scale <= 0x1p100f;
    const vec low = spread(minimum), inverse = spread(1.0f / scale), magic = spread(MAGIC);
    const vec top = spread((float)(levels - 1)), sure = spread(0.5f - 0x1p-13f);
    size_t i = 0;
    for (; usual && i + GRID_STEP <= n; i += GRID_STEP) {
        vec t[STEP_VECS], off = zeros();
        UNROLLED for (uint32_t k = 0; k < STEP_VECS; k++)
        {
            vec q = mul(sub(load(x + i + k * LANES), low), inverse);
            q = smaller(larger(q, zeros()), top);
            t[k] = add(q, magic);
            off = larger(off, magnitude(sub(q, sub(t[k], magic))));
        }
        if (_mm512_cmp_ps_mask(off, sure, _CMP_GE_OQ))
            KERNEL(grid_encode)(x + i, GRID_STEP, minimum, scale, levels, codes + i);
        else
            store_steps(codes + i, t, levels - 1);
    }
    if (i < n) KERNEL(grid_encode)(x + i, n - i, minimum, scale, levels, codes + i);
}

#endif
