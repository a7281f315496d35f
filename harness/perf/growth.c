/* Least squares of growth; see growth.h. */
#include "harness/perf/growth.h"

#include <math.h>

/* Slope of the least-squares line of log(seconds) over log(size). */
static double slope_of_logs(const uint32_t *sizes, const double *seconds, uint32_t n)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double size = log(sizes[i]), time = log(seconds[i]);
        x += size, y += time, xx += size * size, xy += size * time;
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

/* Sum of squared shares by which fixed + slope size^exponent misses, with the best fixed >= 0 and
 * slope: unknowns of u = fixed / t + slope s^p / t = 1. */
static double misses(const uint32_t *sizes, const double *seconds, uint32_t n, double exponent,
                     double *fixed)
{
    double aa = 0, ab = 0, bb = 0, a = 0, b = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double one = 1 / seconds[i], power = pow(sizes[i], exponent) / seconds[i];
        aa += one * one, ab += one * power, bb += power * power, a += one, b += power;
    }
    const double determinant = aa * bb - ab * ab;
    *fixed = determinant > 1e-12 * aa * bb ? (a * bb - b * ab) / determinant : 0;
    if (!(*fixed > 0)) *fixed = 0;
    const double slope = (b - *fixed * ab) / bb;
    for (uint32_t i = 0; i < n; i++) {
        const double off = (*fixed + slope * pow(sizes[i], exponent)) / seconds[i] - 1;
        sum += off * off;
    }
    return slope > 0 ? sum : INFINITY;
}

/* Exponents in hundredths: finer than what timing can tell. */
struct kv_growth kv_growth_fit(const uint32_t *sizes, const double *seconds, uint32_t n)
{
    enum { MOST = 300 };
    struct kv_growth best = {slope_of_logs(sizes, seconds, n), NAN, NAN};
    double least = INFINITY;
    for (int p = 1; n >= 3 && p <= MOST; p++) {
        double fixed;
        const double sum = misses(sizes, seconds, n, p / 100.0, &fixed);
        if (sum < least) least = sum, best.fixed = fixed, best.exponent = p / 100.0;
    }
    return best;
}
