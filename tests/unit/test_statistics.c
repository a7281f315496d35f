/* Ratios, quantiles, blocks and the bootstrap. */
#include <criterion/criterion.h>
#include <math.h>

#include "harness/base/rng.h"
#include "metrics/statistics.h"

Test(statistics, nothing_over_nothing_is_nothing)
{
    cr_expect_eq(kv_ratio(0, 0), 0.0);
    cr_expect_eq(kv_root_ratio(2.25, 0.25), 3.0);
    cr_expect(isnan(kv_ratio(2.385, 0)));
}

Test(statistics, quantiles_are_linear_between_neighbours)
{
    double values[] = {7.5, NAN, 2.5, 10.0, 5.0};
    cr_assert_eq(kv_gather_known(values, 5), 4);
    cr_expect_eq(kv_quantile(values, 4, 0.5), 6.25);
    cr_expect_float_eq(kv_quantile(values, 4, 0.95), 10.0 - 0.15 * 2.5, 1e-12);   /* 2.85 of 0..3 */
    cr_expect_eq(kv_quantile(values, 4, 1.0), 10.0);
    cr_expect(isnan(kv_quantile(values, 0, 0.5)));
}

static uint32_t blocks_of(const uint32_t *runs, uint32_t n_runs, uint32_t *last_first)
{
    uint32_t ends[2048];
    const uint32_t n = kv_cut_blocks(runs, n_runs, ends);
    *last_first = ends[0];
    return n;
}

Test(statistics, blocks_are_32_items_or_16_when_few)
{
    uint32_t first;
    cr_expect_eq(blocks_of((uint32_t[]){256}, 1, &first), 8);
    cr_expect_eq(first, 32);
    cr_expect_eq(blocks_of((uint32_t[]){64, 64}, 2, &first), 8);
    cr_expect_eq(first, 16);
    cr_expect_eq(blocks_of((uint32_t[]){39, 9}, 2, &first), 3);     /* 16, 23 and 9 */
    cr_expect_eq(blocks_of((uint32_t[]){5}, 1, &first), 1);
}

Test(statistics, eight_windows_are_the_blocks)
{
    uint32_t first;
    cr_expect_eq(blocks_of((uint32_t[]){64, 64, 64, 64, 64, 64, 64, 100}, 8, &first), 8);
    cr_expect_eq(first, 64);
}

Test(statistics, no_block_crosses_two_runs)
{
    const uint32_t runs[] = {50, 70, 33};
    uint32_t ends[153];
    const uint32_t n = kv_cut_blocks(runs, 3, ends);
    int found = 0;
    for (uint32_t block = 0; block < n; block++) found += ends[block] == 50 || ends[block] == 120;
    cr_expect_eq(found, 2);
    cr_expect_eq(ends[n - 1], 153);
}

Test(bootstrap, is_a_function_of_the_seed)
{
    double top[12], bottom[12], low[3], high[3];
    for (int i = 0; i < 12; i++) top[i] = 1 + i * i, bottom[i] = 10 + i;
    const struct kv_block_sums sums = {12, 1, top, bottom, false};
    cr_assert_eq(kv_bootstrap(&sums, 5, low, high), 0);
    cr_assert_eq(kv_bootstrap(&sums, 5, low + 1, high + 1), 0);
    cr_assert_eq(kv_bootstrap(&sums, 6, low + 2, high + 2), 0);
    cr_expect_eq(low[0], low[1]);
    cr_expect_eq(high[0], high[1]);
    cr_expect_neq(high[0], high[2]);
    cr_expect_lt(low[0], 518.0 / 186.0);                   /* sum of 1 + i^2 over sum of 10 + i */
    cr_expect_gt(high[0], 518.0 / 186.0);
}

Test(bootstrap, is_paired_a_scaled_method_has_a_scaled_interval)
{
    double top[16], doubled[16], ones[16], low[2], high[2];
    for (int i = 0; i < 16; i++) top[i] = sin(i) + 2, doubled[i] = 2 * top[i], ones[i] = 1;
    kv_bootstrap(&(struct kv_block_sums){16, 1, top, ones, false}, 9, low, high);
    kv_bootstrap(&(struct kv_block_sums){16, 1, doubled, ones, false}, 9, low + 1, high + 1);
    cr_expect_eq(low[1], 2 * low[0]);
    cr_expect_eq(high[1], 2 * high[0]);
}

Test(bootstrap, equal_blocks_have_no_width_and_one_block_no_interval)
{
    const double top[] = {2.25, 2.25, 2.25}, bottom[] = {4, 4, 4};
    double low, high;
    kv_bootstrap(&(struct kv_block_sums){3, 1, top, bottom, true}, 1, &low, &high);
    cr_expect_eq(low, 0.75);
    cr_expect_eq(high, 0.75);
    kv_bootstrap(&(struct kv_block_sums){1, 1, top, bottom, true}, 1, &low, &high);
    cr_expect(isnan(low) && isnan(high));
}

/* How often the interval holds the true mean, over 400 samples: 5 standard errors of 400 draws
 * at 0.95 are 0.054. Normal blocks: the expanded percentiles are made for them. */
static double coverage(uint32_t n_blocks, uint32_t salt)
{
    double top[64], ones[64], low, high;
    int held = 0;
    struct kv_rng rng = kv_rng_stream(2026, n_blocks, salt, 0);
    for (int sample = 0; sample < 400; sample++) {
        for (uint32_t b = 0; b < n_blocks; b++) top[b] = 3 + kv_rng_normal(&rng), ones[b] = 1;
        kv_bootstrap(&(struct kv_block_sums){n_blocks, 1, top, ones, false}, 1, &low, &high);
        held += low <= 3 && 3 <= high;
    }
    return held / 400.0;
}

Test(bootstrap, covers_the_truth_95_times_in_100)
{
    cr_expect_float_eq(coverage(8, 1), 0.95, 0.054, "%g", coverage(8, 1));
    cr_expect_float_eq(coverage(32, 1), 0.95, 0.054, "%g", coverage(32, 1));
}
