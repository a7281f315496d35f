/* Codes for the AVX-512 set: in vectors of bytes, 64 a step, where their bits divide a byte. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODES_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_CODES_AVX512_H

#include <stdbool.h>

enum { STEP = 64 };

/* A table that a search holds in registers needs no cells. */
ALWAYS_INLINE void search_products(const struct kv_cells *cells, const float *x, size_t n,
                                   float factor, uint32_t depth, uint8_t *codes)
{
    const vec by = spread(factor), unit = spread(cells->unit);
    vec levels[SEARCH_LEVELS], y[4];
    vec_int code[4];
    search_tables(cells->thresholds, cells->n, depth, levels);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLLED for (uint32_t k = 0; k < 4; k++) y[k] =
            mul(mul(load(x + i + k * LANES), by), unit);
        search(y, code, levels, depth, 4);
        UNROLLED for (uint32_t k = 0; k < 4; k++) store_counts(codes + i + k * LANES, code[k]);
    }
    for (; i < n; i += LANES) {
        const size_t width = n - i < LANES ? n - i : LANES;
        y[0] = mul(mul(load_part(x + i, width), by), unit);
        search(y, code, levels, depth, 1);
        _mm_mask_storeu_epi8(codes + i, first_lanes(width), _mm512_cvtepi32_epi8(code[0]));
    }
}

static void KERNEL(cell_codes)(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    if (cells->n < 2)
        search_products(cells, x, n, factor, 1, codes);
    else if (cells->n < 4)
        search_products(cells, x, n, factor, 2, codes);
    else if (cells->n < 8)
        search_products(cells, x, n, factor, 3, codes);
    else if (cells->n < 16)
        search_products(cells, x, n, factor, 4, codes);
    else if (cells->n < 32)
        search_products(cells, x, n, factor, 5, codes);
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
