/* Radii and angles: angle.h in lanes. Each operation rounds as there. */
#ifndef KVBENCH_METHODS_KERNELS_POLAR_H
#define KVBENCH_METHODS_KERNELS_POLAR_H

#include "methods/kernels/angle.h"

/* Vectors side by side: roots and quotients are waited for. */
enum { POLAR_VECS = 2, POLAR_STEP = POLAR_VECS * WIDE };

ALWAYS_INLINE void small_angles(wide t[POLAR_VECS])
{
    const wide one = wide_spread(1);
    wide t2[POLAR_VECS], sum[POLAR_VECS];
    UNROLLED for (int i = 0; i < KV_ANGLE_HALVINGS; i++)
        UNROLLED for (int k = 0; k < POLAR_VECS; k++) t[k] =
            wide_divide(t[k], wide_add(one, wide_root(wide_add(one, wide_mul(t[k], t[k])))));
    UNROLLED for (int k = 0; k < POLAR_VECS; k++)
    {
        t2[k] = wide_mul(t[k], t[k]);
        sum[k] = wide_spread(kv_angle_series[0]);
    }
    UNROLLED for (int i = 1; i < KV_ANGLE_TERMS; i++) UNROLLED for (int k = 0; k < POLAR_VECS; k++)
        sum[k] = wide_sub(wide_spread(kv_angle_series[i]), wide_mul(sum[k], t2[k]));
    UNROLLED for (int k = 0; k < POLAR_VECS; k++) t[k] =
        wide_mul(wide_mul(wide_spread(8), t[k]), sum[k]);
}

/* atan of the smaller part by the larger. 0 / 0 makes a number of no order, see whole_angle. */
ALWAYS_INLINE wide slope(wide y, wide x)
{
    const wide across = wide_magnitude(x), up = wide_magnitude(y);
    return wide_divide(wide_if_above(up, across, across, up),
                       wide_if_above(up, across, up, across));
}

/* The angle that a small one stands for; one of no order is 0. */
ALWAYS_INLINE wide whole_angle(wide y, wide x, wide angle)
{
    const wide zero = wide_spread(0), turn = wide_spread(2 * KV_PI);
    const wide steep = wide_sub(wide_spread(KV_PI / 2), angle);
    angle = wide_if_above(wide_magnitude(y), wide_magnitude(x), steep, angle);
    angle = wide_if_above(zero, x, wide_sub(wide_spread(KV_PI), angle), angle);
    angle = wide_if_above(zero, y, wide_sub(turn, angle), angle);
    return wide_if_above(turn, angle, angle, zero);
}

ALWAYS_INLINE void radii_step(const double *x, const double *y, double *radii, int vectors)
{
    UNROLLED for (int k = 0; k < vectors; k++)
    {
        const wide a = wide_load(x + k * WIDE), b = wide_load(y + k * WIDE);
        wide_store(radii + k * WIDE, wide_root(wide_add(wide_mul(a, a), wide_mul(b, b))));
    }
}

static void KERNEL(radii)(const double *x, const double *y, size_t n, double *radii)
{
    size_t i = 0;
    for (; i + POLAR_STEP <= n; i += POLAR_STEP) radii_step(x + i, y + i, radii + i, POLAR_VECS);
    for (; i + WIDE <= n; i += WIDE) radii_step(x + i, y + i, radii + i, 1);
    if (i == n) return;
    double part[3][WIDE] = {{0}};
    const size_t bytes = (n - i) * sizeof *x;
    memcpy(part[0], x + i, bytes);
    memcpy(part[1], y + i, bytes);
    radii_step(part[0], part[1], part[2], 1);
    memcpy(radii + i, part[2], bytes);
}

ALWAYS_INLINE void polar_step(const double *x, const double *y, double *radii, double *angles)
{
    wide t[POLAR_VECS], a[POLAR_VECS], b[POLAR_VECS];
    UNROLLED for (int k = 0; k < POLAR_VECS; k++)
    {
        a[k] = wide_load(x + k * WIDE), b[k] = wide_load(y + k * WIDE);
        wide_store(radii + k * WIDE,
                   wide_root(wide_add(wide_mul(a[k], a[k]), wide_mul(b[k], b[k]))));
        t[k] = slope(b[k], a[k]);
    }
    small_angles(t);
    UNROLLED for (int k = 0; k < POLAR_VECS; k++)
        wide_store(angles + k * WIDE, whole_angle(b[k], a[k], t[k]));
}

static void KERNEL(polar)(const double *x, const double *y, size_t n, double *radii, double *angles)
{
    size_t i = 0;
    if (!angles) {
        KERNEL(radii)(x, y, n, radii);
        return;
    }
    for (; i + POLAR_STEP <= n; i += POLAR_STEP) polar_step(x + i, y + i, radii + i, angles + i);
    if (i == n) return;
    double part[4][POLAR_STEP] = {{0}};
    const size_t bytes = (n - i) * sizeof *x;
    memcpy(part[0], x + i, bytes);
    memcpy(part[1], y + i, bytes);
    polar_step(part[0], part[1], part[2], part[3]);
    memcpy(radii + i, part[2], bytes);
    memcpy(angles + i, part[3], bytes);
}

