/* The conformance kit; see check.h. Each invariant is one function and one row of the table below. */
#include "harness/check/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check/check_budgets.h"
#include "harness/check/check_laws.h"
#include "harness/check/check_shapes.h"
#include "harness/check/check_stored.h"
#include "harness/replay/question.h"
#include "methods/spec_wants.h"
#include "methods/trim.h"

/* fmax would do, but the aarch64 gcc 12 crashes on its reductions. NaN counts as largest. */
static double larger(double a, double b) { return a != a || b <= a ? a : b; }

static bool has_policy(const struct kv_check *check, bool (*is)(const struct kv_stage *))
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (uint32_t p = 0; p < check->spec->caches[c].n_policies; p++)
            if (is(check->spec->caches[c].policies[p])) return true;
    return false;
}

static bool drops(const struct kv_stage *stage) { return stage->policy->score != NULL; }
static bool drops_at_steps(const struct kv_stage *stage) { return drops(stage) && !stage->trim.prompt_only; }
static bool selects(const struct kv_stage *stage) { return stage->policy->select != NULL; }
static bool merges(const struct kv_stage *stage) { return stage->policy->merge != NULL; }
static bool any(const struct kv_stage *stage) { return stage->policy->score || stage->policy->select; }

static bool keeps_no_rows(const struct kv_check *check) { return check->spec->caches[0].answer != NULL; }

static bool feeds_back(const struct kv_check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        if (kv_cache_feeds_back(&check->spec->caches[c])) return true;
    return false;
}

static bool fits_prompt(const struct kv_check *check)
{
    if (keeps_no_rows(check)) return check->spec->caches[0].answer->answer->fit != NULL;
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (int side = 0; side < kv_n_chains(&check->spec->caches[c]); side++)
            for (const struct kv_stage *s = kv_chain(&check->spec->caches[c], side); s; s = s->rest)
                if (s->codec->fit || s->modifiers[0].center || s->modifiers[1].center) return true;
    return false;
}

static bool is_oracle(const struct kv_check *check)
{
    const struct kv_wants wants = kv_spec_wants(check->spec);
    return check->spec->oracle || wants.future || wants.fisher || wants.label;
}

static const char WHOLE[] = "a policy that keeps this layer whole";

/* One method, as it is registered. Another setting may be one that compresses nothing (rank=1.0, sinks above
 * the length): its rows are flagged so. */
static bool is_registered(const struct kv_check *check)
{
    struct kv_spec_list list;
    struct kv_error err;
    if (kv_spec_parse_name(&list, check->spec->text, &err) != KV_OK) return false;
    const bool same = list.n == 1 && strcmp(list.specs[0].text, check->spec->text) == 0;
    kv_spec_free(&list);
    return same;
}

static int64_t recorded_bytes(void)
{
    const struct kv_check_shape *plain = &kv_check_plain;
    return (int64_t)plain->tokens * plain->kv_heads * (plain->key_dim + plain->value_dim) * 2;
}

/* -- the invariants ----------------------------------------------------------------------------- */

static enum kv_verdict canonical_spec_parses_to_itself(struct kv_check *check)
{
    struct kv_spec_list list;
    if (kv_spec_parse(&list, check->spec->text, &check->why) != KV_OK) return KV_FAIL;
    const bool same = list.n == 1 && strcmp(list.specs[0].text, check->spec->text) == 0;
    if (!same) kv_fail(&check->why, 0, "%s came back as %s", check->spec->text, list.specs[0].text);
    kv_spec_free(&list);
    return same ? KV_PASS : KV_FAIL;
}

static enum kv_verdict twice(struct kv_check *check, struct kv_play *second, bool exactly, double tolerance)
{
    struct kv_play first = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &first, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, second, &kv_check_plain, &b);
    if (verdict == KV_PASS && exactly && !kv_played_same(&a, &b))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", kv_played_difference(&a, &b));
    if (verdict == KV_PASS && !exactly && !(kv_played_difference(&a, &b) <= tolerance))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g, expected at most %.3g",
                                kv_played_difference(&a, &b), tolerance);
    if (verdict == KV_PASS && (kv_played_resident(&a) != kv_played_resident(&b) ||
                               kv_played_offloaded(&a) != kv_played_offloaded(&b)))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "bytes differ: %lld and %lld", (long long)kv_played_resident(&a),
                                (long long)kv_played_resident(&b));
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static enum kv_verdict same_bytes_twice(struct kv_check *check)
{
    struct kv_play again = kv_play_usual(check);
    return twice(check, &again, true, 0.0);
}

