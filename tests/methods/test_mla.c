/* Latent attention from heads: which scores the maps keep, and where nothing is lost
 * (methods-arch.md section 11: RoRoPE leaves scores unchanged; r = full is exact). */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "harness/base/rng.h"
#include "methods/cache/cache.h"

enum { TOKENS = 32, PROMPT = 28, WIDTH = 8, HEADS = 2, MOST = 64 };

struct latents { /* one object, keys and values in its rows */
    struct kv_pool *pool;
    struct kv_spec_list specs;
    struct kv_kernels kernels;
    struct kv_geometry geometry;
    struct kv_rotary rotary;
    struct kv_code *code;
    double inv_freq[WIDTH / 2];
    int32_t positions[TOKENS];
    uint32_t dim;
    float before[TOKENS * MOST], rows[TOKENS * MOST]; /* keys before rotation; as recorded */
};

static void open_latents(struct latents *l, const char *spec, uint32_t heads, bool values_in_keys)
{
    struct kv_error err;
    *l = (struct latents){.pool = kv_pool_create(0),
                          .dim = heads * (values_in_keys ? WIDTH : 2 * WIDTH)};
    cr_assert_eq(kv_kernels_fill(&l->kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(&l->specs, spec, &err), KV_OK, "%s", err.text);
    for (int i = 0; i < WIDTH / 2; i++)
        l->inv_freq[i] = values_in_keys && i < 3 ? 0 : pow(100, -i / 4.0);
    for (int t = 0; t < TOKENS; t++) l->positions[t] = t + 3;
    l->geometry = (struct kv_geometry){
        .model_layers = 1,
        .q_heads = heads,
        .kv_heads = heads,
        .group = 1,
        .key_dim = WIDTH,
        .value_dim = values_in_keys ? 6 : WIDTH,
        .values_in_keys = values_in_keys,
        .tokens = TOKENS,
        .prefill = PROMPT,
        .element_bits = 16,
        .scale = 1,
        .positions = l->positions,
        .rope = {values_in_keys ? KV_ROPE_INTERLEAVED : KV_ROPE_HALF, WIDTH, 1, l->inv_freq}};
    cr_assert(kv_rotary_create(&l->rotary, &l->geometry, l->pool));
    const struct kv_setup setup = {.geometry = &l->geometry,
                                   .kernels = &l->kernels,
                                   .pool = l->pool,
                                   .seed = 1,
                                   .n_heads = heads,
                                   .dim = l->dim,
                                   .side = values_in_keys ? KV_KEYS : KV_BOTH_SIDES};
    const int status = kv_create_code(&l->code, kv_chain(&l->specs.specs[0].caches[0], setup.side),
                                      &setup, l->dim, &err);
    cr_assert_eq(status, KV_OK, "%s", err.text);
}

static void close_latents(struct latents *l)
{
    kv_spec_free(&l->specs);
    kv_pool_destroy(l->pool);
}

/* Rotates the rows that are there, and fits on them. */
static void record_rows(struct latents *l)
{
    const uint32_t lane = l->geometry.values_in_keys ? WIDTH : 2 * WIDTH;
    uint32_t positions[TOKENS];
    struct kv_error err;
    memcpy(l->rows, l->before, sizeof l->rows);
    for (uint32_t t = 0; t < TOKENS; t++) {
        positions[t] = t;
        for (uint32_t h = 0; h < l->geometry.kv_heads; h++)
            kv_rotary_apply(&l->rotary, t, l->rows + t * l->dim + h * lane);
    }
    const struct kv_sample sample = {.n = PROMPT, .rows = l->before, .positions = positions};
    cr_assert_eq(l->code->type->fit(l->code, &sample, &err), KV_OK, "%s", err.text);
}

/* Rows of multiples of 1/16, so that halves hold them; `alike`: head 1 has twice the keys of head
 * 0. */
static void fill_rows(struct latents *l, bool alike)
{
    struct kv_rng rng = kv_rng_stream(7, 1, 2, 3);
    const uint32_t lane = l->geometry.values_in_keys ? WIDTH : 2 * WIDTH;
    for (uint32_t t = 0; t < TOKENS; t++) {
        float *row = l->before + t * l->dim;
        for (uint32_t c = 0; c < l->dim; c++) {
            const bool second = alike && c >= lane && c % lane < WIDTH;
            row[c] = second ? 2 * row[c - lane] : (float)rint(16 * kv_rng_normal(&rng)) / 16;
        }
    }
    record_rows(l);
}

/* What a row is read as. */
static void read_row(struct latents *l, uint32_t t, float *turned)
{
    uint8_t atom[4 * MOST];
    float row[MOST];
    l->code->type->turn->row(l->code, t, l->rows + t * l->dim, row);
    l->code->type->encode(l->code, row, atom);
    l->code->type->decode(l->code, atom, 1, 0, l->code->dim, turned);
}

static double score_error(struct latents *l, uint32_t lane, uint32_t i, uint32_t j)
{
    float query[WIDTH], turned_query[MOST], turned_key[MOST];
    struct kv_rng rng = kv_rng_stream(8, i, j, lane);
    const uint32_t stride = l->geometry.values_in_keys ? WIDTH : 2 * WIDTH;
    const float *key = l->rows + j * l->dim + lane * stride;
    double exact = 0, found = 0;
    for (uint32_t c = 0; c < WIDTH; c++) query[c] = (float)kv_rng_normal(&rng);
    kv_rotary_apply(&l->rotary, i, query);
    for (uint32_t c = 0; c < WIDTH; c++) exact += (double)query[c] * key[c];
    l->code->type->turn->query(l->code, lane, i, query, turned_query);
    read_row(l, j, turned_key);
    for (uint32_t c = 0; c < l->code->dim; c++) found += (double)turned_query[c] * turned_key[c];
    return fabs(found - exact);
}

static double worst_score(struct latents *l)
{
    double worst = 0;
    for (uint32_t lane = 0; lane < l->geometry.kv_heads; lane++)
        for (uint32_t i = 0; i < TOKENS; i++)
            for (uint32_t j = 0; j <= i; j++) {
                const double error = score_error(l, lane, i, j);
                worst = error > worst ? error : worst;
            }
    return worst;
}

static double worst_value(struct latents *l)
{
    double worst = 0;
    const uint32_t first = l->geometry.values_in_keys ? 0 : WIDTH, stride = first + WIDTH;
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t lane = 0; lane < l->geometry.kv_heads; lane++) {
            float turned[MOST], value[WIDTH] = {0};
            read_row(l, t, turned);
            l->code->type->turn->output(l->code, lane, turned, value);
            for (uint32_t c = 0; c < l->geometry.value_dim; c++) {
                const double error =
                    fabs((double)value[c] - l->rows[t * l->dim + lane * stride + first + c]);
                worst = error > worst ? error : worst;
            }
        }
    return worst;
}

