/* Four floats: for the few numbers of a group, whose divisions are slow in wide vectors. */
#ifndef KVBENCH_METHODS_KERNELS_X86_QUADS_H
#define KVBENCH_METHODS_KERNELS_X86_QUADS_H

#include <immintrin.h>
#include <stdint.h>

typedef __m128 quad;

static inline quad quad_of(float a, float b, float c, float d)
{
    return _mm_setr_ps(a, b, c, d);
}
static inline void quad_store(float *p, quad v)
{
    _mm_storeu_ps(p, v);
}
static inline quad quad_mul(quad a, quad b)
{
    return _mm_mul_ps(a, b);
}
static inline quad quad_divide(quad a, quad b)
{
    return _mm_div_ps(a, b);
}

/* From -limit to limit; NaN becomes limit. */
static inline quad quad_clamp(quad v, float limit)
{
    return _mm_max_ps(_mm_min_ps(v, _mm_set1_ps(limit)), _mm_set1_ps(-limit));
}

static inline quad quad_load(const float *p)
{
    return _mm_loadu_ps(p);
}
static inline quad quad_add(quad a, quad b)
{
    return _mm_add_ps(a, b);
}

static inline void quad_transpose(quad v[4])
{
    _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
}

static inline quad quad_sub(quad a, quad b)
{
    return _mm_sub_ps(a, b);
}
static inline quad quad_magnitude(quad v)
{
    return _mm_andnot_ps(_mm_set1_ps(-0.0f), v);
}

/* yes where a > b, else no. */
static inline quad quad_select_above(quad a, quad b, quad yes, quad no)
{
    return _mm_blendv_ps(no, yes, _mm_cmpgt_ps(a, b));
}

static inline int quad_any_equal(quad a, quad b)
{
    return _mm_movemask_ps(_mm_cmpeq_ps(a, b));
}

/* v where y <= limit, else 0. */
static inline quad quad_unless_above(quad v, quad y, float limit)
{
    return _mm_and_ps(v, _mm_cmple_ps(y, _mm_set1_ps(limit)));
}

/* v where y >= limit, else 0. */
static inline quad quad_unless_below(quad v, quad y, float limit)
{
    return _mm_and_ps(v, _mm_cmpge_ps(y, _mm_set1_ps(limit)));
}

/* Stores v as halves; what they say. */
static inline quad quad_keep_halves(uint16_t *p, quad v)
{
    const __m128i half = _mm_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    _mm_storel_epi64((__m128i *)(void *)p, half);
    return _mm_cvtph_ps(half);
}

/* ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), as the contract of sums of squares has it. */
static inline float sum_eight(__m256 s)
{
    const __m128 low = _mm256_castps256_ps128(s), high = _mm256_extractf128_ps(s, 1);
    const __m128 pairs =
        _mm_add_ps(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xdd));
    const __m128 fours = _mm_add_ps(pairs, _mm_movehdup_ps(pairs));
    return _mm_cvtss_f32(_mm_add_ss(fours, _mm_movehl_ps(fours, fours)));
}

#endif
