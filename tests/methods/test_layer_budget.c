/* How layers share a budget, worked by hand. */
#include <criterion/criterion.h>

#include "methods/layer_budget.h"

/* Rows of a layer of three, of a policy that evicts step by step over 15 tokens. */
static uint32_t rows(uint32_t kind, uint32_t layer, uint32_t average)
{
    const struct kv_trim trim = {.layer_budget = kind, .beta = 20};
    const struct kv_geometry geometry = {
        .tokens = 15, .prefill = 1, .layer = layer, .model_layers = 3};
    return kv_layer_budget(&trim, &geometry, NULL, average);
}

/* m = 6 / 20 = 0.3, M = 2 * 6 - 0.3 = 11.7, half to even: 12, 6, 0.3 -> 0. */
Test(layer_budget, no_layer_is_left_without_a_row)
{
    cr_expect_eq(rows(KV_LAYERS_PYRAMID_KVPRESS, 0, 6), 12);
    cr_expect_eq(rows(KV_LAYERS_PYRAMID_KVPRESS, 1, 6), 6);
    cr_expect_eq(rows(KV_LAYERS_PYRAMID_KVPRESS, 2, 6), 1);
}

/* m = 6 div 20 = 0, M = 12: 12, 6, 0; upside down from the other end. */
Test(layer_budget, both_ends_of_a_pyramid)
{
    cr_expect_eq(rows(KV_LAYERS_PYRAMID, 0, 6), 12);
    cr_expect_eq(rows(KV_LAYERS_PYRAMID, 2, 6), 1);
    cr_expect_eq(rows(KV_LAYERS_INVERTED, 0, 6), 1);
    cr_expect_eq(rows(KV_LAYERS_INVERTED, 2, 6), 12);
}

Test(layer_budget, nothing_stays_nothing)
{
    cr_expect_eq(rows(KV_LAYERS_PYRAMID, 0, 0), 0);
}
