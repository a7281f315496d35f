/* What the stages of a spec make of it: its family, what it hangs on; see spec.h. */
#include "methods/spec/spec_parts.h"
#include "methods/spec/spec_wants.h"

/* What the codecs of a chain do to rows. */
static void classify(const struct kv_stage *stage, bool *coded, bool *low_rank)
{
    for (; stage; stage = stage->rest) {
        const bool exact = stage->codec->traits & (KV_EXACT_F16 | KV_EXACT_BF16 | KV_EXACT_F32);
        if (stage->codec->traits & KV_WRAPS) continue;
        if (kv_codec_leaves_all(stage->codec)) *low_rank = true;
        else *coded |= !exact;
    }
}

static const char *family_of(const struct kv_spec *spec)
{
    bool drops = false, selects = false, coded = false, low_rank = false;
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            drops |= spec->caches[c].policies[p]->policy->score != NULL;
            selects |= spec->caches[c].policies[p]->policy->select != NULL;
        }
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            classify(kv_chain(&spec->caches[c], side), &coded, &low_rank);
    }
    if (spec->caches[0].answer) return "state";
    if ((drops || selects) + coded + low_rank > 1) return "hybrid";
    return drops      ? "evictor"
           : selects  ? "sparse reader"
           : coded    ? "quantizer"
           : low_rank ? "low rank"
                      : "exact";
}

bool kv_policy_is_random(const struct kv_stage *stage)
{
    return stage->policy->random && stage->policy->random(stage->config[0]);
}

bool kv_chain_is_random(const struct kv_cache_spec *cache, enum kv_side side)
{
    const struct kv_stage *chain = kv_chain(cache, side);
    const bool keys = side == KV_KEYS && chain && chain->modifiers[0].exact_side != 1; /* side=values */
    const uint32_t wanted = keys ? KV_RANDOM | KV_RANDOM_KEYS : KV_RANDOM;
    bool random = false;
    for (const struct kv_stage *stage = chain; stage; stage = stage->rest)
        random |= (stage->codec->traits & wanted) != 0;
    return random;
}

void kv_spec_note_traits(struct kv_spec *spec)
{
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            const struct kv_stage *stage = spec->caches[c].policies[p];
            spec->oracle |= stage->policy->oracle || kv_policy_wants(stage).future;
            spec->random |= kv_policy_is_random(stage);
        }
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            spec->random |= kv_chain_is_random(&spec->caches[c], side);
    }
    spec->family = family_of(spec);
}
