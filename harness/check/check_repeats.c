/* Repeated plays; see check_repeats.h. */
#include "harness/check/check_repeats.h"

#include <string.h>

#include "harness/check/check_subject.h"
#include "methods/trim.h"

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

enum kv_verdict kv_check_twice(struct kv_check *check)
{
    struct kv_play again = kv_play_usual(check);
    return twice(check, &again, true, 0.0);
}

enum kv_verdict kv_check_unit_order(struct kv_check *check)
{
    struct kv_play backwards = kv_play_usual(check);
    backwards.backwards = true;
    return twice(check, &backwards, true, 0.0);
}

enum kv_verdict kv_check_roads(struct kv_check *check)
{
    if (kv_subject_feeds_back(check)) return kv_check_skip(check, "answers feed back: only the slow road applies");
    if (kv_subject_keeps_no_rows(check)) return kv_check_skip(check, "no rows: a road of its own");
    struct kv_play slow = kv_play_usual(check);
    slow.road = KV_ROAD_SLOW;
    return twice(check, &slow, false, KV_PLAY_ROUNDING);
}

enum kv_verdict kv_check_kernel_sets(struct kv_check *check)
{
    if (strcmp(check->kernels.isa, "generic") == 0) return kv_check_skip(check, "no other kernel set runs here");
    struct kv_play generic = kv_play_usual(check);
    generic.kernels = &check->generic;
    return twice(check, &generic, false, KV_PLAY_ROUNDING);
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
    return !kv_subject_is_registered(check);
}

enum kv_verdict kv_check_seed(struct kv_check *check)
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
