/* Angles without libm, whose last place differs between CPUs and versions: codes must not. */
#ifndef KVBENCH_METHODS_KERNELS_ANGLE_H
#define KVBENCH_METHODS_KERNELS_ANGLE_H

#include <math.h>

static const double KV_PI = 3.14159265358979323846;

/* atan t = t (1 - t^2 / 3 + t^4 / 5 ...) from its far end. */
enum { KV_ANGLE_TERMS = 9, KV_ANGLE_HALVINGS = 3 };
static const double kv_angle_series[KV_ANGLE_TERMS] = {
    1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};

/* 0 <= t <= 1: halved three times, atan t = 2 atan(t / (1 + sqrt(1 + t^2))), which leaves at most
 * pi / 32; then the series, whose 9th term is below 1e-18. */
static inline double kv_small_angle(double t)
{
    for (int i = 0; i < KV_ANGLE_HALVINGS; i++) t /= 1.0 + sqrt(1.0 + t * t);
    const double t2 = t * t;
    double sum = kv_angle_series[0];
    for (int k = 1; k < KV_ANGLE_TERMS; k++) sum = kv_angle_series[k] - sum * t2;
    return 8.0 * t * sum;
}

/* atan2(y, x) in [0, 2 pi), to about 1e-15; 0 where both are 0. */
static inline double kv_angle_of(double y, double x)
{
    const double across = fabs(x), up = fabs(y);
    if (!(across > 0) && !(up > 0)) return 0;
    double angle =
        up > across ? KV_PI / 2 - kv_small_angle(across / up) : kv_small_angle(up / across);
    if (x < 0) angle = KV_PI - angle;
    if (y < 0) angle = 2 * KV_PI - angle;
    return angle < 2 * KV_PI ? angle : 0;
}

/* atan t = t P(t^2) on [0, 1], P fitted to the least largest error, 1.75e-6 in floats; t is off by 2e-7,
 * what is folded back and made a float by 1.3e-6 more. */
enum { KV_NEAR_TERMS = 6 };
static const float kv_near_series[KV_NEAR_TERMS] = {-0x1.80033ap-7f, 0x1.af497ep-5f,
                                                    -0x1.dce204p-4f, 0x1.8c5ee6p-3f,
                                                    -0x1.549b14p-2f, 0x1.fffd04p-1f};
#define KV_NEAR_TINY 0x1p-120f /* nothing beside KV_LEAST_SIZE; 0 / KV_NEAR_TINY is 0 */

/* atan t = t Q(t^2) for |t| <= tan(pi / 8), Q through the Chebyshev points: within 1e-15. An angle that is
 * made of it, and the one above, are less than KV_CLOSE_ANGLE apart: an angle itself is rounded six
 * times to less than 2^-51. */
enum { KV_CLOSE_TERMS = 10 };
static const double KV_CLOSE_ANGLE = 2e-14, KV_CLOSE_LIMIT = 0.41421356237309503;
static const double kv_close_series[KV_CLOSE_TERMS] = {
    -0x1.9ec1ac1391c13p-6, 0x1.9b9e37b2f1638p-5,  -0x1.0a7bc4dc65f3bp-4, 0x1.3a4ec8d3a6dbap-4,
    -0x1.744e9f942507ep-4, 0x1.c71bca91633a8p-4,  -0x1.249246f634ea7p-3, 0x1.999999922b9c0p-3,
    -0x1.5555555550687p-2, 0x1.ffffffffffff7p-1};

#endif
