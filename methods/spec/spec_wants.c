/* What a spec asks for; see spec_wants.h. */
#include "methods/spec/spec_wants.h"

struct kv_wants kv_policy_wants(const struct kv_stage *stage)
{
    struct kv_wants wants = {0};
    if (stage->policy->wants) stage->policy->wants(stage->config[0], &wants);
    wants.output_norms |= stage->trim.output_percent > 0;
    return wants;
}

void kv_wants_merge(struct kv_wants *all, const struct kv_wants *one)
{
    if (one->tail > all->tail) all->tail = one->tail;
    all->column_sum |= one->column_sum;
    all->logits |= one->logits;
    all->prompt_rows |= one->prompt_rows;
    all->queries |= one->queries;
    all->output_norms |= one->output_norms;
    all->future |= one->future;
    all->fisher |= one->fisher;
    all->label |= one->label;
}

struct kv_wants kv_cache_wants(const struct kv_cache_spec *spec)
{
    struct kv_wants all = {0};
    for (uint32_t p = 0; p < spec->n_policies; p++) {
        const struct kv_wants one = kv_policy_wants(spec->policies[p]);
        kv_wants_merge(&all, &one);
    }
    for (int side = 0; side < kv_n_chains(spec); side++)
        for (const struct kv_stage *stage = kv_chain(spec, side); stage; stage = stage->rest)
            for (int s = 0; s < 2 && stage->codec->wants; s++)
                stage->codec->wants(stage->config[s], &all);
    return all;
}

struct kv_wants kv_spec_wants(const struct kv_spec *spec)
{
    struct kv_wants all = {0};
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        const struct kv_wants one = kv_cache_wants(&spec->caches[c]);
        kv_wants_merge(&all, &one);
    }
    return all;
}

static bool joins_heads(const struct kv_stage *stage)
{
    return stage->policy->scope == KV_LAYER_HEADS || stage->trim.pooled_heads || stage->trim.shared_heads;
}

const struct kv_codec *kv_cache_codec_over_heads(const struct kv_cache_spec *spec)
{
    for (int side = 0; side < kv_n_chains(spec); side++) {
        const struct kv_stage *stage = kv_chain(spec, side);
        if (stage && stage->modifiers[0].span & KV_SPAN_HEADS) return stage->codec;
    }
    return NULL;
}

bool kv_cache_joins_heads(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (joins_heads(spec->policies[p]))
            return true;
    return kv_cache_codec_over_heads(spec) != NULL;
}

bool kv_cache_selects(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->select) return true;
    return false;
}

bool kv_cache_renumbers(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->trim.cache_positions) return true;
    return false;
}

bool kv_cache_feeds_back(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->merge ||
            (spec->policies[p]->policy->observe && !spec->policies[p]->trim.prompt_only))
            return true;
    return kv_cache_selects(spec) || kv_cache_renumbers(spec);
}

int kv_cache_layer_group(uint32_t *most, const struct kv_cache_spec *spec,
                         const struct kv_geometry *layer, struct kv_error *err)
{
    *most = 1;
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(spec, side);
        if (!stage || !stage->codec->layer_group) continue;
        const uint32_t wanted = stage->codec->layer_group(stage->config[side], layer);
        if (*most > 1 && wanted > 1 && wanted != *most)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: keys join %u layers and values %u: expected one number",
                           stage->codec->name, *most, wanted);
        if (wanted > *most) *most = wanted;
    }
    return KV_OK;
}

uint32_t kv_merged_sides(const struct kv_cache_spec *spec)
{
    uint32_t sides = 0;
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->merge) sides |= spec->policies[p]->policy->merges;
    return sides;
}

bool kv_spec_may_code(const struct kv_spec *spec)
{
    const struct kv_cache_spec *main = &spec->caches[0];
    return spec->n_caches > 1 || main->codec || main->values || kv_merged_sides(main);
}
