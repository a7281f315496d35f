/* The definition of exact attention: scalar, double, straight from the recorded tensors. Everything
 * faster in the program is audited against it. */
#ifndef KVBENCH_METRICS_EXACT_H
#define KVBENCH_METRICS_EXACT_H

#include <stdint.h>

#include "harness/base/geometry.h"
#include "harness/base/tensor.h"

/* Attention of one query row: output [value_dim] = sum_j a_j v_j over the keys that token sees,
 * a_j = exp(s_j - log_sum_exp), s_j = scale * q.k_j, soft-capped; a sink logit joins the sum only.
 * v may be a prefix view of k. weights [token + 1]: a_j, 0 where not visible. */
void kv_exact_answer(const struct kv_geometry *geometry, const struct kv_tensor *q,
                     const struct kv_tensor *k, const struct kv_tensor *v, uint32_t q_head,
                     uint32_t token, double *output, double *log_sum_exp, double *weights);

#endif
