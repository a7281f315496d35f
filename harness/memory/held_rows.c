/* Held rows; see held_rows.h. */
#include "harness/memory/held_rows.h"

#include "methods/trim.h"

struct rule { /* trim's of one policy, in rows */
    uint32_t budget, recent, sinks, chunk;
    uint32_t least;      /* budget of a lane of pooled heads, at least; else budget */
    uint32_t dropped[2]; /* by a step, of the smallest budget and of the largest */
    uint32_t missing;    /* of a lane's budget once they are, on the average, at most */
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

/* What a lane of pooled heads keeps whatever the others have (methods/head_budget.c). Scores that
 * follow from the position are the same in all, and so are the shares. */
static uint32_t least_share(const struct kv_chooser *self, uint32_t budget)
{
    const struct kv_trim *trim = &self->trim;
    const struct kv_protected own = kv_trim_protected(trim, budget, trim->sinks);
    const uint32_t shut = own.recent + own.sinks;
    if (!trim->pooled_heads || self->type->by_position || budget <= shut) return budget;
    const uint64_t percent = trim->floor_percent;
    if (trim->floor == KV_FLOOR_BLEND) return shut + (uint32_t)((budget - shut) * percent / 100);
    return larger(shut, (uint32_t)(budget * percent / 100));
}

/* What a step drops of a lane that is one row above such a budget. */
static uint32_t dropped_of(const struct kv_trim *trim, uint32_t budget)
{
    const struct kv_protected shut = kv_trim_protected(trim, budget, trim->sinks);
    return smaller(larger(kv_trim_at_once(trim, budget), 1), budget + 1 - shut.recent - shut.sinks);
}

/* By how many rows lanes of unlike budgets fall short of their mean when all have just dropped:
 * shares of the budgets come to that share of their sum. */
static uint32_t most_missing(const struct kv_trim *trim, uint32_t budget)
{
    const uint64_t share = ((uint64_t)budget * trim->every_percent + 99) / 100;
    return larger(trim->every, 1) - 1 + (uint32_t)share;
}

static struct rule rule_of(const struct kv_cache *cache, uint32_t p, uint32_t prefill)
{
    const struct kv_chooser *self = cache->choosers[p];
    const struct kv_trim *trim = &self->trim;
    if (!self->type->score) return (struct rule){.drops = false};
    const uint32_t budget = kv_cache_layer_budget(cache, p);
    const bool cut = prefill > budget; /* else heads have nothing to share out */
    const uint32_t least = cut ? least_share(self, budget) : budget;
    const uint64_t most = budget + (uint64_t)(cache->plan.n_heads - 1) * (budget - least);
    const uint32_t largest = cut && most > prefill ? prefill : (uint32_t)most;
    /* In steps a lane of pooled heads protects of the budget that it got. */
    const struct kv_protected own =
        kv_trim_protected(trim, trim->prompt_only ? budget : least, trim->sinks);
    return (struct rule){.budget = budget,
                         .recent = own.recent,
                         .sinks = own.sinks,
                         .chunk = trim->chunk,
                         .least = least,
                         .dropped = {dropped_of(trim, least), dropped_of(trim, largest)},
                         .missing = most_missing(trim, budget),
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

/* Where one policy alone drops several rows at once, a lane that is one row above its budget comes
 * to `dropped` fewer, and again after as many steps. Lanes of unlike budgets may drop unlike numbers,
 * each in a rhythm of its own. */
static void after_steps(const struct rule *rule, uint32_t steps, struct kv_held_rows *held)
{
    const uint32_t room = rule->budget - held->prompt, dropped = rule->dropped[1];
    held->n = held->fewest = held->prompt + smaller(steps, room);
    if (steps <= room) return;
    if (rule->dropped[0] == dropped)
        held->n = held->fewest = rule->budget + 1 - dropped + (steps - room - 1) % dropped;
    else
        held->fewest -= smaller(rule->missing, dropped - 1);
}

static bool is_counted(const struct kv_cache *cache, const struct rule *rules)
{
    const uint32_t n = cache->plan.spec->n_policies;
    for (uint32_t p = 0; p < n; p++) {
        const struct kv_chooser *self = cache->choosers[p];
        const struct rule *rule = &rules[p];
        const bool pooled = self->trim.pooled_heads, alone = n == 1;
        if (!rule->drops && (self->type->keep || self->type->evict) && !self->type->arrays)
            return false;
        if (!rule->drops) continue;
        const bool singly = kv_trim_at_once(&self->trim, rule->budget) <= 1;
        if (!alone && (pooled || rule->chunk || !singly)) return false;
        if (rule->chunk && (!rule->prompt_only || rule->recent == 0)) return false;
    }
    return true;
}

/* Pages and the like: of the rows in order at least, and each row in one of its own at most. */
static void add_arrays(const struct kv_cache *cache, uint32_t p, struct kv_held_rows *held)
{
    const struct kv_chooser *self = cache->choosers[p];
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    if (!self->type->arrays) return;
    const uint32_t steps = held->tokens - held->prefill, seen = held->prompt + steps;
    const int64_t whole = self->type->arrays(self->config, geometry, held->tokens),
                  least = self->type->arrays(self->config, geometry, seen),
                  one = self->type->arrays(self->config, geometry, 1),
                  late = steps ? self->type->arrays(self->config, geometry, steps) + one : 0;
    const bool all = seen == held->tokens || p == 0; /* the first sees what others drop later */
    held->arrays[0] += all ? whole : least;
    held->arrays[1] += all || whole < one * held->prompt + late ? whole : one * held->prompt + late;
}

/* What every lane is sure to hold, and how many ways there are to choose the rest. */
static void protect(const struct kv_cache *cache, const struct rule *rules, uint32_t steps,
                    struct kv_held_rows *held)
{
    uint32_t recent = held->tokens, sinks = held->tokens, fewest = held->n;
    uint32_t droppers = 0;
    bool same_heads = true;
    held->by_position = true;
    held->newest = held->common = held->tokens;
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const struct rule *rule = &rules[p];
        const struct kv_chooser *self = cache->choosers[p];
        if (!rule->drops) continue;
        droppers++;
        recent = smaller(recent, rule->recent + (rule->prompt_only ? steps : 0));
        sinks = smaller(sinks, rule->sinks);
        held->by_position &= self->type->by_position;
        same_heads &=
            self->type->by_position || (self->trim.shared_heads && !self->trim.pooled_heads);
        held->common = smaller(held->common, rule->recent);
        if (rule->prompt_only) continue;
        held->newest = smaller(held->newest, rule->recent);
        if (rule->dropped[1] <= 1) continue;
        fewest = smaller(fewest, rule->least + 1 - rule->dropped[0]);
    }
    held->in_order = held->n == held->prompt + steps;
    held->oldest_go = droppers == 1 && held->by_position;
    if (held->oldest_go && held->newest < held->tokens)
        held->newest = fewest > sinks ? fewest - sinks : held->newest;
    held->sinks = held->n == held->tokens ? held->tokens : sinks;
    held->shut = held->n == held->tokens ? held->n : smaller(held->n, recent + sinks);
    held->sets = same_heads ? 1 : cache->plan.n_heads;
}

bool kv_held_rows_count(const struct kv_cache *cache, uint32_t tokens, uint32_t prefill,
                        struct kv_held_rows *held)
{
    const uint32_t n = cache->plan.spec->n_policies, steps = tokens - prefill;
    struct rule rules[KV_MAX_POLICIES];
    for (uint32_t p = 0; p < n; p++) rules[p] = rule_of(cache, p, prefill);
    if (!is_counted(cache, rules)) return false;
    *held = (struct kv_held_rows){.tokens = tokens, .prefill = prefill, .prompt = prefill};
    for (uint32_t p = 0; p < n; p++) held->prompt = after_prompt(&rules[p], held->prompt);
    held->n = held->fewest = held->prompt + steps;
    held->least = held->prompt;
    for (uint32_t p = 0; p < n; p++) {
        if (rules[p].drops && held->prompt < prefill)
            held->least = smaller(held->least, rules[p].least);
        if (!rules[p].drops || rules[p].prompt_only) continue;
        held->n = held->fewest = smaller(held->n, rules[p].budget);
        if (rules[p].dropped[1] > 1) after_steps(&rules[p], steps, held);
    }
    protect(cache, rules, steps, held);
    for (uint32_t p = 0; p < n; p++) add_arrays(cache, p, held);
    return true;
}

/* Rows that all lanes of a bank are sure to hold. */
static uint32_t shut_in_all(const struct kv_bank *bank, const struct kv_held_rows *held)
{
    uint32_t shut = held->shut;
    for (uint32_t m = 1; m < bank->n_layers; m++) shut = smaller(shut, held[m].shut);
    return shut;
}

struct kv_row_range kv_held_after_prompt(const struct kv_bank *bank,
                                         const struct kv_held_rows *held)
{
    const uint32_t lanes = bank->n_lanes / bank->n_layers;
    struct kv_row_range range = {0};
    uint64_t sum = 0;
    for (uint32_t m = 0; m < bank->n_layers; m++) {
        range.least = larger(range.least, held[m].prompt);
        sum += (uint64_t)smaller(held[m].sets, lanes) * held[m].prompt;
    }
    range.most = sum < held->prefill ? (uint32_t)sum : held->prefill;
    if (held->by_position) range.most = range.least;
    return range;
}

/* Of the first `tier` positions, how many some lane is sure to drop, and may drop. */
static void dropped_sinks(const struct kv_bank *bank, const struct kv_held_rows *held,
                          uint32_t dropped[2])
{
    const uint32_t tier = bank->code->tiers.sinks;
    dropped[0] = tier, dropped[1] = 0;
    for (uint32_t m = 0; m < bank->n_layers; m++) {
        const uint32_t open = tier - smaller(tier, held[m].sinks);
        const uint32_t may = smaller(open, held[m].tokens - held[m].fewest);
        dropped[0] = smaller(dropped[0], held[m].oldest_go ? may : 0);
        dropped[1] = larger(dropped[1], may);
    }
}

struct kv_row_range kv_held_range(const struct kv_bank *bank, const struct kv_held_rows *held,
                                  bool dropped)
{
    const uint32_t tier = bank->code->tiers.sinks, lanes = bank->n_lanes / bank->n_layers;
    const uint32_t steps = held->n - held->prompt, came = held->tokens - held->prefill;
    struct kv_row_range range = {.steps = dropped ? came - steps : steps};
    const uint32_t shut = shut_in_all(bank, held);
    const uint32_t limit = dropped ? held->tokens - shut : held->tokens;
    uint32_t first[2];
    uint64_t sum = dropped ? 0 : shut;
    for (uint32_t m = 0; m < bank->n_layers; m++) {
        const uint32_t gone = held[m].tokens - held[m].fewest, open = held[m].n - shut;
        const uint32_t least = dropped ? held[m].tokens - held[m].n : held[m].fewest;
        range.least = larger(range.least, least);
        sum += (uint64_t)smaller(held[m].sets, lanes) * (dropped ? gone : open);
    }
    range.most = sum < limit ? (uint32_t)sum : limit;
    if (held->by_position) range.most = range.least;
    dropped_sinks(bank, held, first);
    range.sinks[0] = dropped ? first[0] : tier - first[1];
    range.sinks[1] = smaller(dropped ? first[1] : tier - first[0], range.most);
    range.sinks[0] = smaller(range.sinks[0], range.sinks[1]);
    return range;
}