static enum kv_verdict order_of_units_does_not_matter(struct kv_check *check)
{
    struct kv_play backwards = kv_play_usual(check);
    backwards.backwards = true;
    return twice(check, &backwards, true, 0.0);
}

/* Relative rounding of fp32 attention over some 300 rows: far above n * eps, far below any method. */
static const double ROUNDING = 2e-5;

static enum kv_verdict both_roads_agree(struct kv_check *check)
{
    if (feeds_back(check)) return kv_check_skip(check, "answers feed back: only the slow road applies");
    if (keeps_no_rows(check)) return kv_check_skip(check, "no rows: a road of its own");
    struct kv_play slow = kv_play_usual(check);
    slow.road = KV_ROAD_SLOW;
    return twice(check, &slow, false, ROUNDING);
}

static enum kv_verdict generic_kernels_agree(struct kv_check *check)
{
    if (strcmp(check->kernels.isa, "generic") == 0) return kv_check_skip(check, "no other kernel set runs here");
    struct kv_play generic = kv_play_usual(check);
    generic.kernels = &check->generic;
    return twice(check, &generic, false, ROUNDING);
}

/* The budget is as small as what it protects. */
static bool has_no_choice(const struct kv_stage *stage)
{
    const uint32_t budget = kv_budget_tokens(stage->trim.budget, kv_check_plain.prefill);
    const struct kv_protected shut = kv_trim_protected(&stage->trim, budget, stage->trim.sinks);
    return stage->policy->score && shut.sinks + shut.recent >= budget;
}

/* Codes that chance makes, while no row is encoded; a choice by chance without a choice. */
static bool chance_has_no_say(const struct kv_check *check, bool coded)
{
    bool none = true;
    for (uint32_t c = 0; c < check->spec->n_caches; c++) {
        const struct kv_cache_spec *cache = &check->spec->caches[c];
        for (int side = 0; side < kv_n_chains(cache); side++)
            none &= !coded || !kv_chain_is_random(cache, side);
        for (uint32_t p = 0; p < cache->n_policies; p++) {
            const struct kv_stage *stage = cache->policies[p];
            none &= !kv_policy_is_random(stage) || has_no_choice(stage);
        }
    }
    return none;
}

static bool encodes_rows(struct kv_check *check)
{
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    if (kv_play_shape(check, &play, &kv_check_plain, &played) != KV_PASS) return true;
    const bool coded = played.account.coded_rows > 0;
    kv_played_forget(&played);
    return coded;
}

/* Only policies draw, and one of them, or what it is joined to, is not at its defaults: a second budget
 * may leave the same rows whatever the first chose, an interval may end before anything is merged. */
static bool a_setting_leaves_no_choice(const struct kv_check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (int side = 0; side < kv_n_chains(&check->spec->caches[c]); side++)
            if (kv_chain_is_random(&check->spec->caches[c], side)) return false;
    return !is_registered(check);
}

static enum kv_verdict seed_matters_only_where_it_is_said(struct kv_check *check)
{
    struct kv_play other = kv_play_usual(check);
    other.seed = 2;
    if (!check->spec->random) return twice(check, &other, true, 0.0);
    const enum kv_verdict verdict = twice(check, &other, true, 0.0);
    if (verdict == KV_PASS && chance_has_no_say(check, encodes_rows(check)))
        return kv_check_skip(check, "protected rows alone stay, or no row is encoded");
    if (verdict == KV_PASS && a_setting_leaves_no_choice(check))
        return kv_check_skip(check, "in this setting what chance chooses makes no difference");
    if (verdict == KV_PASS) return kv_fail(&check->why, 0, "said to be random, but another seed changed nothing"), KV_FAIL;
    return verdict == KV_FAIL ? KV_PASS : verdict;
}

