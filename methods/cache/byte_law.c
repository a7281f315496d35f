/* The byte law; see byte_law.h. */
#include "methods/cache/byte_law.h"

#include <inttypes.h>
#include <math.h>

/* The counts that all banks with rows of this cache would have. */
static void set_counts(struct kv_cache *cache, uint32_t n, uint32_t prompt)
{
    for (uint32_t b = 0; b < cache->n_banks; b++) kv_bank_count_rows(&cache->banks[b], n, prompt);
    for (uint32_t b = 0; cache->member > 0 && b < cache->first->n_banks; b++)
        if (cache->first->banks[b].n_layers > 1)
            kv_bank_count_rows(&cache->first->banks[b], n, prompt);
}

/* Resident bytes when every lane of this member holds n rows, of which `prompt` came at once. The
 * cache has been made, and nothing entered it yet. */
static int64_t law(struct kv_cache *cache, uint32_t n, uint32_t prompt)
{
    set_counts(cache, n, prompt);
    const struct kv_cache_bytes bytes = kv_cache_count(cache);
    set_counts(cache, 0, 0);
    const int64_t rows = kv_cache_row_bytes(cache) * cache->plan.n_heads * n;
    /* Before any row came the pool was charged metadata for policies' arrays alone. */
    return rows + kv_side_bytes(&bytes, 0) + kv_side_bytes(&bytes, 1) +
           kv_pool_used(cache->plan.pool, KV_METADATA) / cache->n_members;
}

/* What this cache, which may be some heads of a layer, has of a budget. */
static double limit_of(const struct kv_cache *cache, struct kv_budget budget)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    if (budget.bytes > 0.0) return budget.bytes * cache->plan.n_heads / geometry->kv_heads;
    const uint32_t values = geometry->values_in_keys ? 0 : geometry->value_dim;
    const double recorded = (double)kv_recorded_heads(geometry) / geometry->kv_heads;
    return budget.bits / 8.0 * geometry->tokens * cache->plan.n_heads * recorded *
           (geometry->key_dim + values);
}

/* No row adds more: it comes in exact, and blocks that become due are written with it. */
static double most_of_a_row(const struct kv_cache *cache)
{
    double most = (double)kv_cache_row_bytes(cache) * cache->plan.n_heads;
    const struct kv_cache *at[2] = {cache, cache->member > 0 ? cache->first : cache};
    for (int c = 0; c < 2 && (c == 0 || at[1] != at[0]); c++)
        for (uint32_t b = 0; b < at[c]->n_banks; b++)
            for (const struct kv_bank *bank = &at[c]->banks[b]; bank; bank = bank->later) {
                const struct kv_code *code = bank->code;
                const bool never = code->tiers.flush == UINT32_MAX;
                const double atoms = never ? 0 : code->tiers.flush / code->block + 1;
                most += (double)kv_bank_exact_row_bytes(bank) + atoms * kv_atom_bytes(code);
            }
    return most;
}

/* Most rows of the prompt (or, evicting step by step, of all) that fit; 0 when none does. From
 * above: what is too large by so many bytes is too large still by all rows that could not add as
 * many. */
static uint32_t rows_within(struct kv_cache *cache, bool prompt_only, double limit)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    const uint32_t steps = geometry->tokens - geometry->prefill;
    const double most = most_of_a_row(cache);
    for (uint32_t n = prompt_only ? geometry->prefill : geometry->tokens; n > 0;) {
        const uint32_t all = prompt_only ? n + steps : n;
        const uint32_t prompt = prompt_only ? n : n > steps ? n - steps : 1;
        const double excess = (double)law(cache, all, prompt) - limit - 1e-6;
        if (excess <= 0) return n;
        const double jump = floor(excess / most);
        n = jump < 1 ? n - 1 : jump < n ? n - (uint32_t)jump : 0;
    }
    return 0;
}

static int settle(struct kv_cache *cache, uint32_t p, struct kv_error *err)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    struct kv_trim *trim = &cache->choosers[p]->trim;
    const uint32_t steps = trim->prompt_only ? geometry->tokens - geometry->prefill : 0;
    const uint32_t rows = rows_within(cache, trim->prompt_only, limit_of(cache, trim->budget));
    if (rows > 0) {
        trim->budget = (struct kv_budget){.tokens = rows};
        return KV_OK;
    }
    char asked[64];
    kv_budget_print(asked, &trim->budget);
    const int64_t least = law(cache, 1 + steps, 1);
    return kv_fail(err, KV_EUNSUPPORTED,
                   "%s: budget: expected room for a row%s, which takes %" PRId64
                   " bytes a layer, found %s",
                   cache->choosers[p]->type->name, steps ? " beside the decoded ones" : "",
                   least * geometry->kv_heads / cache->plan.n_heads, asked);
}

/* A share of a short prompt may be no row at all: nothing could be answered. */
static int check_budget(const char *name, struct kv_budget budget, uint32_t prompt,
                        struct kv_error *err)
{
    if (!(budget.share > 0.0) || kv_budget_tokens(budget, prompt) > 0) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "%s: %g%% of a prompt of %u rows keeps none of them", name,
                   100.0 * budget.share, prompt);
}

static int check_budgets(const struct kv_stage *stage, uint32_t prompt, struct kv_error *err)
{
    const struct kv_policy *policy = stage->policy;
    int status =
        policy->score ? check_budget(policy->name, stage->trim.budget, prompt, err) : KV_OK;
    for (const struct kv_param *param = policy->params; status == KV_OK && param && param->name;
         param++)
        if (kv_param_kind(param) == KV_PARAM_BUDGET)
            status = check_budget(
                policy->name,
                *(const struct kv_budget *)((const char *)stage->config[0] + param->offset), prompt,
                err);
    return status;
}

int kv_cache_settle_budgets(struct kv_cache *cache, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t p = 0; status == KV_OK && p < cache->plan.spec->n_policies; p++) {
        status =
            check_budgets(cache->plan.spec->policies[p], cache->plan.source.geometry->prefill, err);
        if (status == KV_OK && kv_budget_is_stored(cache->choosers[p]->trim.budget)) {
            status = settle(cache, p, err);
            cache->settled_rows = cache->choosers[p]->trim.budget.tokens;
        }
        for (uint32_t i = 0; i < cache->plan.n_heads; i++)
            cache->lanes[i].budget[p] = kv_cache_layer_budget(cache, p);
    }
    return status;
}
