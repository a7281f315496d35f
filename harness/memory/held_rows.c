/* Held rows; see held_rows.h. */
#include "harness/memory/held_rows.h"

#include "methods/trim.h"

struct rule { /* trim's of one policy, in rows */
    uint32_t budget, recent, sinks, chunk, at_once;
    bool drops, prompt_only;
};

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}
static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static struct rule rule_of(const struct kv_cache *cache, uint32_t p)
{
    const struct kv_chooser *self = cache->choosers[p];
    const struct kv_trim *trim = &self->trim;
    if (!self->type->score) return (struct rule){.drops = false};
    const uint32_t budget = kv_cache_layer_budget(cache, p);
    return (struct rule){
        .budget = budget,
        .recent = kv_trim_recent(trim, budget),
        .sinks = trim->sinks,
        .chunk = trim->chunk,
        .at_once = kv_trim_at_once(trim, budget),
        .drops = true,
        .prompt_only = trim->prompt_only};
}

/* What stays of n prompt rows in whole chunks. The last chunk may be short; it stays, since its
 * rows are recent. */
static uint32_t rows_of_chunks(const struct rule *rule, uint32_t n)
{
    const uint32_t room = rule->budget / rule->chunk, chunks = (n + rule->chunk - 1) / rule->chunk;
    const uint32_t first =
        (n - smaller(rule->recent, n)) / rule->chunk; /* first one with a recent row */
    const uint32_t front = smaller((rule->sinks + rule->chunk - 1) / rule->chunk, first);
    if (room == 0 || chunks - first + front > room) return rule->budget;
    return smaller(room, chunks) * rule->chunk - (chunks * rule->chunk - n);
}

static uint32_t after_prompt(const struct rule *rule, uint32_t n)
{
    if (!rule->drops || n <= rule->budget) return n;
    return rule->chunk ? rows_of_chunks(rule, n) : rule->budget;
}

/* Step by step, where several rows go at once: one policy alone. */
static uint32_t after_steps(const struct rule *rule, uint32_t n, uint32_t steps)
{
    for (uint32_t t = 0; t < steps; t++) {
        if (++n <= rule->budget) continue;
        const uint32_t shut = rule->recent + rule->sinks, open = n > shut ? n - shut : 0;
        n = smaller(n - smaller(larger(n - rule->budget, rule->at_once), open), rule->budget);
    }
    return n;
}

static bool stores_rows_singly(const struct kv_bank *bank)
{
    const struct kv_tiers *tiers = &bank->code->tiers;
    return !bank->later && bank->code->block == 1 && tiers->flush == 1 && tiers->recent == 0 &&
           tiers->sinks == 0;
}

/* True when bytes follow from how many rows of each lane are held. */
static bool follows_from_count(const struct kv_cache *cache, bool in_order)
{
    for (uint32_t b = 0; b < cache->n_banks; b++) {
        const struct kv_bank *bank = &cache->banks[b];
        if (bank->n_heads > 1 || bank->n_layers > 1) return false;
        if (!stores_rows_singly(bank) && (!in_order || bank->code->tiers.sinks > 0)) return false;
    }
    return true;
}

static bool is_counted(const struct kv_cache *cache, const struct rule *rules, uint32_t steps)
{
    const uint32_t n = cache->plan.spec->n_policies;
    bool in_order =
        true; /* what is dropped goes before anything is encoded, the same in all heads */
    for (uint32_t p = 0; p < n; p++) {
        const struct kv_chooser *self = cache->choosers[p];
        const bool pooled = self->trim.pooled_heads, alone = n == 1;
        if (!rules[p].drops && (self->type->keep || self->type->evict) &&
            !(self->type->arrays && p == 0))
            return false;
        if (!rules[p].drops) continue;
        if (!alone && (pooled || rules[p].chunk || rules[p].at_once > 1)) return false;
        if (rules[p].chunk && (!rules[p].prompt_only || rules[p].recent == 0)) return false;
        if (rules[p].at_once > 1 && (pooled || rules[p].budget <= rules[p].recent + rules[p].sinks))
            return false;
        in_order = in_order && (rules[p].prompt_only || steps == 0) && !pooled;
    }
    return follows_from_count(cache, in_order) && !cache->plan.rest && !cache->plan.handed;
}

bool kv_held_rows_count(const struct kv_cache *cache, uint32_t tokens, uint32_t prefill,
                        struct kv_held_rows *held)
{
    const uint32_t n = cache->plan.spec->n_policies, steps = tokens - prefill;
    struct rule rules[KV_MAX_POLICIES];
    for (uint32_t p = 0; p < n; p++) rules[p] = rule_of(cache, p);
    if (!is_counted(cache, rules, steps)) return false;
    *held = (struct kv_held_rows){.prompt = prefill};
    for (uint32_t p = 0; p < n; p++) held->prompt = after_prompt(&rules[p], held->prompt);
    held->n = held->prompt + steps;
    for (uint32_t p = 0; p < n; p++) {
        const struct kv_chooser *self = cache->choosers[p];
        if (self->type->arrays)
            held->arrays += self->type->arrays(self->config, cache->plan.source.geometry, tokens);
        if (!rules[p].drops || rules[p].prompt_only) continue;
        held->n = rules[p].at_once > 1 ? after_steps(&rules[p], held->prompt, steps)
                                       : smaller(held->n, rules[p].budget);
    }
    return true;
}
