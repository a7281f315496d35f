/* Turns of pairs, fits of growth, and the rule that no goal is missed without a reason. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "harness/perf/growth.h"
#include "harness/perf/perf.h"
#include "harness/perf/sibling.h"
#include "harness/perf/turns.h"

static struct kv_turns turns_of(const double *ratios, uint32_t n, uint32_t turns)
{
    struct kv_turns out = {.turns = turns};
    cr_assert(kv_turns_reserve(&out, n));
    for (uint32_t i = 0; i < n; i++) {
        for (int f = 0; f < KV_PERF_FIGURES; f++) out.pairs[i].figure[f] = NAN;
        out.pairs[i].figure[KV_PERF_RATIO] = ratios[i];
    }
    out.n = n;
    return out;
}

Test(perf, a_turn_is_the_median_of_its_neighbouring_pairs)
{
    /* Turns of three: medians 2, 4, 9. */
    const double ratios[] = {1, 2, 30, 4, 4, 5, 9, 9, 1};
    struct kv_turns turns = turns_of(ratios, 9, 3);
    const struct kv_perf_range range = kv_turns_range(&turns, KV_PERF_RATIO);
    cr_assert_eq(range.median, 4.0);
    cr_assert_eq(range.least, 2.0);
    cr_assert_eq(range.most, 9.0);
    kv_turns_free(&turns);
}

Test(perf, the_spread_of_pairs_counts_every_pair)
{
    const double ratios[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 11};
    struct kv_turns turns = turns_of(ratios, 10, 2);
    const struct kv_perf_range pairs = kv_turns_pair_range(&turns, KV_PERF_RATIO);
    cr_assert_eq(pairs.most, 11.0);
    cr_assert_eq(kv_turns_range(&turns, KV_PERF_RATIO).most, 1.0);
    kv_turns_free(&turns);
}

Test(perf, a_side_that_is_not_there_has_no_figures)
{
    const double ratios[] = {1, 1};
    struct kv_turns turns = turns_of(ratios, 2, 1);
    cr_assert(isnan(kv_turns_range(&turns, KV_PERF_YARDSTICK).median));
    kv_turns_free(&turns);
}

/* Pairs of which only some looks found the other thread at work belong to neither part. */
Test(perf, pairs_beside_the_other_thread_are_told_from_those_without_it)
{
    const double ratios[] = {1, 2, 3, 4, 5, 6}, beside[] = {0, 1, 0.5, 1, 0, 1};
    struct kv_turns turns = turns_of(ratios, 6, 3);
    for (int i = 0; i < 6; i++) turns.pairs[i].beside = beside[i];
    const struct kv_perf_part at_work = kv_turns_part(&turns, true), asleep = kv_turns_part(&turns, false);
    cr_assert_eq(at_work.pairs, 3);
    cr_assert_eq(at_work.ratio, 4.0);
    cr_assert_eq(asleep.pairs, 2);
    cr_assert_eq(asleep.ratio, 3.0);
    for (int i = 0; i < 6; i++) turns.pairs[i].beside = NAN;
    cr_assert_eq(kv_turns_part(&turns, false).pairs, 0, "nobody looked");
    cr_assert(isnan(kv_turns_part(&turns, true).ratio));
    kv_turns_free(&turns);
}

Test(perf, a_look_at_other_threads_says_a_share_of_cores)
{
    struct kv_sibling sibling;
    kv_sibling_create(&sibling);
    const double one = kv_sibling_look(&sibling, 1), two = kv_sibling_look(&sibling, 2);
    if (sibling.window) {
        cr_assert(one == 0 || one == 1, "expected yes or no, found %g", one);
        cr_assert(two == 0 || two == 0.5 || two == 1, "expected halves, found %g", two);
    } else {
        cr_assert(isnan(one) && isnan(two), "a core that is not known is not judged");
    }
    kv_sibling_free(&sibling);
    cr_assert(isnan(kv_sibling_look(&sibling, 1)));
}

