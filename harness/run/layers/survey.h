/* The first of two passes over the layers: what each says of itself before any is cut, for policies that
 * share one budget among layers (layer_budget=cake). */
#ifndef KVBENCH_HARNESS_SURVEY_H
#define KVBENCH_HARNESS_SURVEY_H

#include "methods/cache/cache.h"
#include "traces/trace.h"

/* Of the layers that own their K and V and that the spec compresses, ascending. */
struct kv_layer_survey { uint32_t n; uint32_t *layer; double *preference; };

bool kv_survey_wanted(const struct kv_spec *spec);

/* Asks every layer of trace->layers[layers[0 .. n_layers - 1]] on behalf of one spec. */
int kv_survey_take(struct kv_layer_survey *survey, const struct kv_spec *spec, const struct kv_trace *trace,
                   const uint32_t *layers, uint32_t n_layers, const struct kv_kernels *kernels,
                   struct kv_error *err);
void kv_survey_free(struct kv_layer_survey *survey);

/* One layer's answer. */
int kv_survey_layer(double *preference, const struct kv_spec *spec, const struct kv_layer *layer,
                    const struct kv_kernels *kernels, struct kv_error *err);

/* As one layer's policies see it; `here` is out of range where the layer was not asked. */
struct kv_survey kv_survey_at(const struct kv_layer_survey *survey, uint32_t layer);

#endif
