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

#endif