/* Scores are sums of 8 products of numbers below 4, and 8; bases and latents are halves: 2^-11 of
 * each. */
static const double HALVES = 8 * 4 * 8 * 2 * 0x1p-11;

Test(mla, rotary_parts_of_all_heads_leave_scores_unchanged)
{
    struct latents l;
    open_latents(&l, "mla:rank=16:rope=16", HEADS, false);
    fill_rows(&l, false);
    cr_expect_lt(worst_score(&l), HALVES, "%g", worst_score(&l));
    cr_expect_lt(worst_value(&l), 4 * HALVES, "%g", worst_value(&l));
    close_latents(&l);
}

Test(mla, one_rotary_part_serves_heads_of_one_direction)
{
    struct latents l;
    open_latents(&l, "mla:rank=16:rope=1.0", HEADS, false);
    cr_expect_eq(l.code->payload_bytes, 2 * (16 + 8));
    fill_rows(&l, true);
    cr_expect_lt(worst_score(&l), HALVES, "%g", worst_score(&l));
    close_latents(&l);
}

Test(mla, a_rotation_that_is_dropped_is_felt)
{
    struct latents l;
    open_latents(&l, "mla:rank=24:rope=0.5", HEADS, false);
    fill_rows(&l, false);
    cr_expect_gt(worst_score(&l), HALVES);
    close_latents(&l);
}

Test(mla, columns_of_their_own_cost_no_basis)
{
    struct latents l;
    open_latents(&l, "mla:rank=1.0:rope=1.0+f32", 1, false);
    fill_rows(&l, false);
    cr_expect_eq(kv_pool_used(l.pool, KV_BASIS_ONLINE), 0);
    cr_expect_lt(worst_score(&l), 1e-5);
    cr_expect_eq(worst_value(&l), 0);
    close_latents(&l);
}

