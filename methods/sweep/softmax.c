/* Softmax from tile to tile; the state of a row is explained in run.c. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

/* exp(old - new) for a state that moves to a new, finite largest logit; an empty one holds zeros, which
 * need no factor. */
static float rescale_factor(const struct kv_kernels *kernels, float old, float new)
{
    if (old == new || old == -INFINITY) return 1.0f;
    kernels->exp_sum(&old, 1, new);
    return old;
}

struct step kv_soften(const struct kv_kernels *kernels, const struct block *block, float *logits,
                      float *largest, float *sum)
{
    const uint32_t columns = block->to - block->from;
    const float here = kernels->max(logits + block->from, columns);
    const float old = *largest;
    if (here > old) *largest = here;
    struct step step = {1, 0};
    if (*largest == -INFINITY) { /* nothing seen yet: -inf minus -inf is no number */
        memset(logits + block->from, 0, columns * sizeof *logits);
        return step;
    }
    step.factor = rescale_factor(kernels, old, *largest);
    step.added = kernels->exp_sum(logits + block->from, columns, *largest);
    *sum = *sum * step.factor + step.added;
    return step;
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
