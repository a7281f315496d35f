/* Query rows of one KV head, widened and in the sweep's order: token-major, head of the group inner. */
#ifndef KVBENCH_HARNESS_QUERY_ROWS_H
#define KVBENCH_HARNESS_QUERY_ROWS_H

#include "methods/kernels/recorded_rows.h"
#include "methods/sweep/sweep.h"
#include "traces/trace.h"

/* queries [n][group][key_dim] of tokens[0..n-1]. */
void kv_widen_queries(const struct kv_layer *layer, uint32_t kv_head, const uint32_t *tokens,
                      uint32_t n, const struct kv_kernels *kernels, float *queries);

/* The recorded rows of a KV head as lines. */
struct kv_recorded { const struct kv_layer *layer; const struct kv_kernels *kernels; uint32_t head; };

/* The first n of them, line j open from its own token on; index [2][n] is filled, and stays theirs. */
struct kv_lines kv_recorded_lines(struct kv_recorded *recorded, uint32_t n, uint32_t *index);

#endif
