/* Measures of the attention weights: divergence, mass that moved, mass that was lost, named
 * spans. */
#ifndef KVBENCH_METRICS_ATTENTION_H
#define KVBENCH_METRICS_ATTENTION_H

#include "metrics/measures.h"

/* attention_kl, mass_drift, lost_mass. */
void kv_measure_weights(struct kv_layer_measures *out, const struct kv_measured *in);

/* span_retention: per span, mass answered / mass exact, both summed over scored queries, on the
 * heads whose mean exact mass there is at or above the 95th percentile of the layer's heads
 * (peers.md section 3.2 item 8; at least one head). Mean over the spans where those heads look
 * at all: 1e-3 of their mass or more, below which a ratio says nothing about retrieval. NaN
 * without such a span. */
int kv_measure_spans(struct kv_layer_measures *out, const struct kv_measured *in);

#endif
