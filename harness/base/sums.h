/* Sums in an order that does not hang on the machine. */
#ifndef KVBENCH_HARNESS_SUMS_H
#define KVBENCH_HARNESS_SUMS_H

#include <stdint.h>

/* Four partial sums, for speed; a fixed order, for the same bits everywhere. */
static inline double kv_dot(const double *a, const double *b, uint32_t n)
{
    double sum[4] = {0};
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (uint32_t k = 0; k < 4; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Of eight partial sums, of indices mod 8. */
static inline double kv_sum_of_eight(const double s[8])
{
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

#endif
