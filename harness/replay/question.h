/* query=agnostic: the prompt ends where the question begins. What is kept, fitted and encoded then
 * is chosen without the question, whose tokens come one by one behind it, as decoded ones do; they
 * are not scored. query=aware, the default, shows the policies the question with the prompt. */
#ifndef KVBENCH_HARNESS_QUESTION_H
#define KVBENCH_HARNESS_QUESTION_H

#include "methods/spec/spec.h"
#include "traces/trace.h"

/* KV_ESKIPPED when the spec hides the question and none is marked. */
int kv_question_check(const struct kv_spec *spec, uint32_t question_start, uint32_t prefill,
                      struct kv_error *err);

/* Tokens that enter at once under this spec. */
uint32_t kv_question_prefill(const struct kv_spec *spec, uint32_t question_start, uint32_t prefill);

/* Where the spec hides the question, the layer's prompt ends before it; `as` becomes its
 * description and must live as long. */
void kv_question_hide(const struct kv_spec *spec, struct kv_layer *layer,
                      struct kv_trace_layer *as);

#endif