static enum kv_verdict future_tokens_do_not_matter(struct kv_check *check)
{
    if (is_oracle(check)) return kv_check_skip(check, "an oracle");
    struct kv_check_shape changed = kv_check_plain;
    changed.changed_from = 280;
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, &play, &changed, &b);
    const uint32_t group = a.group, before = changed.changed_from - kv_check_plain.prefill;
    for (uint32_t h = 0; verdict == KV_PASS && h < a.lanes; h++) {
        const size_t first = (size_t)h * a.n_scored * group * a.value_dim;
        if (memcmp(a.outputs + first, b.outputs + first, (size_t)before * group * a.value_dim * sizeof(float)))
            verdict = KV_FAIL, kv_fail(&check->why, 0, "an answer before token %u changed with the tokens after it", changed.changed_from);
    }
    if (verdict == KV_PASS && kv_played_same(&a, &b))
        verdict = kv_played_no_values(&a)
                      ? kv_check_skip(check, "no value is stored")
                      : (kv_fail(&check->why, 0, "the changed tokens changed nothing at all"), KV_FAIL);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static bool reads_turned_rows(const struct kv_check *check)
{
    const struct kv_stage *stage = check->spec->caches[0].codec;
    return stage && stage->codec->turn && stage->codec->turn->row;
}

static bool codes_latents_of_heads(const struct kv_check *check)
{
    const struct kv_stage *stage = kv_chain(&check->spec->caches[0], KV_KEYS);
    return stage && stage->rest && stage->modifiers[0].span & KV_SPAN_HEADS;
}

static enum kv_verdict swapping_heads_swaps_answers(struct kv_check *check)
{
    for (int side = 0; side < 2; side++)
        for (const struct kv_stage *s = kv_chain(&check->spec->caches[0], side); s; s = s->rest)
            if (kv_chain(&check->spec->caches[0], side)->modifiers[0].span & KV_SPAN_HEADS &&
                s->codec->traits & KV_ORDERED_HEADS)
                return kv_check_skip(check, "heads have different parts to play");
    if (check->spec->random) return kv_check_skip(check, "depends on the head by its seed");
    /* Of f32 rows: among equal halves of a row that joins heads the lower column goes first, and that is
     * another head's once they are swapped. */
    struct kv_check_shape straight = kv_check_plain, swapped;
    straight.dtype = KV_F32;
    swapped = straight, swapped.swapped = true;
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &straight, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, &play, &swapped, &b);
    const size_t half = a.n / 2;
    double delta = 0.0;
    for (size_t i = 0; verdict == KV_PASS && i < a.n; i++)
        delta = larger(delta, fabs((double)a.outputs[i] - b.outputs[(i + half) % a.n]));
    /* Sums over heads change their order; latents of all heads go to the other half or code beside them. */
    if (verdict == KV_PASS && delta > (reads_turned_rows(check) || codes_latents_of_heads(check) ? 0x1p-11 : 1e-4))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers of swapped heads differ by %.3g", delta);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static enum kv_verdict split_between_prompt_and_steps_does_not_matter(struct kv_check *check)
{
    if (has_policy(check, any) || fits_prompt(check))
        return kv_check_skip(check, "the end of the prompt is an event for this method");
    if (check->spec->n_caches > 1) return kv_check_skip(check, "two caches");
    struct kv_check_shape later = kv_check_plain;
    later.prefill = 272;
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, &play, &later, &b);
    const size_t row = (size_t)a.group * a.value_dim;
    double delta = 0.0;
    for (uint32_t h = 0; verdict == KV_PASS && h < a.lanes; h++)
        for (size_t i = 0; i < b.n_scored * row; i++) {
            const float *x = a.outputs + ((size_t)h * a.n_scored + 16) * row, *y = b.outputs + (size_t)h * b.n_scored * row;
            delta = larger(delta, fabs((double)x[i] - y[i]));
        }
    if (verdict == KV_PASS && delta > 1e-4)
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", delta);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static enum kv_verdict stores_less_than_recorded(struct kv_check *check)
{
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict != KV_PASS) return verdict;
    const int64_t recorded = recorded_bytes();
    const int64_t stored = kv_played_resident(&played);
    const double reads = kv_played_reads(&played) / (kv_check_plain.tokens - kv_check_plain.prefill);
    const bool exact = strcmp(check->spec->family, "exact") == 0, whole = played.kept_whole;
    kv_played_forget(&played);
    if (exact || whole) return kv_check_skip(check, "keeps everything as it is");
    if (has_policy(check, selects)) {
        if (reads < recorded) return KV_PASS;
        return kv_fail(&check->why, 0, "reads %.0f bytes a step of %lld", reads, (long long)recorded), KV_FAIL;
    }
    if (stored < recorded) return KV_PASS;
    if (!is_registered(check)) return kv_check_skip(check, "this setting stores no less");
    kv_fail(&check->why, 0, "stores %lld bytes, recorded are %lld", (long long)stored, (long long)recorded);
    return KV_FAIL;
}

