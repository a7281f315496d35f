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

double kv_perf_issuing_peak(void *context)
{
    const struct kv_kernels *kernels = context;
    return kernels->issuing_peak(20000);
}

double kv_perf_wide_steps(void *context)
{
    return kv_perf_peak(context) / 64;
}

struct kv_perf_buffer kv_perf_buffer_of(const void *data, size_t bytes)
{
    struct kv_kernels strongest;
    struct kv_error err;
    if (kv_kernels_fill(&strongest, "auto", &err) != KV_OK) kv_kernels_fill(&strongest, "generic", &err);
    return (struct kv_perf_buffer){data, bytes, strongest.max, 0};
}

/* A comparison a vector is the least that a loop can do with what it reads: two a cycle, as loads. */
double kv_perf_read(void *context)
{
    struct kv_perf_buffer *buffer = context;
    const float most = buffer->max(buffer->data, buffer->bytes / sizeof *buffer->data);
    buffer->most = most > buffer->most ? most : buffer->most;
    return (double)buffer->bytes;
}

float *kv_perf_normals(size_t n, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    float *x = kv_large_alloc(n * sizeof *x + 64);
    for (size_t i = 0; x && i < n; i++) x[i] = (float)kv_rng_normal(&rng);
    return x;
}