static const uint32_t sizes[] = {1, 2, 4, 8, 16};

static struct kv_growth fit(double fixed, double slope, double exponent)
{
    double seconds[5];
    for (int i = 0; i < 5; i++) seconds[i] = fixed + slope * pow(sizes[i], exponent);
    return kv_growth_fit(sizes, seconds, 5);
}

Test(perf, growth_tells_a_fixed_part_from_an_exponent)
{
    const struct kv_growth line = fit(0.5, 0.01, 1), square = fit(0, 0.01, 2);
    cr_assert_float_eq(line.exponent, 1.0, 0.011);
    cr_assert_float_eq(line.fixed, 0.5, 0.01);
    cr_assert_lt(line.line, 0.2, "a line through logarithms takes the fixed part for growth");
    cr_assert_float_eq(square.exponent, 2.0, 0.011);
    cr_assert_float_eq(square.line, 2.0, 1e-9);
    cr_assert_float_eq(square.fixed, 0.0, 1e-3);
}

Test(perf, two_sizes_tell_no_fixed_part)
{
    const double seconds[] = {2, 1};
    const struct kv_growth growth = kv_growth_fit(sizes, seconds, 2);
    cr_assert_float_eq(growth.line, -1.0, 1e-9);
    cr_assert(isnan(growth.exponent));
}

/* Ours is half of the limit. */
static int half(void *context, double *limit, double *ours, struct kv_error *err)
{
    (void)context, (void)err;
    *limit = 2, *ours = 1;
    return KV_OK;
}

static void because(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    (void)context;
    snprintf(reason, KV_PERF_REASON, "it is %.2f", seen->ratio);
}

/* The row of a case, as JSON; *status is what measuring returned. */
static cJSON *row_of(struct kv_perf *perf, double goal, kv_perf_explain *explain, int *status)
{
    struct kv_error err;
    const struct kv_perf_case row = {.name = "half",
                                     .unit = "s",
                                     .unit_size = 1,
                                     .limit = {"whole", NULL, NULL},
                                     .ours = {"half", NULL, NULL},
                                     .sample = half,
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = goal,
                                     .explain = explain};
    *perf = (struct kv_perf){.options = {.repeats = 3, .json = true, .tiny = true},
                             .bench = "test",
                             .rows = cJSON_CreateArray()};
    *status = kv_perf_measure(perf, &row, &err);
    return cJSON_GetArrayItem(perf->rows, 0);
}

Test(perf, a_goal_without_an_explanation_is_refused)
{
    struct kv_perf perf;
    int status;
    cr_assert_null(row_of(&perf, 0.75, NULL, &status));
    cr_assert_eq(status, KV_EUSAGE);
    cr_assert_null(row_of(&perf, 0.25, NULL, &status), "even where the goal would be met");
    cr_assert_eq(status, KV_EUSAGE);
}

Test(perf, a_missed_goal_has_its_measured_reason)
{
    struct kv_perf perf;
    int status;
    const cJSON *row = row_of(&perf, 0.75, because, &status);
    cr_assert_eq(status, KV_OK);
    cr_assert_str_eq(cJSON_GetObjectItem(row, "verdict")->valuestring, "not met");
    cr_assert_str_eq(cJSON_GetObjectItem(row, "reason")->valuestring, "it is 0.50");
    cJSON_Delete(perf.rows);
}

Test(perf, a_met_goal_needs_no_reason)
{
    struct kv_perf perf;
    int status;
    const cJSON *row = row_of(&perf, 0.25, because, &status);
    cr_assert_eq(status, KV_OK);
    cr_assert_str_eq(cJSON_GetObjectItem(row, "verdict")->valuestring, "met");
    cr_assert(cJSON_IsNull(cJSON_GetObjectItem(row, "reason")));
    cJSON_Delete(perf.rows);
}
