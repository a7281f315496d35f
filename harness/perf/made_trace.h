/* A synthetic trace file for benches that read one, under $TMPDIR or /tmp. */
#ifndef KVBENCH_HARNESS_PERF_MADE_TRACE_H
#define KVBENCH_HARNESS_PERF_MADE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"

struct kv_made_trace {
    uint32_t tokens, prefill, layers, q_heads, kv_heads, dim;
};

int kv_made_trace_write(const struct kv_made_trace *made, char *path, size_t capacity,
                        struct kv_error *err);
void kv_made_trace_remove(const char *path); /* an empty path is nothing to remove */

#endif
