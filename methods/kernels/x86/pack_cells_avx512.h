/* Codes of cells, of four bits, for the AVX-512 set: 128 of them stay in registers until they are 64
 * bytes. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACK_CELLS_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_PACK_CELLS_AVX512_H

enum { PACKED_STEP = 2 * STEP, PACKED_WORDS = PACKED_STEP / (2 * LANES) };

/* Codes in the upper bits of words that lie as those of round_words. Packing works inside quarters:
 * pair l of each 16 codes is in quarter l, and these go back to their place. */
ALWAYS_INLINE __m512i nibbles_of_words(const __m512i words[PACKED_WORDS])
{
    static const uint16_t places[2 * LANES] = {0, 8,  16, 24, 1, 9,  17, 25, 2, 10, 18,
                                               26, 3, 11, 19, 27, 4, 12, 20, 28, 5, 13,
                                               21, 29, 6, 14, 22, 30, 7, 15, 23, 31};
    __m512i pairs[2];
    UNROLLED for (uint32_t h = 0; h < 2; h++)
    {
        const __m512i low = _mm512_srli_epi16(words[2 * h], 12);
        const __m512i high = _mm512_srli_epi16(words[2 * h + 1], 12);
        pairs[h] = _mm512_maddubs_epi16(_mm512_packs_epi16(low, high), _mm512_set1_epi16(0x1001));
    }
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(places),
                                    _mm512_packus_epi16(pairs[0], pairs[1]));
}

typedef __m512i summed_cells;

ALWAYS_INLINE summed_cells load_sums(const struct kv_cells *cells)
{
    return _mm512_loadu_si512(cells->sums);
}

/* Words of a step's values, summed; true where one lies at an edge. */
ALWAYS_INLINE bool sum_step(const float *x, vec by, const summed_cells *sums, __m512i words[PACKED_WORDS])
{
    const __m512i inside = _mm512_set1_epi16(0x0fff);
    __mmask32 sure = (__mmask32)~0u;
    UNROLLED for (uint32_t k = 0; k < PACKED_WORDS; k++)
    {
        words[k] = sum_words(round_words(x + k * 2 * LANES, by), *sums);
        sure = _mm512_mask_test_epi16_mask(sure, words[k], inside);
    }
    return !_kortestc_mask32_u8(sure, sure);
}

#include "methods/kernels/x86/pack_nibbles.h"

#endif
