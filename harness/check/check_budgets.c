/* Budgets in the conformance kit; see check_budgets.h. */
#include "harness/check/check_budgets.h"

#include <string.h>

/* A spec whose policies an invariant may change; what they were comes back with `restore`. */
struct changed {
    const struct kv_cache_spec *cache;
    struct kv_trim trims[KV_MAX_POLICIES];
    const struct kv_policy *policies[KV_MAX_POLICIES];
    struct kv_policy copies[KV_MAX_POLICIES];
};

static void remember(struct changed *changed, const struct kv_spec *spec)
{
    changed->cache = &spec->caches[0];
    for (uint32_t p = 0; p < changed->cache->n_policies; p++) {
        changed->trims[p] = changed->cache->policies[p]->trim;
        changed->policies[p] = changed->cache->policies[p]->policy;
    }
}

static void restore(const struct changed *changed)
{
    for (uint32_t p = 0; p < changed->cache->n_policies; p++) {
        changed->cache->policies[p]->trim = changed->trims[p];
        changed->cache->policies[p]->policy = changed->policies[p];
    }
}

static bool has_budget(const struct kv_check *check)
{
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++)
        if (check->spec->caches[0].policies[p]->policy->score) return true;
    return false;
}

static void set_budgets(const struct changed *changed, struct kv_budget budget)
{
    for (uint32_t p = 0; p < changed->cache->n_policies; p++)
        changed->cache->policies[p]->trim.budget = budget;
}

/* The audit of every step holds positions and budgets; answers must be finite. */
static enum kv_verdict play_audited(struct kv_check *check, const struct kv_check_shape *shape,
                                    struct kv_played *played)
{
    struct kv_play play = kv_play_usual(check);
    play.audit = true;
    const enum kv_verdict verdict = kv_play_shape(check, &play, shape, played);
    return verdict == KV_PASS && !kv_played_finite(played, &check->why) ? KV_FAIL : verdict;
}

static enum kv_verdict play_budget(struct kv_check *check, const struct changed *changed,
                                   uint32_t tokens, bool protect)
{
    struct kv_played played;
    set_budgets(changed, (struct kv_budget){.tokens = tokens});
    for (uint32_t p = 0; protect && p < changed->cache->n_policies; p++)
        changed->cache->policies[p]->trim.sinks = 4, changed->cache->policies[p]->trim.recent = 8;
    const enum kv_verdict verdict = play_audited(check, &kv_check_plain, &played);
    kv_played_forget(&played);
    return verdict;
}

enum kv_verdict kv_check_edge_budgets(struct kv_check *check)
{
    static const uint32_t budgets[] = {1, 2, 6, 256, 304 + 1000};
    struct changed changed = {0};
    if (!has_budget(check)) return kv_check_skip(check, "no budget");
    remember(&changed, check->spec);
    enum kv_verdict verdict = KV_PASS;
    for (size_t i = 0; verdict == KV_PASS && i < sizeof budgets / sizeof *budgets; i++)
        verdict = play_budget(check, &changed, budgets[i], budgets[i] == 6);
    restore(&changed);
    return verdict;
}

enum kv_verdict kv_check_no_budget(struct kv_check *check)
{
    struct kv_spec_list list;
    struct kv_played played;
    struct changed changed = {0};
    char text[256];
    if (!has_budget(check)) return kv_check_skip(check, "no budget");
    remember(&changed, check->spec);
    for (uint32_t p = 0; p < changed.cache->n_policies; p++) {
        if (!changed.policies[p]->score) continue;
        snprintf(text, sizeof text, "%s:budget=0", changed.policies[p]->name);
        if (kv_spec_parse(&list, text, &check->why) == KV_EUSAGE) continue;
        kv_spec_free(&list);
        return kv_fail(&check->why, 0, "%s: expected to be refused", text), KV_FAIL;
    }
    set_budgets(&changed, (struct kv_budget){.share = 0.5 / kv_check_plain.prefill});
    struct kv_play play = kv_play_usual(check);
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    kv_played_forget(&played);
    restore(&changed);
    if (verdict == KV_SKIP) return KV_PASS;
    return kv_fail(&check->why, 0, "a share that is no row: expected unsupported"), KV_FAIL;
}

static bool joins_heads(const struct kv_cache_spec *cache)
{
    bool joins = false;
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(cache, side);
        joins |= stage && stage->modifiers[side].span & KV_SPAN_HEADS;
    }
    return joins;
}

/* True where atoms may outlive some of their rows, so that bytes hang on which rows were dropped:
 * under eviction step by step, from heads of unequal length, or from heads that choose apart and
 * whose rows stand in one atom. */
static bool leaves_holes(const struct kv_spec *spec)
{
    const struct kv_cache_spec *cache = &spec->caches[0];
    for (uint32_t p = 0; p < cache->n_policies; p++) {
        const struct kv_trim *trim = &cache->policies[p]->trim;
        if (!trim->prompt_only || trim->pooled_heads) return cache->codec || cache->values;
        if (!trim->shared_heads && joins_heads(cache)) return true;
    }
    return false;
}

