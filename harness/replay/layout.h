/* layout=query-heads: every query head has a KV head of its own, a copy of the recorded one that
 * its group shares. Codes that repeat keys and values before they score them (repeat_kv, then
 * SnapKV's or H2O's scores) keep such caches:
 *
 *   head h of q_heads holds k_(h / g), v_(h / g);   group 1
 *
 * A policy sees the statistics and the weights of one query head, chooses its rows alone, and a
 * codec stores each copy: bytes are those of q_heads heads, while bits per element and the ratio
 * stay against the recorded KV heads, so that a full cache has g x 16 bits. kept_tokens is per
 * copy. Of one query head a KV head, nothing changes. Layers that layers= or exact_layers= leave
 * exact stay as recorded.
 *
 * There is nothing to repeat where a latent stands for all heads (MLA), nor where another layer
 * reads the rows with more or fewer query heads than there are copies. */
#ifndef KVBENCH_HARNESS_LAYOUT_H
#define KVBENCH_HARNESS_LAYOUT_H

#include "harness/replay/reference.h"
#include "methods/spec/spec.h"
#include "traces/trace.h"

/* Whether the spec's caches of this layer hold copies. */
bool kv_layout_repeats(const struct kv_spec *spec, const struct kv_trace_layer *layer);

/* KV heads that the spec's caches of this layer have. */
uint32_t kv_layout_lanes(const struct kv_spec *spec, const struct kv_trace_layer *layer);

/* A layer whose rows are latents, asked for copies. */
int kv_layout_refuse_latent(uint32_t layer, struct kv_error *err);

/* KV_EUNSUPPORTED where the spec asks for copies of what is no KV head's. */
int kv_layout_check(const struct kv_spec *spec, const struct kv_trace_layer *reader,
                    const struct kv_trace_layer *owner, struct kv_error *err);

/* The same of trace->layers[layers[0 .. n - 1]] and those whose rows they read. */
int kv_layout_check_layers(const struct kv_spec *spec, const struct kv_trace *trace,
                           const uint32_t *layers, uint32_t n, struct kv_error *err);

/* Repeats the layer's heads where the spec asks for it; `as` becomes its description then, and must
 * live as long. */
void kv_layout_show(const struct kv_spec *spec, struct kv_layer *layer, struct kv_trace_layer *as);
/* The layer as the spec's caches see it: its question hidden (question.h), its heads repeated. */
void kv_layer_show(const struct kv_spec *spec, struct kv_layer *layer, struct kv_trace_layer *as);

/* Exact answers of a layer as recorded -> in the order of its copies: [kv_heads][n_scored][group]
 * -> [q_heads][n_scored]. */
int kv_layout_part_reference(struct kv_reference *reference, const struct kv_geometry *recorded,
                             uint32_t n_scored, uint32_t n_spans, struct kv_error *err);

#endif
