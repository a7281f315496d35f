/* A spec whose policies an invariant changes for a while. */
#ifndef KVBENCH_HARNESS_CHECK_ALTERED_H
#define KVBENCH_HARNESS_CHECK_ALTERED_H

#include "harness/check/check_play.h"

struct kv_altered { /* what the first cache's policies were */
    const struct kv_cache_spec *cache;
    struct kv_trim trims[KV_MAX_POLICIES];
    const struct kv_policy *policies[KV_MAX_POLICIES];
    struct kv_policy copies[KV_MAX_POLICIES]; /* room for policies to be set in their place */
};

struct kv_altered kv_alter(const struct kv_spec *spec);
void kv_alter_budgets(const struct kv_altered *altered, struct kv_budget budget);
void kv_alter_back(const struct kv_altered *altered);

/* Whether any of the first cache's policies drops rows. */
bool kv_check_has_budget(const struct kv_check *check);

/* The audit of every step holds positions and budgets; answers must be finite. */
enum kv_verdict kv_play_audited(struct kv_check *check, struct kv_play play,
                                const struct kv_check_shape *shape, struct kv_played *played);

#endif
