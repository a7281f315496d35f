/* AVX2 words for double precision (polar.h): one vector is 4 doubles. */
#ifndef KVBENCH_METHODS_KERNELS_X86_WIDE_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_WIDE_AVX2_H

enum { WIDE = 4 };
typedef __m256d wide;

static inline wide wide_load(const double *p)
{
    return _mm256_loadu_pd(p);
}
static inline wide wide_load_floats(const float *p)
{
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}
static inline void wide_store(double *p, wide v)
{
    _mm256_storeu_pd(p, v);
}
static inline wide wide_spread(double x)
{
    return _mm256_set1_pd(x);
}
static inline wide wide_add(wide a, wide b)
{
    return _mm256_add_pd(a, b);
}
static inline wide wide_sub(wide a, wide b)
{
    return _mm256_sub_pd(a, b);
}
static inline wide wide_mul(wide a, wide b)
{
    return _mm256_mul_pd(a, b);
}
static inline wide wide_fused(wide a, wide b, wide c) /* a b + c */
{
    return _mm256_fmadd_pd(a, b, c);
}
static inline wide wide_divide(wide a, wide b)
{
    return _mm256_div_pd(a, b);
}
static inline wide wide_root(wide v)
{
    return _mm256_sqrt_pd(v);
}
static inline wide wide_magnitude(wide v)
{
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), v);
}

/* Eight magnitudes onto four sums, one half behind the other. */
static inline __m256d add_magnitudes(__m256d sums, const float *x)
{
    sums = _mm256_add_pd(sums, wide_magnitude(wide_load_floats(x)));
    return _mm256_add_pd(sums, wide_magnitude(wide_load_floats(x + 4)));
}

/* LANES doubles as floats. */
static inline vec narrow_wides(wide low, wide high)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

/* yes where a > b, else no. */
static inline wide wide_if_above(wide a, wide b, wide yes, wide no)
{
    return _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_GT_OQ));
}

#endif
