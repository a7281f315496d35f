/* The definition of exact attention: small cases by hand, masks, sinks, caps, views. */
#include <criterion/criterion.h>
#include <math.h>

#include "harness/base/half.h"
#include "metrics/exact.h"

static struct kv_tensor tensor_of(const float *data, uint32_t heads, uint32_t tokens, uint32_t dim)
{
    return (struct kv_tensor){KV_F32, heads, tokens, dim, dim, data};
}

/* Keys 0, ln 2, ln 3 under query 1: weights 1/6, 2/6, 3/6. */
static const float keys_123[] = {0.0f, 0.6931471805599453f, 1.0986122886681098f};
static const float ones[] = {1, 1, 1};
static const float values_123[] = {6.0f, 60.0f, 600.0f};

static struct kv_geometry one_head(void)
{
    return (struct kv_geometry){.q_heads = 1, .kv_heads = 1, .group = 1, .key_dim = 1,
                                .value_dim = 1, .tokens = 3, .scale = 1};
}

static double answer(const struct kv_geometry *geometry, uint32_t token, double *log_sum_exp,
                     double *weights)
{
    const struct kv_tensor q = tensor_of(ones, 1, 3, 1), k = tensor_of(keys_123, 1, 3, 1);
    const struct kv_tensor v = tensor_of(values_123, 1, 3, 1);
    double output, unread[3];
    kv_exact_answer(geometry, &q, &k, &v, 0, token, &output, log_sum_exp, weights ? weights : unread);
    return output;
}

/* Keys are rounded to float: 3e-8 each. */
static const double close = 1e-6;

Test(exact, worked_by_hand)
{
    const struct kv_geometry geometry = one_head();
    double log_sum_exp, weights[3];
    cr_expect_float_eq(answer(&geometry, 2, &log_sum_exp, weights), 321.0, 321 * close);
    cr_expect_float_eq(log_sum_exp, log(6), close);
    for (int j = 0; j < 3; j++) cr_expect_float_eq(weights[j], (j + 1) / 6.0, close);
}

Test(exact, sees_nothing_after_its_token)
{
    const struct kv_geometry geometry = one_head();
    double log_sum_exp;
    cr_expect_float_eq(answer(&geometry, 1, &log_sum_exp, NULL), 2.0 + 40.0, 42 * close);
    cr_expect_eq(answer(&geometry, 0, &log_sum_exp, NULL), 6.0);
    cr_expect_eq(log_sum_exp, 0.0);
}

Test(exact, window_of_two_sees_two)
{
    struct kv_geometry geometry = one_head();
    double log_sum_exp, weights[3];
    geometry.window = 2;
    cr_expect_float_eq(answer(&geometry, 2, &log_sum_exp, weights), 24.0 + 360.0, 384 * close);
    cr_expect_eq(weights[0], 0.0);
    cr_expect_float_eq(weights[1], 0.4, close);
}

Test(exact, sink_takes_mass_and_gives_nothing)
{
    struct kv_geometry geometry = one_head();
    const float sink = 1.791759469228055f;      /* ln 6: as much as the three keys together */
    double log_sum_exp, weights[3];
    geometry.sink_logits = &sink;
    cr_expect_float_eq(answer(&geometry, 2, &log_sum_exp, weights), 321.0 / 2, 321 * close);
    cr_expect_float_eq(log_sum_exp, log(12), close);
    cr_expect_float_eq(weights[0] + weights[1] + weights[2], 0.5, close);
}

Test(exact, softcap_bends_logits)
{
    struct kv_geometry geometry = one_head();
    double log_sum_exp;
    geometry.softcap = 0.5, geometry.scale = 3;
    answer(&geometry, 1, &log_sum_exp, NULL);
    cr_expect_float_eq(log_sum_exp, log(1 + exp(0.5 * tanh(3 * log(2) / 0.5))), close);
}

Test(exact, large_logits_neither_overflow_nor_vanish)
{
    struct kv_geometry geometry = one_head();
    double log_sum_exp;
    geometry.scale = 2000;
    cr_expect_float_eq(answer(&geometry, 2, &log_sum_exp, NULL), 600.0, 1e-9);
    cr_expect_float_eq(log_sum_exp, 2000 * log(3), 1e-3);   /* 2000 x 3e-8 of the key */
    geometry.scale = -2000;
    cr_expect_float_eq(answer(&geometry, 2, &log_sum_exp, NULL), 6.0, 1e-9);
}

Test(exact, groups_views_and_halves)
{
    /* 4 query heads on 2 KV heads, values the first of two key columns, in binary16. */
    uint16_t keys[2][2][2];
    float queries[4][2][2];
    for (int h = 0; h < 2; h++)
        for (int t = 0; t < 2; t++) {
            keys[h][t][0] = kv_float_to_half(1.0f + 10.0f * (float)h + (float)t);
            keys[h][t][1] = kv_float_to_half(0.0f);
        }
    for (int h = 0; h < 4; h++)
        for (int t = 0; t < 2; t++) queries[h][t][0] = 0, queries[h][t][1] = 5;
    const struct kv_geometry geometry = {.q_heads = 4, .kv_heads = 2, .group = 2, .key_dim = 2,
                                         .value_dim = 1, .tokens = 2, .scale = 1};
    const struct kv_tensor q = tensor_of(&queries[0][0][0], 4, 2, 2);
    const struct kv_tensor k = {KV_F16, 2, 2, 2, 2, keys}, v = {KV_F16, 2, 2, 1, 2, keys};
    const double expected[] = {1.5, 1.5, 11.5, 11.5};       /* equal weights: the mean */
    for (uint32_t head = 0; head < 4; head++) {
        double output, log_sum_exp, weights[2];
        kv_exact_answer(&geometry, &q, &k, &v, head, 1, &output, &log_sum_exp, weights);
        cr_expect_eq(output, expected[head]);
        cr_expect_float_eq(log_sum_exp, log(2), 1e-15);
    }
}
