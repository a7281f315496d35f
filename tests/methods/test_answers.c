/* Methods without rows, worked by hand. */
#include <criterion/criterion.h>

#include "methods/spec/spec.h"

struct head {
    struct kv_pool *pool;
    struct kv_spec_list specs;
    struct kv_kernels kernels;
    struct kv_geometry geometry;
    struct kv_state *state;
};

static void open_head(struct head *h, const char *spec, uint32_t window)
{
    struct kv_error err;
    *h = (struct head){.pool = kv_pool_create(0)};
    h->geometry = (struct kv_geometry){.q_heads = 1,
                                       .kv_heads = 1,
                                       .group = 1,
                                       .key_dim = 2,
                                       .value_dim = 1,
                                       .tokens = 8,
                                       .prefill = 4,
                                       .window = window,
                                       .element_bits = 16,
                                       .scale = 1};
    cr_assert_eq(kv_kernels_fill(&h->kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(&h->specs, spec, &err), KV_OK, "%s", err.text);
    const struct kv_stage *stage = h->specs.specs[0].caches[0].answer;
    const struct kv_setup setup = {.geometry = &h->geometry,
                                   .config = stage->config[0],
                                   .kernels = &h->kernels,
                                   .pool = h->pool,
                                   .n_heads = 1};
    cr_assert_eq(stage->answer->create(&h->state, &setup, &err), KV_OK, "%s", err.text);
    h->state->type = stage->answer;
}

static void close_head(struct head *h)
{
    kv_spec_free(&h->specs);
    kv_pool_destroy(h->pool);
}

static double answer_to(struct head *h, float a, float b)
{
    float output;
    h->state->type->answer(h->state, (const float[]){a, b}, &output);
    return (double)output;
}

/* elu(x) + 1: (0 1) -> (1 2), value 2; (1 -50) -> (2 0), value 5. A decay of a half:
 * S = (1 2) 2 / 2 + (2 0) 5 = (11 2), z = (1 2) / 2 + (2 0) = (2.5 1).
 * (0 0) -> (1 1): 13 / 3.5. (1 0) -> (2 1): 24 / 6. */
Test(answers, linear_state_by_hand)
{
    struct head h;
    open_head(&h, "linear-state:features=elu:sharpness=1:decay=0.5", 0);
    cr_expect_eq(answer_to(&h, 1, 1), 0);
    h.state->type->append(h.state, (const float[]){0, 1}, (const float[]){2});
    cr_expect_float_eq(answer_to(&h, 3, -3), 2, 1e-6);
    h.state->type->append(h.state, (const float[]){1, -50}, (const float[]){5});
    cr_expect_float_eq(answer_to(&h, 0, 0), 13 / 3.5, 1e-6);
    cr_expect_float_eq(answer_to(&h, 1, 0), 4, 1e-6);
    cr_expect_eq(kv_pool_used(h.pool, KV_PAYLOAD), 4 * 2);
    cr_expect_eq(kv_pool_used(h.pool, KV_METADATA), 4 * 2);
    cr_expect_eq(kv_pool_used(h.pool, KV_BASIS_ONLINE), 0);
    close_head(&h);
}

/* softmax of (ln 3, 0) = (3/4 1/4), of its negative (1/4 3/4); of (0 0) halves. Values 0 and 1, no
 * decay: the query (0 0) sees both alike; (ln 3 0): 10/16 + 10/16 with itself, 1/2 + 1/2 with the
 * zero row. */
Test(answers, linear_state_of_softmax_features)
{
    struct head h;
    const float ln3 = 1.0986123f;
    open_head(&h, "linear-state:sharpness=1:decay=1", 0);
    h.state->type->append(h.state, (const float[]){0, 0}, (const float[]){0});
    h.state->type->append(h.state, (const float[]){ln3, 0}, (const float[]){1});
    cr_expect_float_eq(answer_to(&h, 0, 0), 0.5, 1e-6);
    cr_expect_float_eq(answer_to(&h, ln3, 0), 1.25 / 2.25, 1e-6);
    cr_expect_eq(kv_pool_used(h.pool, KV_PAYLOAD), 4 * 4);
    close_head(&h);
}

/* Keys of zeros: exact attention is the mean of what is visible. All of it: no decay fits best. A
 * window of one row: the strongest decay, 3/4. Then 0 is followed by 1: 1 / (1 + g). */
Test(answers, linear_state_fits_its_decay)
{
    const float rows[] = {0, 0, 1, 0, 0, -1, 0, 0, 1, 0, 0, 2};
    const float queries[8] = {0};
    for (uint32_t window = 0; window < 2; window++) {
        struct head h;
        struct kv_error err;
        open_head(&h, "linear-state", window);
        const struct kv_sample sample = {.n = 4, .rows = rows, .queries = queries, .n_queries = 4};
        cr_assert_eq(h.state->type->fit(h.state, &sample, &err), KV_OK, "%s", err.text);
        h.state->type->append(h.state, (const float[]){0, 0}, (const float[]){0});
        h.state->type->append(h.state, (const float[]){0, 0}, (const float[]){1});
        cr_expect_float_eq(answer_to(&h, 0, 0), window ? 1 / 1.75 : 0.5, 1e-6);
        cr_expect_eq(kv_pool_used(h.pool, KV_BASIS_ONLINE), 8);
        close_head(&h);
    }
}
