/* Altered specs; see check_altered.h. */
#include "harness/check/check_altered.h"

struct kv_altered kv_alter(const struct kv_spec *spec)
{
    struct kv_altered altered = {.cache = &spec->caches[0]};
    for (uint32_t p = 0; p < altered.cache->n_policies; p++) {
        altered.trims[p] = altered.cache->policies[p]->trim;
        altered.policies[p] = altered.cache->policies[p]->policy;
    }
    return altered;
}

void kv_alter_budgets(const struct kv_altered *altered, struct kv_budget budget)
{
    for (uint32_t p = 0; p < altered->cache->n_policies; p++)
        altered->cache->policies[p]->trim.budget = budget;
}

void kv_alter_back(const struct kv_altered *altered)
{
    for (uint32_t p = 0; p < altered->cache->n_policies; p++) {
        altered->cache->policies[p]->trim = altered->trims[p];
        altered->cache->policies[p]->policy = altered->policies[p];
    }
}

bool kv_check_has_budget(const struct kv_check *check)
{
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++)
        if (check->spec->caches[0].policies[p]->policy->score) return true;
    return false;
}

enum kv_verdict kv_play_audited(struct kv_check *check, struct kv_play play,
                                const struct kv_check_shape *shape, struct kv_played *played)
{
    play.audit = true;
    const enum kv_verdict verdict = kv_play_shape(check, &play, shape, played);
    return verdict == KV_PASS && !kv_played_finite(played, &check->why) ? KV_FAIL : verdict;
}