/* One row a head stays after every step: an answer finds the row of its own step and none before it.
 * A codec that comes to a row after the answer then encodes what no answer reads. */
static bool holds_one_row(const struct kv_check *check, const struct kv_played *played)
{
    return check->spec->n_caches == 1 && has_policy(check, drops_at_steps) &&
           played->account.held_rows <= played->lanes;
}

static enum kv_verdict garbled_codes_change_the_answers(struct kv_check *check)
{
    struct kv_play garbled = kv_play_usual(check);
    garbled.garble = true;
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    const bool coded = a.account.coded_rows > 0 && !kv_played_no_values(&a), one = holds_one_row(check, &a);
    verdict = kv_play_shape(check, &garbled, &kv_check_plain, &b);
    if (verdict == KV_PASS && coded && one && kv_played_same(&a, &b))
        verdict = kv_check_skip(check, "one row stays: it is encoded after the only answer that reads it");
    if (verdict == KV_PASS && coded && kv_played_same(&a, &b))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "%llu coded rows, but garbled codes change no answer",
                                (unsigned long long)a.account.coded_rows);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict == KV_PASS && !coded ? kv_check_skip(check, "no row is encoded in this short text") : verdict;
}

static enum kv_verdict nothing_lost_answers_exactly(struct kv_check *check)
{
    if (keeps_no_rows(check)) return kv_check_skip(check, "keeps no rows");
    if (check->spec->n_caches > 1 || has_policy(check, any)) return kv_check_skip(check, "chooses rows");
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(&check->spec->caches[0], side);
        const struct kv_modifiers *m = stage ? &stage->modifiers[side] : NULL;
        const bool plain_row = !m || (!stage->rest && !m->unrotated && !m->rotate && !m->center);
        const bool lossless = !stage || (stage->codec->traits & KV_EXACT_F16);
        if (!plain_row || !lossless) return kv_check_skip(check, "changes rows of this type");
    }
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_exact(check, &kv_check_plain, &b);
    if (verdict == KV_PASS && !kv_played_same(&a, &b))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g, expected exactly 0", kv_played_difference(&a, &b));
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static enum kv_verdict full_budget_answers_exactly(struct kv_check *check)
{
    if (check->spec->n_caches > 1 || !has_policy(check, drops) ||
        check->spec->caches[0].codec || check->spec->caches[0].values)
        return kv_check_skip(check, "no budget, or a codec of its own");
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++)
        if (check->spec->caches[0].policies[p]->policy->select) return kv_check_skip(check, "selects reads");
    struct kv_budget old[KV_MAX_POLICIES];
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    for (uint32_t p = 0; p < cache->n_policies; p++) {
        old[p] = cache->policies[p]->trim.budget;
        cache->policies[p]->trim.budget = (struct kv_budget){.tokens = kv_check_plain.tokens};
    }
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    for (uint32_t p = 0; p < cache->n_policies; p++) cache->policies[p]->trim.budget = old[p];
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_exact(check, &kv_check_plain, &b);
    if (verdict == KV_PASS && kv_played_difference(&b, &a) > ROUNDING)
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", kv_played_difference(&b, &a));
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
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

static enum kv_verdict holds_no_more_than_its_budget(struct kv_check *check)
{
    if (check->spec->n_caches > 1 || !has_policy(check, drops)) return kv_check_skip(check, "no budget");
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict != KV_PASS) return verdict;
    const uint64_t allowed = most_rows(check, &played);
    const uint64_t held = played.account.held_rows, lanes = played.lanes;
    const bool whole = played.kept_whole;
    kv_played_forget(&played);
    if (whole) return kv_check_skip(check, WHOLE);
    if (held <= allowed * lanes) return KV_PASS;
    kv_fail(&check->why, 0, "holds %llu rows, expected at most %llu", (unsigned long long)held,
            (unsigned long long)(allowed * lanes));
    return KV_FAIL;
}

/* Rows that a lane holds, or (16 bits an element, at least) reads; 0: what is dropped is read elsewhere. A state
 * weighs the rows that it took in, and may weigh all but one with next to nothing. */
