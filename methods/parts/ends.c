#include "methods/parts/ends.h"

#include <math.h>
#include <string.h>

/* The first that is not marked and has this value; n where there is none (values are no numbers).
 */
static uint32_t first_of(const float *x, const uint8_t *marks, uint32_t n, float value)
{
    for (uint32_t i = 0; i < n; i++)
        if (x[i] == value && !marks[i]) return i;
    return n;
}

void kv_mark_ends(const struct kv_kernels *kernels, float *x, uint32_t n, uint32_t per_end,
                  uint8_t *marks)
{
    float low, high;
    memset(marks, 0, n);
    for (uint32_t k = 0; k < per_end; k++) {
        const uint32_t at = first_of(x, marks, n, kernels->max(x, n));
        if (at < n) marks[at] = 1, x[at] = -INFINITY;
    }
    for (uint32_t i = 0; per_end && i < n; i++)
        if (marks[i]) x[i] = INFINITY;
    for (uint32_t k = 0; k < per_end; k++) {
        kernels->min_max(x, n, &low, &high);
        const uint32_t at = first_of(x, marks, n, low);
        if (at < n) marks[at] = 1, x[at] = INFINITY;
    }
}
