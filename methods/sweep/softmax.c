/* Softmax from tile to tile; the state of a row is explained in run.c. */
#include "methods/sweep/parts.h"

#include <math.h>

void kv_soften(const struct kv_kernels *kernels, const struct block *block, uint32_t rows,
               float *logits, float *largest, float *sums, struct step *steps)
{
    float factors[BLOCK], added[BLOCK];
    const struct kv_softmax softmax = {largest, factors, added};
    kernels->soften(logits + block->from, rows, STRIDE, block->to - block->from, &softmax);
    for (uint32_t r = 0; r < rows; r++) {
        steps[r] = (struct step){factors[r], added[r]};
        sums[r] = sums[r] * factors[r] + added[r];
    }
}

double kv_logarithm(double x)
{
    int n;
    double m = frexp(x, &n);
    if (m < 0.70710678118654752) {
        m *= 2;
        n--;
    }
    const double s = (m - 1) / (m + 1), square = s * s;
    double series = 0;
    for (int k = 19; k >= 1; k -= 2) series = series * square + 1.0 / k;
    return n * 0.69314718055994531 + 2 * s * series;
}
