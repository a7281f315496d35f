/* The spec under test; see check_subject.h. */
#include "harness/check/check_subject.h"

#include <string.h>

#include "methods/spec/spec_wants.h"

bool kv_subject_has(const struct kv_check *check, bool (*is)(const struct kv_stage *))
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (uint32_t p = 0; p < check->spec->caches[c].n_policies; p++)
            if (is(check->spec->caches[c].policies[p])) return true;
    return false;
}

bool kv_drops_rows(const struct kv_stage *stage) { return stage->policy->score != NULL; }
bool kv_drops_at_steps(const struct kv_stage *stage) { return kv_drops_rows(stage) && !stage->trim.prompt_only; }
bool kv_selects_rows(const struct kv_stage *stage) { return stage->policy->select != NULL; }
bool kv_merges_rows(const struct kv_stage *stage) { return stage->policy->merge != NULL; }
bool kv_chooses_rows(const struct kv_stage *stage) { return stage->policy->score || stage->policy->select; }

bool kv_subject_keeps_no_rows(const struct kv_check *check) { return check->spec->caches[0].answer != NULL; }

bool kv_subject_feeds_back(const struct kv_check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        if (kv_cache_feeds_back(&check->spec->caches[c])) return true;
    return false;
}

bool kv_subject_fits_prompt(const struct kv_check *check)
{
    if (kv_subject_keeps_no_rows(check)) return check->spec->caches[0].answer->answer->fit != NULL;
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (int side = 0; side < kv_n_chains(&check->spec->caches[c]); side++)
            for (const struct kv_stage *s = kv_chain(&check->spec->caches[c], side); s; s = s->rest)
                if (s->codec->fit || s->modifiers[0].center || s->modifiers[1].center) return true;
    return false;
}

bool kv_subject_is_oracle(const struct kv_check *check)
{
    const struct kv_wants wants = kv_spec_wants(check->spec);
    return check->spec->oracle || wants.future || wants.fisher || wants.label;
}

/* One method, as it is registered. Another setting may be one that compresses nothing (rank=1.0, sinks above
 * the length): its rows are flagged so. */
bool kv_subject_is_registered(const struct kv_check *check)
{
    struct kv_spec_list list;
    struct kv_error err;
    if (kv_spec_parse_name(&list, check->spec->text, &err) != KV_OK) return false;
    const bool same = list.n == 1 && strcmp(list.specs[0].text, check->spec->text) == 0;
    kv_spec_free(&list);
    return same;
}

int64_t kv_check_recorded_bytes(void)
{
    const struct kv_check_shape *plain = &kv_check_plain;
    return (int64_t)plain->tokens * plain->kv_heads * (plain->key_dim + plain->value_dim) * 2;
}
