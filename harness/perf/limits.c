/* The limits that cases are measured against, and data for them; see perf.h. */
#include <stdlib.h>

#include "harness/base/large.h"
#include "harness/base/rng.h"
#include "harness/perf/perf.h"

double kv_perf_peak(void *context)
{
    const struct kv_kernels *kernels = context;
    return kernels->peak(20000);
}

double kv_perf_wide_steps(void *context)
{
    return kv_perf_peak(context) / 64;
}

/* Eight sums, so that loads and not additions are what is waited for; compilers make vectors of it.
 */
double kv_perf_read(void *context)
{
    struct kv_perf_buffer *buffer = context;
    const uint64_t *words = buffer->data;
    const size_t n = buffer->bytes / sizeof *words;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += words[i + k];
    for (int k = 0; k < 8; k++) buffer->sum += sums[k];
    return (double)buffer->bytes;
}

float *kv_perf_normals(size_t n, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    float *x = kv_large_alloc(n * sizeof *x + 64);
    for (size_t i = 0; x && i < n; i++) x[i] = (float)kv_rng_normal(&rng);
    return x;
}
