/* The next-token divergence estimated from gradient probes (real-model.md section 2-3, peers.md
 * section 3.2 items 10-12): dkl, dkl_seq, dnll1, ppl_est. */
#ifndef KVBENCH_METRICS_DIVERGENCE_H
#define KVBENCH_METRICS_DIVERGENCE_H

#include "metrics/measures.h"

/* label_dot and fisher_dot. out->window_tokens is set, its arrays made here. */
int kv_measure_probes(struct kv_layer_measures *out, const struct kv_measured *in);

/* Everything of kv_pooled that needs probes. Without them NaN, and validity "". */
int kv_pool_probes(struct kv_pooled *out, const struct kv_pool_input *in);

#endif
