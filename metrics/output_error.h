/* Errors of the attention outputs themselves, and of what W_o makes of them. */
#ifndef KVBENCH_METRICS_OUTPUT_ERROR_H
#define KVBENCH_METRICS_OUTPUT_ERROR_H

#include "metrics/measures.h"

/* Rows stand [kv_heads][scored][group]: where (head, scored token) is. */
static inline size_t kv_measured_row(const struct kv_measured *in, uint32_t q_head, uint32_t index)
{
    const uint32_t group = in->geometry->group;
    return ((size_t)(q_head / group) * in->n_scored + index) * group + q_head % group;
}

/* Sums, ratios by head, by depth and by query, percentiles. out's arrays stand ready. */
int kv_measure_outputs(struct kv_layer_measures *out, const struct kv_measured *in);

/* residual_error and wo_error. */
int kv_measure_stream(struct kv_layer_measures *out, const struct kv_measured *in);

#endif
