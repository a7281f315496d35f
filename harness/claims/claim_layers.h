/* Recorded layers, one after the other, for claims about traces. */
#ifndef KVBENCH_HARNESS_CLAIMS_CLAIM_LAYERS_H
#define KVBENCH_HARNESS_CLAIMS_CLAIM_LAYERS_H

#include "harness/claims/claims.h"
#include "traces/trace.h"

typedef int kv_claim_visit(void *data, const struct kv_layer *layer, struct kv_error *err);

/* Visits every layer of every trace. Without traces: *figure NaN with the reason, and no visit. */
int kv_claim_each_layer(const struct kv_measuring *measuring, kv_claim_visit *visit, void *data,
                        double *figure, char reason[256], struct kv_error *err);

/* Softmax weights of query head and token over keys 0 .. n-1, widened rows [n][key_dim]; 0 where
 * not visible. weights [n]. */
void kv_claim_weights(const struct kv_layer *layer, const struct kv_kernels *kernels,
                      uint32_t q_head, uint32_t token, const float *keys, uint32_t n,
                      float *weights);

#endif