/* An angle within KV_CLOSE_ANGLE of whole_angle's: one quotient, and a series to pi / 8. */
ALWAYS_INLINE wide close_angle(wide y, wide x)
{
    const wide across = wide_magnitude(x), up = wide_magnitude(y), one = wide_spread(1);
    const wide high = wide_if_above(up, across, up, across);
    const wide low = wide_if_above(up, across, across, up);
    const wide limit = wide_mul(high, wide_spread(KV_CLOSE_LIMIT)), zero = wide_spread(0);
    const wide above = wide_if_above(low, limit, wide_sub(low, high), low);
    const wide below = wide_if_above(low, limit, wide_add(low, high), high);
    const wide t = wide_divide(above, wide_if_above(high, zero, below, one)), t2 = wide_mul(t, t);
    wide sum = wide_spread(kv_close_series[0]);
    UNROLLED for (int i = 1; i < KV_CLOSE_TERMS; i++) sum =
        wide_fused(sum, t2, wide_spread(kv_close_series[i]));
    const wide start = wide_if_above(low, limit, wide_spread(KV_PI / 4), zero);
    wide angle = wide_fused(t, sum, start);
    angle = wide_if_above(up, across, wide_sub(wide_spread(KV_PI / 2), angle), angle);
    angle = wide_if_above(zero, x, wide_sub(wide_spread(KV_PI), angle), angle);
    return wide_if_above(zero, y, wide_sub(wide_spread(2 * KV_PI), angle), angle);
}

/* Where a float lies between what is a little less and a little more, or a whole turn does, angles are
 * made as polar's. */
ALWAYS_INLINE void floats_step(const float *x, const float *y, float *radii, float *angles)
{
    const wide apart = wide_spread(KV_CLOSE_ANGLE), turn = wide_spread(2 * KV_PI);
    wide a[2], b[2], root[2], less[2], more[2];
    UNROLLED for (int k = 0; k < 2; k++)
    {
        a[k] = wide_load_floats(x + k * WIDE), b[k] = wide_load_floats(y + k * WIDE);
        root[k] = wide_root(wide_add(wide_mul(a[k], a[k]), wide_mul(b[k], b[k])));
        const wide angle = close_angle(b[k], a[k]);
        less[k] = wide_sub(angle, apart), more[k] = wide_add(angle, apart);
        more[k] = wide_if_above(more[k], turn, wide_spread(0), more[k]);
    }
    const vec angle = narrow_wides(less[0], less[1]);
    store(radii, narrow_wides(root[0], root[1]));
    store(angles, angle);
    if (!any(difference(angle, narrow_wides(more[0], more[1])))) return;
    double part[4][POLAR_STEP];
    UNROLLED for (int k = 0; k < 2; k++)
    {
        wide_store(part[0] + k * WIDE, a[k]);
        wide_store(part[1] + k * WIDE, b[k]);
    }
    polar_step(part[0], part[1], part[2], part[3]);
    store(angles, narrow_wides(wide_load(part[3]), wide_load(part[3] + WIDE)));
}

static void KERNEL(polar_floats)(const float *x, const float *y, size_t n, float *radii,
                                 float *angles)
{
    _Static_assert((int)POLAR_STEP == (int)LANES && POLAR_VECS == 2, "doubles of a vector of floats");
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) floats_step(x + i, y + i, radii + i, angles + i);
    if (i == n) return;
    float part[4][LANES] = {{0}};
    memcpy(part[0], x + i, (n - i) * sizeof *x);
    memcpy(part[1], y + i, (n - i) * sizeof *y);
    floats_step(part[0], part[1], part[2], part[3]);
    memcpy(radii + i, part[2], (n - i) * sizeof *radii);
    memcpy(angles + i, part[3], (n - i) * sizeof *angles);
}

/* near_angles, see the generic one; what is to be positive and rounds below 0 stays there, which is
 * as near. */
ALWAYS_INLINE void near_step(const double *x, const double *y, float *angles, float *sizes)
{
    const vec a = narrow_wides(wide_load(x), wide_load(x + WIDE));
    const vec b = narrow_wides(wide_load(y), wide_load(y + WIDE));
    const vec across = magnitude(a), up = magnitude(b), steep = sub(up, across);
    const vec size = add(across, up), apart = magnitude(steep);
    const vec t = divide(sub(size, apart), add(add(size, apart), spread(KV_NEAR_TINY)));
    const vec t2 = mul(t, t), half = spread((float)KV_PI / 2), whole = spread((float)KV_PI);
    vec sum = spread(kv_near_series[0]);
    UNROLLED for (int k = 1; k < KV_NEAR_TERMS; k++) sum =
        fused(sum, t2, spread(kv_near_series[k]));
    const vec fold = spread((float)KV_PI / 4);
    vec angle = add(fold, with_sign(fused_minus(t, sum, fold), steep));
    angle = sub(half, with_sign(sub(half, angle), a));
    store(angles, sub(whole, with_sign(sub(whole, angle), b)));
    store(sizes, size);
}

static void KERNEL(near_angles)(const double *x, const double *y, size_t n, float *angles,
                                float *sizes)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) near_step(x + i, y + i, angles + i, sizes + i);
    if (i == n) return;
    double part[2][LANES] = {{0}};
    float found[2][LANES];
    memcpy(part[0], x + i, (n - i) * sizeof *x);
    memcpy(part[1], y + i, (n - i) * sizeof *x);
    near_step(part[0], part[1], found[0], found[1]);
    memcpy(angles + i, found[0], (n - i) * sizeof *angles);
    memcpy(sizes + i, found[1], (n - i) * sizeof *sizes);
}

#endif
