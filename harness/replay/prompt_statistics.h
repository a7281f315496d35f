/* What several policies want to know of the prompt, computed once per layer for all of them: softmax
 * mass per key under full causal attention, the weights of the last prompt queries, the rows
 * themselves. */
#ifndef KVBENCH_HARNESS_PROMPT_STATISTICS_H
#define KVBENCH_HARNESS_PROMPT_STATISTICS_H

#include "methods/cache/cache.h"
#include "traces/trace.h"

/* One KV head's statistics, as `wants` asks; arrays belong to pool. Thread-safe for different pools. */
int kv_prompt_compute(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                      const struct kv_wants *wants, const struct kv_kernels *kernels,
                      struct kv_pool *pool, struct kv_error *err);

/* The recorded rows alone, as floats, of a prompt whose statistics are there: they are large, and quickly
 * made anew for whoever reads them. */
int kv_prompt_rows(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                   const struct kv_wants *wants, const struct kv_kernels *kernels, struct kv_pool *pool,
                   struct kv_error *err);

#endif
