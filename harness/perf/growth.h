/* How seconds grow with size: seconds = fixed + slope * size^exponent. */
#ifndef KVBENCH_HARNESS_PERF_GROWTH_H
#define KVBENCH_HARNESS_PERF_GROWTH_H

#include <stdint.h>

struct kv_growth {
    double line; /* exponent when nothing is fixed: slope of the line through the logarithms */
    double fixed, exponent; /* of the best fit with a fixed part; NaN for fewer than three sizes */
};

/* n sizes, ascending, and their seconds, all above 0. Errors count by their share of the seconds.
 */
struct kv_growth kv_growth_fit(const uint32_t *sizes, const double *seconds, uint32_t n);

#endif
