/* Codes of cells, of four bits, for the AVX2 set: 64 of them stay in registers until they are 32 bytes. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACK_CELLS_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_PACK_CELLS_AVX2_H

enum { PACKED_STEP = 2 * STEP, PACKED_WORDS = PACKED_STEP / (2 * LANES) };

/* Bytes of the sums of struct kv_cells. */
typedef struct {
    struct cell_bytes low, high;
} summed_cells;

/* Bytes from bit `first` on of each word; those of cells below 0 come last. */
static inline struct cell_bytes bytes_of_sums(const uint16_t sums[KV_CELLS], int first)
{
    __m128i words[4];
    UNROLLED for (int k = 0; k < 4; k++)
    {
        const __m128i all = _mm_loadu_si128((const __m128i *)(const void *)(sums + 8 * k));
        words[k] = _mm_and_si128(_mm_srli_epi16(all, first), _mm_set1_epi16(255));
    }
    return (struct cell_bytes){.below = _mm256_broadcastsi128_si256(_mm_packus_epi16(words[2], words[3])),
                               .above = _mm256_broadcastsi128_si256(_mm_packus_epi16(words[0], words[1]))};
}

static inline summed_cells load_sums(const struct kv_cells *cells)
{
    return (summed_cells){bytes_of_sums(cells->sums, 0), bytes_of_sums(cells->sums, 8)};
}

/* Two vectors of words become codes above 12 bits that are 0 at an edge. */
ALWAYS_INLINE void sum_words(__m256i words[2], const summed_cells *sums)
{
    const __m256i index = _mm256_packs_epi16(_mm256_srai_epi16(words[0], 11), _mm256_srai_epi16(words[1], 11));
    const __m256i other = _mm256_xor_si256(index, _mm256_set1_epi8(-128));
    const __m256i low = pick_cells(sums->low, index, other), high = pick_cells(sums->high, index, other);
    words[0] = _mm256_add_epi16(words[0], _mm256_unpacklo_epi8(low, high));
    words[1] = _mm256_add_epi16(words[1], _mm256_unpackhi_epi8(low, high));
}

/* Codes in the upper bits of words that lie as those of round_words. Packing works inside halves: fours of codes
 * at even places are in the lower one, those at odd places in the other. */
ALWAYS_INLINE __m256i nibbles_of_words(const __m256i words[PACKED_WORDS])
{
    const __m256i places = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    __m256i pairs[2];
    UNROLLED for (uint32_t h = 0; h < 2; h++)
    {
        const __m256i low = _mm256_srli_epi16(words[2 * h], 12), high = _mm256_srli_epi16(words[2 * h + 1], 12);
        pairs[h] = _mm256_maddubs_epi16(_mm256_packs_epi16(low, high), _mm256_set1_epi16(0x1001));
    }
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(_mm256_packus_epi16(pairs[0], pairs[1]), 0xd8), places);
}

/* Words of a step's values, summed; true where one lies at an edge. */
ALWAYS_INLINE bool sum_step(const float *x, vec by, const summed_cells *sums, __m256i words[PACKED_WORDS])
{
    const __m256i inside = _mm256_set1_epi16(0x0fff);
    __m256i least = inside;
    UNROLLED for (uint32_t k = 0; k < PACKED_WORDS; k++) words[k] = round_words(x + k * 2 * LANES, by);
    UNROLLED for (uint32_t k = 0; k < PACKED_WORDS; k += 2) sum_words(words + k, sums);
    UNROLLED for (uint32_t k = 0; k < PACKED_WORDS; k++) least =
        _mm256_min_epu16(least, _mm256_and_si256(words[k], inside));
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(least, _mm256_setzero_si256()));
}

#include "methods/kernels/x86/pack_nibbles.h"

#endif
