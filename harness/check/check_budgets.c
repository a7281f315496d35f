/* Budgets in the conformance kit; see check_budgets.h. */
#include "harness/check/check_budgets.h"

#include <string.h>

#include "harness/check/check_altered.h"
#include "harness/check/check_subject.h"
#include "harness/replay/question.h"

static enum kv_verdict play_budget(struct kv_check *check, const struct kv_altered *altered,
                                   uint32_t tokens, bool protect)
{
    struct kv_played played;
    kv_alter_budgets(altered, (struct kv_budget){.tokens = tokens});
    for (uint32_t p = 0; protect && p < altered->cache->n_policies; p++)
        altered->cache->policies[p]->trim.sinks = 4, altered->cache->policies[p]->trim.recent = 8;
    const enum kv_verdict verdict = kv_play_audited(check, kv_play_usual(check), &kv_check_plain, &played);
    kv_played_forget(&played);
    return verdict;
}

enum kv_verdict kv_check_edge_budgets(struct kv_check *check)
{
    static const uint32_t budgets[] = {1, 2, 6, 256, 304 + 1000};
    if (!kv_check_has_budget(check)) return kv_check_skip(check, "no budget");
    struct kv_altered altered = kv_alter(check->spec);
    enum kv_verdict verdict = KV_PASS;
    for (size_t i = 0; verdict == KV_PASS && i < sizeof budgets / sizeof *budgets; i++)
        verdict = play_budget(check, &altered, budgets[i], budgets[i] == 6);
    kv_alter_back(&altered);
    return verdict;
}

enum kv_verdict kv_check_no_budget(struct kv_check *check)
{
    struct kv_spec_list list;
    struct kv_played played;
    char text[256];
    if (!kv_check_has_budget(check)) return kv_check_skip(check, "no budget");
    struct kv_altered altered = kv_alter(check->spec);
    for (uint32_t p = 0; p < altered.cache->n_policies; p++) {
        if (!altered.policies[p]->score) continue;
        snprintf(text, sizeof text, "%s:budget=0", altered.policies[p]->name);
        if (kv_spec_parse(&list, text, &check->why) == KV_EUSAGE) continue;
        kv_spec_free(&list);
        return kv_fail(&check->why, 0, "%s: expected to be refused", text), KV_FAIL;
    }
    kv_alter_budgets(&altered, (struct kv_budget){.share = 0.5 / kv_check_plain.prefill});
    struct kv_play play = kv_play_usual(check);
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    kv_played_forget(&played);
    kv_alter_back(&altered);
    if (verdict == KV_SKIP) return KV_PASS;
    return kv_fail(&check->why, 0, "a share that is no row: expected unsupported"), KV_FAIL;
}

/* Of a head, at the end. A budget in bytes is the rows that it came to; where several are, those of the last. */
static uint64_t most_rows(const struct kv_check *check, const struct kv_played *played)
{
    uint64_t most = UINT64_MAX, settled = played->account.settled_rows / played->lanes;
    for (uint32_t p = check->spec->caches[0].n_policies; p-- > 0;) {
        const struct kv_stage *stage = check->spec->caches[0].policies[p];
        const bool stored = kv_budget_is_stored(stage->trim.budget);
        if (!stage->policy->score || (stored && !settled)) continue;
        const uint32_t prefill =
            kv_question_prefill(check->spec, kv_check_plain.prefill - kv_check_plain.question, kv_check_plain.prefill);
        uint64_t rows = stored ? settled : kv_budget_tokens(stage->trim.budget, prefill);
        if (stored) settled = 0;
        if (stage->trim.prompt_only) rows += kv_check_plain.tokens - prefill;
        /* Layers that share a budget: a pyramid's widest has less than twice the mean, and of the one layer
         * that is replayed here a survey finds the mean. */
        if (stage->trim.layer_budget != KV_LAYERS_UNIFORM) rows *= 2;
        if (rows < most) most = rows;
    }
    return most;
}

enum kv_verdict kv_check_held_budget(struct kv_check *check)
{
    if (check->spec->n_caches > 1 || !kv_subject_has(check, kv_drops_rows)) return kv_check_skip(check, "no budget");
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict != KV_PASS) return verdict;
    const uint64_t allowed = most_rows(check, &played);
    const uint64_t held = played.account.held_rows, lanes = played.lanes;
    const bool whole = played.kept_whole;
    kv_played_forget(&played);
    if (whole) return kv_check_skip(check, KV_KEPT_WHOLE);
    if (held <= allowed * lanes) return KV_PASS;
    kv_fail(&check->why, 0, "holds %llu rows, expected at most %llu", (unsigned long long)held,
            (unsigned long long)(allowed * lanes));
    return KV_FAIL;
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
    struct kv_played played;
    struct kv_stage *stage = cache->policies[0];
    const uint32_t budget = 128,
                   end = stage->trim.prompt_only ? kv_check_plain.prefill : kv_check_plain.tokens;
    struct kv_altered altered = kv_alter(check->spec);
    altered.copies[0] = *stage->policy;
    altered.copies[0].score = all_equal;
    kv_alter_budgets(&altered, (struct kv_budget){.tokens = budget});
    stage->policy = &altered.copies[0];
    enum kv_verdict verdict = kv_play_audited(check, kv_play_usual(check), &kv_check_plain, &played);
    for (uint32_t h = 0; verdict == KV_PASS && h < played.lanes; h++)
        verdict = compare_lane(check, stage, played.held + (size_t)h * played.tokens, end, budget);
    kv_alter_back(&altered);
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
    if (!kv_check_has_budget(check) || !chooses_once(check))
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
    const enum kv_verdict verdict = kv_play_audited(check, kv_play_usual(check), &shape, &played);
    kv_played_forget(&played);
    return verdict;
}
