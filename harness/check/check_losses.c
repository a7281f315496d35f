/* What is lost; see check_losses.h. */
#include "harness/check/check_losses.h"

#include <math.h>
#include <string.h>

#include "harness/check/check_altered.h"
#include "harness/check/check_subject.h"

enum kv_verdict kv_check_stores_less(struct kv_check *check)
{
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict != KV_PASS) return verdict;
    const int64_t recorded = kv_check_recorded_bytes();
    const int64_t stored = kv_played_resident(&played);
    const double reads = kv_played_reads(&played) / (kv_check_plain.tokens - kv_check_plain.prefill);
    const bool exact = strcmp(check->spec->family, "exact") == 0, whole = played.kept_whole;
    kv_played_forget(&played);
    if (exact || whole) return kv_check_skip(check, "keeps everything as it is");
    if (kv_subject_has(check, kv_selects_rows)) {
        if (reads < recorded) return KV_PASS;
        return kv_fail(&check->why, 0, "reads %.0f bytes a step of %lld", reads, (long long)recorded), KV_FAIL;
    }
    if (stored < recorded) return KV_PASS;
    if (!kv_subject_is_registered(check)) return kv_check_skip(check, "this setting stores no less");
    kv_fail(&check->why, 0, "stores %lld bytes, recorded are %lld", (long long)stored, (long long)recorded);
    return KV_FAIL;
}

/* One row a head stays after every step: an answer finds the row of its own step and none before it.
 * A codec that comes to a row after the answer then encodes what no answer reads. */
static bool holds_one_row(const struct kv_check *check, const struct kv_played *played)
{
    return check->spec->n_caches == 1 && kv_subject_has(check, kv_drops_at_steps) &&
           played->account.held_rows <= played->lanes;
}

enum kv_verdict kv_check_garbled(struct kv_check *check)
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

/* The usual play beside exact attention; unless it passes nothing of either is left to forget. */
static enum kv_verdict play_beside_exact(struct kv_check *check, struct kv_played *played, struct kv_played *exact)
{
    struct kv_play play = kv_play_usual(check);
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, played);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_exact(check, &kv_check_plain, exact);
    if (verdict != KV_PASS) kv_played_forget(played);
    return verdict;
}

enum kv_verdict kv_check_lossless(struct kv_check *check)
{
    if (kv_subject_keeps_no_rows(check)) return kv_check_skip(check, "keeps no rows");
    if (check->spec->n_caches > 1 || kv_subject_has(check, kv_chooses_rows)) return kv_check_skip(check, "chooses rows");
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(&check->spec->caches[0], side);
        const struct kv_modifiers *m = stage ? &stage->modifiers[side] : NULL;
        const bool plain_row = !m || (!stage->rest && !m->unrotated && !m->rotate && !m->center);
        const bool lossless = !stage || (stage->codec->traits & KV_EXACT_F16);
        if (!plain_row || !lossless) return kv_check_skip(check, "changes rows of this type");
    }
    struct kv_played a, b;
    enum kv_verdict verdict = play_beside_exact(check, &a, &b);
    if (verdict != KV_PASS) return verdict;
    if (!kv_played_same(&a, &b))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g, expected exactly 0", kv_played_difference(&a, &b));
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

enum kv_verdict kv_check_full_budget(struct kv_check *check)
{
    if (check->spec->n_caches > 1 || !kv_subject_has(check, kv_drops_rows) ||
        check->spec->caches[0].codec || check->spec->caches[0].values)
        return kv_check_skip(check, "no budget, or a codec of its own");
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++)
        if (check->spec->caches[0].policies[p]->policy->select) return kv_check_skip(check, "selects reads");
    const struct kv_altered altered = kv_alter(check->spec);
    kv_alter_budgets(&altered, (struct kv_budget){.tokens = kv_check_plain.tokens});
    struct kv_played a, b;
    enum kv_verdict verdict = play_beside_exact(check, &a, &b);
    kv_alter_back(&altered);
    if (verdict != KV_PASS) return verdict;
    if (kv_played_difference(&b, &a) > KV_PLAY_ROUNDING)
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", kv_played_difference(&b, &a));
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

/* Rows that a lane holds, or (16 bits an element, at least) reads; 0: what is dropped is read elsewhere. A state
 * weighs the rows that it took in, and may weigh all but one with next to nothing. */
static double rows_of_an_answer(const struct kv_check *check, const struct kv_played *played)
{
    const struct kv_check_shape *plain = &kv_check_plain;
    const double bytes = 2.0 * played->lanes * (plain->key_dim + plain->value_dim);
    const double held = (double)played->account.held_rows / played->lanes;
    const double read = kv_played_reads(played) / (plain->tokens - plain->prefill) / bytes;
    if (kv_subject_keeps_no_rows(check)) return 1.0;
    if (check->spec->n_caches > 1) return 0.0;
    return kv_subject_has(check, kv_selects_rows) && read < held ? read : held;
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
    if (played->kept_whole) return kv_check_skip(check, KV_KEPT_WHOLE);
    if (kv_played_resident(played) + kv_played_offloaded(played) >= kv_check_recorded_bytes() && !kv_subject_is_registered(check))
        return kv_check_skip(check, "this setting stores no less");
    return kv_fail(&check->why, 0, "answers are exact to the bit: the method did not engage"), KV_FAIL;
}

enum kv_verdict kv_check_differs(struct kv_check *check)
{
    if (strcmp(check->spec->family, "exact") == 0) return kv_check_skip(check, "keeps everything as it is");
    struct kv_played a, b;
    enum kv_verdict verdict = play_beside_exact(check, &a, &b);
    if (verdict != KV_PASS) return verdict;
    if (kv_played_same(&a, &b))
        verdict = loses_nothing(check, &a);
    const double rows = rows_of_an_answer(check, &a);
    const double limit = verdict == KV_PASS && rows > 0.0 ? farthest(&b, &a, rows, kv_subject_has(check, kv_merges_rows)) : 3.0;
    if (verdict == KV_PASS && !(kv_played_difference(&b, &a) < limit))
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers are %.3g from exact ones, expected below %.3g: no answer at all",
                                kv_played_difference(&b, &a), limit);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}
