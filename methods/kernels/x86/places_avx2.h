/* Floats that a token may not see, eight at a time. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PLACES_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_PLACES_AVX2_H

#include <math.h>

static inline void hide_where(float *x, __m256 visible)
{
    _mm256_storeu_ps(x, _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_loadu_ps(x), visible));
}

static uint32_t KERNEL(hide)(const int32_t *begin, const int32_t *end, int32_t token, size_t n,
                             float *x, float *beside)
{
    const __m256i now = _mm256_set1_epi32(token);
    uint32_t seen = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(begin + i));
        const __m256i past = _mm256_loadu_si256((const __m256i *)(const void *)(end + i));
        const __m256i early = _mm256_cmpgt_epi32(first, now);
        const __m256i open = _mm256_andnot_si256(early, _mm256_cmpgt_epi32(past, now));
        const __m256 visible = _mm256_castsi256_ps(open);
        hide_where(x + i, visible);
        if (beside) hide_where(beside + i, visible);
        seen += (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(visible));
    }
    for (; i < n; i++) {
        const uint32_t visible = (begin[i] <= token) & (token < end[i]);
        if (!visible) x[i] = -INFINITY;
        if (!visible && beside) beside[i] = -INFINITY;
        seen += visible;
    }
    return seen;
}

#endif