Test(mla, latents_that_are_recorded_stay)
{
    struct latents l;
    open_latents(&l, "mla+f32", 1, true);
    fill_rows(&l, false);
    for (uint32_t t = 0; t < TOKENS; t++) {
        float turned[MOST];
        read_row(&l, t, turned);
        for (uint32_t c = 0; c < WIDTH; c++) cr_expect_eq(turned[c], l.rows[t * WIDTH + c]);
    }
    cr_expect_eq(l.code->dim, WIDTH);
    cr_expect_eq(kv_pool_used(l.pool, KV_BASIS_ONLINE), 0);
    cr_expect_eq(worst_value(&l), 0);
    close_latents(&l);
}

/* Before the rotation only one column of the pair has anything in it: a basis of such rows would have one
 * direction. Both entries are below 4, read through a basis of halves and back. */
Test(mla, what_is_inside_is_fitted_on_rows_as_they_are_recorded)
{
    struct latents l;
    open_latents(&l, "mla+svd:rank=2+f32", 1, true);
    for (uint32_t t = 0; t < TOKENS; t++) l.before[t * WIDTH + 6] = (float)(t % 7) - 2.5f;
    record_rows(&l);
    for (uint32_t t = 0; t < TOKENS; t++) {
        float turned[MOST];
        read_row(&l, t, turned);
        for (uint32_t c = 0; c < WIDTH; c++)
            cr_expect_float_eq(turned[c], l.rows[t * WIDTH + c], 4 * 4 * 0x1p-11, "token %u column %u", t, c);
    }
    close_latents(&l);
}

Test(mla, rows_map_back)
{
    struct latents l;
    open_latents(&l, "mla:rank=28:rope=0.5:fold=4", HEADS, false);
    fill_rows(&l, false);
    for (uint32_t t = 0; t < TOKENS; t++) {
        float turned[MOST], row[MOST];
        read_row(&l, t, turned);
        l.code->type->turn->back(l.code, t, turned, row);
        for (uint32_t c = 0; c < l.dim; c++)
            cr_expect_float_eq(row[c], l.rows[t * l.dim + c], HALVES);
    }
    close_latents(&l);
}

Test(mla, shapes_that_do_not_part_are_refused)
{
    static const struct {
        const char *spec, *why;
    } cases[] = {{"mla:rope=3", "rope"},
                 {"mla:rope=6", "rope"},
                 {"mla:rope=32", "rope"},
                 {"mla:fold=3", "fold"},
                 {"svd:span=all+mla", "outermost"},
                 {"mla:rotate=hadamard", "outermost"},
                 {"mla:span=heads", "span=all"},
                 {"mla:rank=20+palu", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct latents l = {.pool = kv_pool_create(0)};
        struct kv_error err = {""};
        static const double inv_freq[4] = {1, 0.5, 0.25, 0.125};
        static const int32_t positions[TOKENS];
        kv_kernels_fill(&l.kernels, "generic", &err);
        cr_assert_eq(kv_spec_parse(&l.specs, cases[i].spec, &err), KV_OK, "%s", err.text);
        l.geometry = (struct kv_geometry){.q_heads = 2,
                                          .kv_heads = 2,
                                          .group = 1,
                                          .key_dim = 8,
                                          .value_dim = 8,
                                          .tokens = TOKENS,
                                          .prefill = PROMPT,
                                          .element_bits = 16,
                                          .positions = positions,
                                          .rope = {KV_ROPE_HALF, 8, 1, inv_freq}};
        const bool heads_only = strstr(cases[i].spec, "span=heads") != NULL;
        const struct kv_setup setup = {.geometry = &l.geometry,
                                       .kernels = &l.kernels,
                                       .pool = l.pool,
                                       .n_heads = 2,
                                       .side = heads_only ? KV_KEYS : KV_BOTH_SIDES};
        const int status = kv_create_code(&l.code, kv_chain(&l.specs.specs[0].caches[0], KV_KEYS),
                                          &setup, heads_only ? 16 : 32, &err);
        if (*cases[i].why) {
            cr_expect_eq(status, KV_EUNSUPPORTED, "%s", cases[i].spec);
            cr_expect(strstr(err.text, cases[i].why), "%s", err.text);
        } else
            cr_expect_eq(status, KV_OK, "%s", err.text);
        close_latents(&l);
    }
}
