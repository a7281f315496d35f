/* AVX-512 words for double precision (polar.h): one vector is 8 doubles. */
#ifndef KVBENCH_METHODS_KERNELS_X86_WIDE_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_WIDE_AVX512_H

enum { WIDE = 8 };
typedef __m512d wide;

static inline wide wide_load(const double *p)
{
    return _mm512_loadu_pd(p);
}
static inline wide wide_load_floats(const float *p)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}
static inline void wide_store(double *p, wide v)
{
    _mm512_storeu_pd(p, v);
}
static inline wide wide_spread(double x)
{
    return _mm512_set1_pd(x);
}
static inline wide wide_add(wide a, wide b)
{
    return _mm512_add_pd(a, b);
}
static inline wide wide_sub(wide a, wide b)
{
    return _mm512_sub_pd(a, b);
}
static inline wide wide_mul(wide a, wide b)
{
    return _mm512_mul_pd(a, b);
}
static inline wide wide_fused(wide a, wide b, wide c) /* a b + c */
{
    return _mm512_fmadd_pd(a, b, c);
}
static inline wide wide_divide(wide a, wide b)
{
    return _mm512_div_pd(a, b);
}
static inline wide wide_root(wide v)
{
    return _mm512_sqrt_pd(v);
}
static inline wide wide_magnitude(wide v)
{
    return _mm512_abs_pd(v);
}

/* Eight magnitudes onto four sums, one half behind the other. */
static inline __m256d add_magnitudes(__m256d sums, const float *x)
{
    const wide v = wide_magnitude(wide_load_floats(x));
    sums = _mm256_add_pd(sums, _mm512_castpd512_pd256(v));
    return _mm256_add_pd(sums, _mm512_extractf64x4_pd(v, 1));
}

/* LANES doubles as floats. */
static inline vec narrow_wides(wide low, wide high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}

/* yes where a > b, else no. */
static inline wide wide_if_above(wide a, wide b, wide yes, wide no)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_GT_OQ), no, yes);
}

#endif
