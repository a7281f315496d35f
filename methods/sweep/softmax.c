/* Softmax from tile to tile; the state of a row is explained in run.c. */
#include "methods/sweep/parts.h"

#include <math.h>

void kv_soften(struct work *work, const struct block *block, float *largest, struct steps *steps)
{
    const struct kv_softmax softmax = {largest, steps->factors, steps->added, work->unit};
    work->sweep->kernels->soften(work->own.logits + block->from, block->n, work->own.stride,
                                 block->to - block->from, &softmax);
}

void kv_take_steps(float *sums, const struct steps *steps, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) sums[r] = sums[r] * steps->factors[r] + steps->added[r];
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