static double rows_of_an_answer(const struct kv_check *check, const struct kv_played *played)
{
    const struct kv_check_shape *plain = &kv_check_plain;
    const double bytes = 2.0 * played->lanes * (plain->key_dim + plain->value_dim);
    const double held = (double)played->account.held_rows / played->lanes;
    const double read = kv_played_reads(played) / (plain->tokens - plain->prefill) / bytes;
    if (keeps_no_rows(check)) return 1.0;
    if (check->spec->n_caches > 1) return 0.0;
    return has_policy(check, selects) && read < held ? read : held;
}

/* How far from exact answers, relative to them, those from `rows` of all rows may be. Values are drawn
 * with variance 1, and an answer is a mean of them: of one row alone it is as large as a row, of a
 * part of them larger than the exact one by the root of the whole to the part; it may point anywhere.
 * A tenth is for codes that lengthen rows; what chooses well, or keeps all, stays below 3. Codes that miss
 * a row by more than its length (1 bit a latent) leave means as long as the rows that are read. Where
 * values that go are added to those that stay, each may come to the sum of what it took in. */
static double farthest(const struct kv_played *exact, const struct kv_played *played, double rows, bool sums)
{
    const struct kv_replay_account *account = &played->account;
    double squares = 0.0;
    for (size_t i = 0; i < exact->n; i++) squares += (double)exact->outputs[i] * exact->outputs[i];
    const double alone = sqrt((double)exact->n / squares), part = sqrt(exact->tokens / rows);
    const double missed = account->value_norm2 > 0.0 ? sqrt(account->value_error2 / account->value_norm2) : 0.0;
    const double longest = missed > 1.0 && !sums ? (1.0 + missed) * alone : 1.1 * (part < alone ? part : alone);
    const double limit = 1.0 + longest;
    return (limit > 3.0 ? limit : 3.0) * (sums ? exact->tokens / rows : 1.0);
}

/* Exact answers of a method that compresses: of this setting, or wrong. */
static enum kv_verdict loses_nothing(struct kv_check *check, const struct kv_played *played)
{
    if (played->kept_whole) return kv_check_skip(check, WHOLE);
    if (kv_played_resident(played) + kv_played_offloaded(played) >= recorded_bytes() && !is_registered(check))
        return kv_check_skip(check, "this setting stores no less");
    return kv_fail(&check->why, 0, "answers are exact to the bit: the method did not engage"), KV_FAIL;
}

static enum kv_verdict differs_from_exact_attention(struct kv_check *check)
{
    if (strcmp(check->spec->family, "exact") == 0) return kv_check_skip(check, "keeps everything as it is");
    struct kv_play play = kv_play_usual(check);
    struct kv_played a, b;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_exact(check, &kv_check_plain, &b);
    if (verdict == KV_PASS && kv_played_same(&a, &b))
        verdict = loses_nothing(check, &a);
    const double rows = rows_of_an_answer(check, &a);
    const double limit = verdict == KV_PASS && rows > 0.0 ? farthest(&b, &a, rows, has_policy(check, merges)) : 3.0;
    if (verdict == KV_PASS && !(kv_played_difference(&b, &a) < limit))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers are %.3g from exact ones, expected below %.3g: no answer at all",
                                kv_played_difference(&b, &a), limit);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

#define INVARIANT(name, meaning) {{#name, meaning}, name}

