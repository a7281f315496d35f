/* The bottom layer: halves, random numbers, counted memory. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "harness/base/half.h"
#include "harness/base/pool.h"
#include "harness/base/rng.h"

Test(half, every_half_survives_the_round_trip)
{
    for (uint32_t word = 0; word < 65536; word++) {
        const float value = kv_half_to_float((uint16_t)word);
        if (isnan(value)) cr_assert(isnan(kv_half_to_float(kv_float_to_half(value))));
        else cr_assert_eq(kv_float_to_half(value), word, "%04x", word);
    }
}

Test(half, ties_go_to_the_even_neighbour)
{
    cr_assert_eq(kv_float_to_half(2049.0f), 0x6800);           /* 2048 | 2050 */
    cr_assert_eq(kv_float_to_half(2051.0f), 0x6802);
    cr_assert_eq(kv_float_to_half(65519.996f), 0x7bff);
    cr_assert_eq(kv_float_to_half(65520.0f), 0x7c00);
    cr_assert_eq(kv_float_to_half(0x1p-25f), 0);               /* half of the smallest subnormal */
    cr_assert_eq(kv_float_to_half(0x1.8p-24f), 2);
    cr_assert_eq(kv_float_to_half(-0x1.000002p-25f), 0x8001);
}

Test(bfloat, rounds_to_even_and_keeps_nan)
{
    cr_assert_eq(kv_float_to_bfloat(0x1.01p0f), 0x3f80);
    cr_assert_eq(kv_float_to_bfloat(0x1.03p0f), 0x3f82);
    cr_assert(isnan(kv_bfloat_to_float(kv_float_to_bfloat(NAN))));
}

Test(philox, gives_the_published_vectors)
{
    /* Random123 kat_vectors, philox4x32 10: zeros, and the digits of pi. */
    uint32_t out[4];
    kv_philox((uint32_t[2]){0, 0}, (uint32_t[4]){0, 0, 0, 0}, out);
    cr_assert_eq(out[0], 0x6627e8d5);
    cr_assert_eq(out[1], 0xe169c58d);
    cr_assert_eq(out[2], 0xbc57ac4c);
    cr_assert_eq(out[3], 0x9b00dbd8);
    kv_philox((uint32_t[2]){0xa4093822, 0x299f31d0},
              (uint32_t[4]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, out);
    cr_assert_eq(out[0], 0xd16cfe09);
    cr_assert_eq(out[1], 0x94fdcceb);
    cr_assert_eq(out[2], 0x5001e420);
    cr_assert_eq(out[3], 0x24126ea1);
}

Test(rng, normals_have_unit_variance_and_kurtosis_three)
{
    struct kv_rng rng = kv_rng_stream(7, 1, 2, 3);
    double sum = 0, square = 0, fourth = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        const double x = kv_rng_normal(&rng);
        sum += x, square += x * x, fourth += x * x * x * x;
    }
    /* Five standard errors: 1/sqrt(n), sqrt(2/n), sqrt(96/n). */
    cr_assert_float_eq(sum / n, 0.0, 5 * sqrt(1.0 / n));
    cr_assert_float_eq(square / n, 1.0, 5 * sqrt(2.0 / n));
    cr_assert_float_eq(fourth / n, 3.0, 5 * sqrt(96.0 / n));
}

Test(pool, counts_what_was_asked_and_remembers_the_peak)
{
    struct kv_pool *pool = kv_pool_create(0);
    cr_assert_not_null(kv_pool_reserve(pool, KV_PAYLOAD, 100));
    kv_pool_charge(pool, KV_PAYLOAD, 28);
    kv_pool_charge(pool, KV_PAYLOAD, -100);
    cr_assert_eq(kv_pool_used(pool, KV_PAYLOAD), 28);
    cr_assert_eq(kv_pool_peak(pool, KV_PAYLOAD), 128);
    cr_assert_eq(kv_pool_used(pool, KV_METADATA), 0);
    kv_pool_destroy(pool);
}

Test(pool, an_emptied_one_counts_anew_and_gives_zeroed_memory_again)
{
    struct kv_pool *pool = kv_pool_create(0);
    unsigned char *before = kv_pool_reserve(pool, KV_PAYLOAD, 3000);
    cr_assert_not_null(before);
    memset(before, 0x5c, 3000);
    cr_assert_not_null(kv_pool_take(pool, 1 << 20));
    kv_pool_empty(pool);
    cr_expect_eq(kv_pool_used(pool, KV_PAYLOAD), 0);
    cr_expect_eq(kv_pool_peak(pool, KV_PAYLOAD), 0);
    cr_expect_eq(kv_pool_reserved(pool), 0);
    const unsigned char *again = kv_pool_take(pool, 3000);
    cr_assert_eq(again, before);
    for (int i = 0; i < 3000; i++) cr_assert_eq(again[i], 0);
    cr_assert_not_null(kv_pool_take(pool, 3 << 20));
    kv_pool_destroy(pool);
}

Test(pool, reservation_past_the_limit_fails_and_changes_nothing)
{
    struct kv_pool *pool = kv_pool_create(256);
    cr_assert_not_null(kv_pool_reserve(pool, KV_PAYLOAD, 192));
    cr_expect_null(kv_pool_reserve(pool, KV_PAYLOAD, 128));
    cr_expect_eq(kv_pool_used(pool, KV_PAYLOAD), 192);
    kv_pool_destroy(pool);
}