enum kv_verdict kv_check_stored_budget(struct kv_check *check)
{
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    if (check->spec->n_caches > 1 || !has_budget(check)) return kv_check_skip(check, "no budget");
    if (cache->n_policies > 1) return kv_check_skip(check, "several budgets");
    if (cache->policies[0]->trim.layer_budget != KV_LAYERS_UNIFORM)
        return kv_check_skip(check, "layers share the budget: one of them may store more");
    if (leaves_holes(check->spec))
        return kv_check_skip(check, "stored units may outlive their rows");
    struct changed changed = {0};
    struct kv_played played;
    const double bits = 8.0, elements = (double)kv_check_plain.tokens * kv_check_plain.kv_heads *
                                        (kv_check_plain.key_dim + kv_check_plain.value_dim);
    remember(&changed, check->spec);
    set_budgets(&changed, (struct kv_budget){.bits = bits});
    enum kv_verdict verdict = play_audited(check, &kv_check_plain, &played);
    restore(&changed);
    const double stored = 8.0 * (double)kv_played_resident(&played) / elements;
    const bool whole = played.kept_whole;
    kv_played_forget(&played);
    if (verdict == KV_PASS && whole)
        return kv_check_skip(check, "the policy keeps this layer whole");
    if (verdict == KV_PASS && stored > bits)
        verdict = KV_FAIL,
        kv_fail(&check->why, 0, "stores %.6g bits per element, asked were %g", stored, bits);
    return verdict;
}

/* -- ties ------------------------------------------------------------------------------------- */

static void all_equal(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                      uint32_t n_lanes)
{
    (void)self, (void)step;
    for (uint32_t l = 0; l < n_lanes; l++) memset(lanes[l].score, 0, lanes[l].n * sizeof(float));
}

/* Rows that trim protects at the end of what it has to judge: those asked for, or that judge, and
 * the newest at a step. */
static uint32_t recent_of(const struct kv_stage *stage, uint32_t budget)
{
    struct kv_wants wants = {0};
    if (stage->policy->wants) stage->policy->wants(stage->config[0], &wants);
    const uint32_t own = stage->trim.prompt_only ? wants.judges : 1;
    const uint32_t share = (uint32_t)((uint64_t)budget * stage->trim.recent_percent / 100);
    const uint32_t recent = stage->trim.recent > share ? stage->trim.recent : share;
    return recent > own ? recent : own;
}

/* Between the sinks and the recent rows a lane holds the first rows, without a gap. */
static enum kv_verdict compare_lane(struct kv_check *check, const struct kv_stage *stage,
                                    const uint8_t *held, uint32_t end, uint32_t budget)
{
    uint32_t next = stage->trim.sinks, after = 0, n = 0;
    const uint32_t recent = recent_of(stage, budget);
    for (uint32_t t = 0; t < end; t++) n += held[t];
    for (uint32_t t = 0; t < end && after + recent < n; t++) {
        after += held[t];
        if (!held[t] || t < stage->trim.sinks) continue;
        if (t != next)
            return kv_fail(&check->why, 0, "holds row %u, but not row %u before it", t, next),
                   KV_FAIL;
        next++;
    }
    return KV_PASS;
}

static bool judges_by_score(const struct kv_stage *stage)
{
    const struct kv_trim *trim = &stage->trim;
    return stage->policy->score && !trim->chunk && !trim->output_percent && !trim->every &&
           !trim->every_percent && trim->layer_budget == KV_LAYERS_UNIFORM && !trim->pooled_heads;
}

enum kv_verdict kv_check_ties(struct kv_check *check)
{
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    if (check->spec->n_caches > 1 || cache->n_policies != 1 || !judges_by_score(cache->policies[0]))
        return kv_check_skip(check, "not one row by its score alone");
    struct changed changed = {0};
    struct kv_played played;
    struct kv_stage *stage = cache->policies[0];
    const uint32_t budget = 128,
                   end = stage->trim.prompt_only ? kv_check_plain.prefill : kv_check_plain.tokens;
    remember(&changed, check->spec);
    changed.copies[0] = *stage->policy;
    changed.copies[0].score = all_equal;
    set_budgets(&changed, (struct kv_budget){.tokens = budget});
    stage->policy = &changed.copies[0];
    enum kv_verdict verdict = play_audited(check, &kv_check_plain, &played);
    for (uint32_t h = 0; verdict == KV_PASS && h < played.lanes; h++)
        verdict = compare_lane(check, stage, played.held + (size_t)h * played.tokens, end, budget);
    restore(&changed);
    kv_played_forget(&played);
    return verdict;
}

/* -- questions and prompts -------------------------------------------------------------------- */

static bool chooses_once(const struct kv_check *check)
{
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    for (uint32_t p = 0; p < cache->n_policies; p++)
        if (!cache->policies[p]->trim.prompt_only) return false;
    return cache->n_policies > 0;
}

enum kv_verdict kv_check_question(struct kv_check *check)
{
    if (!has_budget(check) || !chooses_once(check))
        return kv_check_skip(check, "does not choose in the prompt, once");
    struct kv_spec hidden = *check->spec;
    hidden.query_agnostic = true;
    struct kv_check_shape other = kv_check_plain;
    other.changed_from = kv_check_plain.prefill - kv_check_plain.question;
    struct kv_play play = kv_play_usual(check);
    play.spec = &hidden;
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, &play, &other, &b);
    for (uint32_t h = 0; verdict == KV_PASS && h < a.lanes; h++)
        if (memcmp(a.held + (size_t)h * a.tokens, b.held + (size_t)h * b.tokens,
                   other.changed_from))
            verdict = KV_FAIL,
            kv_fail(&check->why, 0, "another question, and other rows stay in head %u", h);
    if (verdict == KV_PASS && kv_played_same(&a, &b))
        verdict = KV_FAIL,
        kv_fail(&check->why, 0, "the question's own tokens changed nothing at all");
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

enum kv_verdict kv_check_short_prompt(struct kv_check *check)
{
    struct kv_check_shape shape = kv_check_plain;
    struct kv_played played;
    shape.tokens = 40, shape.prefill = 8, shape.question = 0;
    const enum kv_verdict verdict = play_audited(check, &shape, &played);
    kv_played_forget(&played);
    return verdict;
}
