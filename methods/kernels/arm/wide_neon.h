/* NEON words for double precision (polar.h): one vector is 2 doubles. */
#ifndef KVBENCH_METHODS_KERNELS_ARM_WIDE_NEON_H
#define KVBENCH_METHODS_KERNELS_ARM_WIDE_NEON_H

enum { WIDE = 2 };
typedef float64x2_t wide;

static inline wide wide_load(const double *p)
{
    return vld1q_f64(p);
}
static inline wide wide_load_floats(const float *p)
{
    return vcvt_f64_f32(vld1_f32(p));
}
static inline void wide_store(double *p, wide v)
{
    vst1q_f64(p, v);
}
static inline wide wide_spread(double x)
{
    return vdupq_n_f64(x);
}
static inline wide wide_add(wide a, wide b)
{
    return vaddq_f64(a, b);
}
static inline wide wide_sub(wide a, wide b)
{
    return vsubq_f64(a, b);
}
static inline wide wide_mul(wide a, wide b)
{
    return vmulq_f64(a, b);
}
static inline wide wide_fused(wide a, wide b, wide c) /* a b + c */
{
    return vfmaq_f64(c, a, b);
}
static inline wide wide_divide(wide a, wide b)
{
    return vdivq_f64(a, b);
}
static inline wide wide_root(wide v)
{
    return vsqrtq_f64(v);
}
static inline wide wide_magnitude(wide v)
{
    return vabsq_f64(v);
}

/* LANES doubles as floats. */
static inline vec narrow_wides(wide low, wide high)
{
    return vcombine_f32(vcvt_f32_f64(low), vcvt_f32_f64(high));
}

/* yes where a > b, else no. */
static inline wide wide_if_above(wide a, wide b, wide yes, wide no)
{
    return vbslq_f64(vcgtq_f64(a, b), yes, no);
}

/* Four partial sums are two vectors. */
static double KERNEL(sum_magnitudes)(const float *x, size_t n)
{
    float64x2_t low = vdupq_n_f64(0), high = low;
    double s[4];
    for (; n >= 4; n -= 4, x += 4) {
        const float32x4_t v = vabsq_f32(vld1q_f32(x));
        low = vaddq_f64(low, vcvt_f64_f32(vget_low_f32(v)));
        high = vaddq_f64(high, vcvt_high_f64_f32(v));
    }
    vst1q_f64(s, low);
    vst1q_f64(s + 2, high);
    for (; n; n--, x++) s[0] += (double)fabsf(*x);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

#endif
