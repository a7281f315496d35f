/* How far a sweep may be from exact attention. */
#include "methods/sweep/parts.h"

#include <math.h>

/* Let u = 2^-24, n lines in t = ceil(n / TILE) tiles, S = scale |q| |k| (Cauchy-Schwarz: no logit
 * is larger, nor is scale * sum |q_c k_c|). To first order in u; the factor 1.1 covers the rest.
 *
 * 1. A logit is wrong by at most L = 2 (dim + 2) u S (kernels.h) + u S (scale as float) and, with a
 *    cap, 32 u min(cap, S) more (tanh has slope <= 1).
 * 2. Its weight exp(s - M) is a product of at most 1 + t exponentials: the one of its tile and a
 *    factor for each later tile that raised the maximum. Each is wrong by 8 u, and by u |argument|
 *    from its subtraction; the arguments add up to at most Y = min(2 S', 60 ln 2) where it is not
 *    set to 0, S' being the largest |logit|; each product by u.
 *    Relative error of a weight: theta <= L + u Y + 8 u (1 + t) + u t.
 * 3. A weight set to 0 is below 2^-60 of the largest: n 2^-60 of the sum.
 * 4. The sum adds TILE / 16 + 4 terms in turn in the longest chain of a set (16 lanes at least),
 *    then t tiles: sigma <= (TILE / 16 + 4 + 2 t) u. Rounding in the output's chain: n + t sums
 *    (fused: one rounding; generic: two), omega <= 2 (n + t) u. Division and product: 3 u.
 *
 * The output is a weighted mean; errors of weights enter it and its denominator:
 * |error| <= value_max (2 theta + n 2^-60 * 2 + sigma + omega + 3 u). */
double kv_sweep_bound(const struct kv_geometry *geometry, uint32_t lines, double query_norm,
                      double key_norm, double value_max)
{
    const double u = 0x1p-24, n = lines, t = (lines + TILE - 1) / TILE;
    const double product = fabs(geometry->scale) * query_norm * key_norm;
    const bool capped = geometry->softcap > 0;
    const double largest = capped && geometry->softcap < product ? geometry->softcap : product;
    const double logit =
        (2 * (geometry->key_dim + 2.0) + 1) * u * product + (capped ? 32 * u * largest : 0);
    const double argument = fmin(2 * largest, 42);
    const double theta = logit + u * argument + 8 * u * (1 + t) + u * t;
    const double sigma = (TILE / 16 + 4 + 2 * t) * u, omega = 2 * (n + t) * u;
    return 1.1 * value_max * (2 * theta + 2 * n * 0x1p-60 + sigma + omega + 3 * u);
}