static const struct { struct kv_invariant_text text; enum kv_verdict (*run)(struct kv_check *); } invariants[] = {
    INVARIANT(canonical_spec_parses_to_itself, "the printed spec is accepted back, unchanged"),
    {{"accounts_balance_at_every_step", "every byte count is recounted from the lists, every step"},
     kv_check_accounts},
    INVARIANT(same_bytes_twice, "two runs give the same bits"),
    INVARIANT(order_of_units_does_not_matter, "heads may be replayed in any order"),
    INVARIANT(both_roads_agree, "sweeping lines and going token by token give the same answers"),
    INVARIANT(generic_kernels_agree, "the SIMD kernels answer like the generic ones"),
    INVARIANT(seed_matters_only_where_it_is_said, "the seed changes random methods and no others"),
    INVARIANT(future_tokens_do_not_matter, "later tokens change no earlier answer"),
    INVARIANT(swapping_heads_swaps_answers, "no head is special"),
    INVARIANT(split_between_prompt_and_steps_does_not_matter, "rows stored at once or one by one are the same"),
    INVARIANT(stores_less_than_recorded, "stored (or read) bytes are below the recorded ones"),
    INVARIANT(garbled_codes_change_the_answers, "answers come from the codes"),
    INVARIANT(nothing_lost_answers_exactly, "a lossless store gives an error of exactly 0"),
    INVARIANT(full_budget_answers_exactly, "with room for everything nothing is lost"),
    INVARIANT(holds_no_more_than_its_budget, "held rows stay within the budget"),
    {{"positions_ascend_within_the_budget_at_every_step",
      "budgets of 1, 2, below sinks + recent, the prompt, above the length"},
     kv_check_edge_budgets},
    {{"a_budget_of_nothing_is_refused", "0 rows, or a share of the prompt that is no row"},
     kv_check_no_budget},
    {{"a_budget_in_bits_is_kept", "what is stored is no more than was asked"}, kv_check_stored_budget},
    {{"among_equals_the_lower_position_stays", "equal scores: the earlier of the unprotected rows"},
     kv_check_ties},
    {{"a_question_not_known_changes_no_choice", "query=agnostic: the prompt rows kept are the same"},
     kv_check_question},
    {{"runs_on_a_prompt_shorter_than_its_window", "a prompt of 8 tokens"}, kv_check_short_prompt},
    {{"bytes_are_those_of_the_formula", "what is resident is what `memory` counts without a recording"},
     kv_check_bytes},
    {{"rows_on_the_host_are_the_same_rows", "where=host changes no answer, and moves bytes without changing their sum"},
     kv_check_host},
    {{"error_falls_with_bits", "more bits, no larger error"}, kv_check_bits},
    {{"error_falls_with_rank", "more directions, channels or heads, no larger error"}, kv_check_rank},
    {{"what_was_projected_stays", "a row of the kept directions is read as it is"}, kv_check_projection},
    INVARIANT(differs_from_exact_attention, "the method did something, and still answers")};

enum { N_INVARIANTS = sizeof invariants / sizeof *invariants };

const struct kv_invariant_text *kv_check_list(void)
{
    static struct kv_invariant_text list[N_INVARIANTS + KV_CHECK_SHAPES + 1];
    int n = 0;
    for (int i = 0; i < N_INVARIANTS; i++) list[n++] = invariants[i].text;
    for (int i = 0; i < KV_CHECK_SHAPES; i++) list[n++] = kv_check_shapes[i].text;
    return list;
}

struct report { FILE *out; bool quiet; struct kv_check_counts *counts; };

static void tell(const struct report *report, const struct kv_check *check, const char *name, enum kv_verdict verdict)
{
    static const char *const words[] = {"ok", "FAILED", "skipped"};
    struct kv_check_counts *counts = report->counts;
    counts->passed += verdict == KV_PASS, counts->failed += verdict == KV_FAIL;
    counts->skipped += verdict == KV_SKIP;
    if (report->quiet && verdict != KV_FAIL) return;
    fprintf(report->out, "%-8s %s: %s%s%s\n", words[verdict], check->spec->text, name,
            verdict == KV_PASS ? "" : ": ", verdict == KV_PASS ? "" : check->why.text);
}

void kv_check_spec(const struct kv_spec *spec, const char *isa, bool quiet, FILE *out,
                   struct kv_check_counts *counts)
{
    const struct report report = {out, quiet, counts};
    struct kv_check check = {.spec = spec};
    struct kv_error err;
    if (kv_kernels_fill(&check.kernels, isa, &err) != KV_OK ||
        kv_kernels_fill(&check.generic, "generic", &err) != KV_OK) {
        fprintf(out, "FAILED   %s: %s\n", spec->text, err.text);
        counts->failed++;
        return;
    }
    for (int i = 0; i < N_INVARIANTS; i++) {
        check.why.text[0] = 0;
        tell(&report, &check, invariants[i].text.name, invariants[i].run(&check));
    }
    for (const struct kv_shape_invariant *shape = kv_check_shapes; shape < kv_check_shapes + KV_CHECK_SHAPES; shape++) {
        check.why.text[0] = 0;
        tell(&report, &check, shape->text.name, kv_check_on_shape(&check, &shape->change));
    }
}
