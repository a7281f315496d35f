/* Bytes of codes of llama.cpp's blocks, in AVX2. */
#ifndef KVBENCH_METHODS_KERNELS_X86_BLOCK_BYTES_H
#define KVBENCH_METHODS_KERNELS_X86_BLOCK_BYTES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Fifth bits of 32 codes as a word. */
static inline void pack_fifths(const uint8_t codes[32], uint8_t *at)
{
    const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    const uint32_t word = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(v, 3));
    memcpy(at, &word, sizeof word);
}

/* Low bits of code j below those of code 16 + j. */
static inline void pack_nibbles(const uint8_t codes[32], uint8_t *at)
{
    const __m128i *halves = (const __m128i *)(const void *)codes;
    const __m128i part = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(_mm_loadu_si128(halves), part);
    const __m128i high = _mm_and_si128(_mm_loadu_si128(halves + 1), part);
    _mm_storeu_si128((__m128i *)(void *)at, _mm_or_si128(low, _mm_slli_epi16(high, 4)));
}

/* And back: 16 codes in each half. */
static inline __m256i split_block(const uint8_t *nibbles)
{
    const __m128i both = _mm_loadu_si128((const __m128i *)(const void *)nibbles);
    const __m256i apart =
        _mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1);
    return _mm256_and_si256(apart, _mm256_set1_epi8(15));
}

/* Bytes of 255 where a bit is 1. */
static inline __m256i spread_fifths(const uint8_t *at)
{
    const __m256i places = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    int32_t word;
    memcpy(&word, at, sizeof word);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), places);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

#endif
