/* The question of a prompt; see question.h. */
#include "harness/replay/question.h"

int kv_question_check(const struct kv_spec *spec, uint32_t question_start, uint32_t prefill,
                      struct kv_error *err)
{
    if (!spec->query_agnostic) return KV_OK;
    if (question_start >= prefill)
        return kv_fail(err, KV_ESKIPPED, "query=agnostic: the trace marks no question");
    if (question_start == 0)
        return kv_fail(err, KV_EUNSUPPORTED, "query=agnostic: the question is the whole prompt");
    return KV_OK;
}

uint32_t kv_question_prefill(const struct kv_spec *spec, uint32_t question_start, uint32_t prefill)
{
    return spec->query_agnostic ? question_start : prefill;
}

void kv_question_hide(const struct kv_spec *spec, struct kv_layer *layer, struct kv_trace_layer *as)
{
    if (!spec->query_agnostic) return;
    *as = *layer->info;
    as->geometry.prefill = as->geometry.question_start;
    layer->info = as;
}
