/* Codecs that join heads and layers: worked by hand, projector identities, and the bytes of a whole
 * model (methods-arch.md section 2.7: SmolLM2-135M, 30 layers of 3 KV heads of 64, 2048 tokens). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/rng.h"
#include "methods/cache/cache.h"

enum { LAYERS = 30, TOKENS = 2048, HEADS = 3, WIDTH = 64, PROMPT_WINDOW = 32 };

struct object { /* a codec of some heads and layers, and a row there and back */
    struct kv_pool *pool;
    struct kv_spec_list specs;
    struct kv_kernels kernels;
    struct kv_code *code;
    struct kv_geometry geometry;
    const struct kv_geometry *layers[4];
    double inv_freq[4];
};

static int create_object(struct object *o, const char *spec, uint32_t heads, uint32_t layers,
                         uint32_t width, enum kv_side side, struct kv_error *err)
{
    *o = (struct object){.pool = kv_pool_create(0), .inv_freq = {1, 1, 1, 1}};
    cr_assert_eq(kv_kernels_fill(&o->kernels, "generic", err), KV_OK);
    cr_assert_eq(kv_spec_parse(&o->specs, spec, err), KV_OK, "%s", err->text);
    o->geometry = (struct kv_geometry){.layer = 8,
                                       .model_layers = 12,
                                       .q_heads = heads,
                                       .kv_heads = heads,
                                       .group = 1,
                                       .key_dim = width,
                                       .value_dim = width,
                                       .tokens = 64,
                                       .prefill = 32,
                                       .element_bits = 16,
                                       .scale = 1,
                                       .rope = {KV_ROPE_HALF, width / 2 * 2, 1, o->inv_freq}};
    for (int l = 0; l < 4; l++) o->layers[l] = &o->geometry;
    const struct kv_setup setup = {.geometry = &o->geometry,
                                   .kernels = &o->kernels,
                                   .pool = o->pool,
                                   .seed = 1,
                                   .n_heads = heads,
                                   .n_layers = layers,
                                   .layers = o->layers,
                                   .side = side};
    return kv_create_code(&o->code, kv_chain(&o->specs.specs[0].caches[0], side), &setup,
                          heads * layers * width, err);
}

static void open_object(struct object *o, const char *spec, uint32_t heads, uint32_t layers,
                        uint32_t width, enum kv_side side)
{
    struct kv_error err;
    const int status = create_object(o, spec, heads, layers, width, side, &err);
    cr_assert_eq(status, KV_OK, "%s", err.text);
}

static void close_object(struct object *o)
{
    kv_spec_free(&o->specs);
    kv_pool_destroy(o->pool);
}

static void fit_object(struct object *o, const float *rows, uint32_t n, const float *queries)
{
    struct kv_error err;
    const struct kv_sample sample = {
        .n = n, .rows = rows, .queries = queries, .n_queries = queries ? n : 0};
    if (o->code->type->fit)
        cr_assert_eq(o->code->type->fit(o->code, &sample, &err), KV_OK, "%s", err.text);
}

static uint32_t expect_row(struct object *o, const float *row, const double *want, double tolerance)
{
    uint8_t atom[512];
    float out[16], column;
    o->code->type->encode(o->code, row, atom);
    o->code->type->decode(o->code, atom, 1, 0, o->code->dim, out);
    for (uint32_t c = 0; c < o->code->dim; c++) {
        cr_expect_float_eq(out[c], want[c], tolerance, "column %u: %g, expected %g", c, out[c],
                           want[c]);
        o->code->type->decode(o->code, atom, 1, c, 1, &column);
        cr_expect_float_eq(column, out[c], 1e-6);
    }
    return o->code->type->used ? o->code->type->used(o->code, atom) : o->code->metadata_bytes;
}

/* Two heads, one left: the mean of (1 2) and (3 -4). */
Test(structure, gqa_pools_by_the_mean)
{
    struct object o;
    open_object(&o, "gqa:heads=1", 2, 1, 2, KV_VALUES);
    expect_row(&o, (const float[]){1, 2, 3, -4}, (const double[]){2, -1, 2, -1}, 1e-3);
    cr_expect_eq(o.code->payload_bytes, 4);
    close_object(&o);
}

/* The second head is the first, turned by a quarter: (x, y) -> (-y, x). Once turned back the two
 * are one: nothing is lost. Keys have one pair here, values turn freely. */
Test(structure, gqa_aligned_heads_lose_nothing)
{
    const float rows[] = {1, 2, -2, 1, 3, -1, 1, 3, 0, 2, -2, 0};
    for (int side = KV_KEYS; side <= KV_VALUES; side++) {
        struct object o;
        open_object(&o, "gqa:heads=1:align=procrustes", 2, 1, 2, side);
        fit_object(&o, rows, 3, NULL);
        expect_row(&o, (const float[]){5, 7, -7, 5}, (const double[]){5, 7, -7, 5}, 1e-2);
        cr_expect_eq(kv_pool_used(o.pool, KV_BASIS_ONLINE), side == KV_KEYS ? 4 : 8);
        close_object(&o);
    }
}

/* (1 0) and (0 2): W = 90 degrees, t = 1/2: e = (1 1) / sqrt 2. The same rows, retained. */
Test(structure, minicache_shares_a_direction)
{
    struct object o;
    const float row[] = {1, 0, 0, 2};
    const double r = sqrt(0.5);
    open_object(&o, "minicache:t=0.5:retained=0", 1, 2, 2, KV_KEYS);
    fit_object(&o, row, 1, NULL);
    cr_expect_eq(expect_row(&o, row, (const double[]){r, r, 2 * r, 2 * r}, 1e-3), 8);
    cr_expect_eq(o.code->payload_bytes, 4);
    close_object(&o);
    open_object(&o, "minicache:t=0.5:retained=1", 1, 2, 2, KV_KEYS);
    fit_object(&o, row, 1, NULL);
    cr_expect_eq(expect_row(&o, row, (const double[]){1, 0, 0, 2}, 0), 8 + 8 + 4);
    close_object(&o);
}

/* t = 0 gives the first layer's direction, t = 1 the second's; norms are the rows' own. */
Test(structure, minicache_ends_are_the_layers)
{
    for (int t = 0; t < 2; t++) {
        struct object o;
        char spec[64];
        const float row[] = {3, 4, 0, -2};
        const double ends[2][4] = {{3, 4, 1.2, 1.6}, {0, -5, 0, -2}};
        snprintf(spec, sizeof spec, "minicache:t=%d:retained=0", t);
        open_object(&o, spec, 1, 2, 2, KV_VALUES);
        fit_object(&o, row, 1, NULL);
        expect_row(&o, row, ends[t], 3e-3);
        close_object(&o);
    }
}

/* Four layers of one number each, in prompt order: 0 1 5 7. Distances: 1-0 1, 2-0 5, 2-1 4, 3-0 7,
 * 3-1 6, 3-2 2. Most unlike: 3 reads 0, 2 reads 0. Most alike: 1 reads 0; 3 reads 2. */
Test(structure, layer_share_chooses_by_distance)
{
    const float row[] = {0, 1, 5, 7}, next[] = {1, 2, 3, 4};
    struct object o;
    open_object(&o, "k.layer-share:shared=2", 1, 4, 1, KV_KEYS);
    fit_object(&o, row, 1, NULL);
    expect_row(&o, next, (const double[]){1, 2, 1, 1}, 0);
    cr_expect_eq(o.code->payload_bytes, 4);
    cr_expect_eq(kv_pool_used(o.pool, KV_BASIS_ONLINE), 8);
    for (uint32_t l = 0; l < 4; l++) cr_expect_eq(o.code->type->layer_stores(o.code, l), l < 2);
    close_object(&o);
    open_object(&o, "k.layer-share:shared=2:choose=similar", 1, 4, 1, KV_KEYS);
    fit_object(&o, row, 1, NULL);
    expect_row(&o, next, (const double[]){1, 1, 3, 3}, 0);
    close_object(&o);
}

/* Most alike with three to share: 1 reads 0, 3 reads 2, then 2 reads 1 (4), which is 0's row: so
 * does 3, that read 2. */
Test(structure, layer_share_readers_follow_whom_they_read)
{
    struct object o;
    open_object(&o, "k.layer-share:shared=3:choose=similar", 1, 4, 1, KV_KEYS);
    fit_object(&o, (const float[]){0, 1, 5, 7}, 1, NULL);
    expect_row(&o, (const float[]){1, 2, 3, 4}, (const double[]){1, 1, 1, 1}, 0);
    cr_expect_eq(o.code->payload_bytes, 2);
    close_object(&o);
}

struct bad_map {
    const char *map, *reason;
};

/* Of a model of 12 layers; layers 8 to 11 are there. */
Test(structure, layer_share_maps_that_cannot_be)
{
    static const struct bad_map bad[] = {
        {"0-1-2-3-4-5-6-7-8-9-11-10", "a cycle: from layer 10 on none stores its own rows"},
        {"1-2-0-3-4-5-6-7-8-9-10-11", "a cycle: from layer 0 on"},
        {"0-1-2-3-4-5-6-7-8-10-10-11", "layer 9 reads layer 10, which comes after it"},
        {"0-1-2-3-4-5-6-7-8-8-10", "a hole: layer 11 of the model has no entry"},
        {"0-1-2-3-4-5-6-7-8-8-10-12", "a hole: layer 11 reads layer 12, which has no entry"},
        {"0-1-2-3-4-5-6-7-8-8-10-11-12", "13 entries for a model of 12 layers"},
        {"0-1-2-3-4-5-6-7-8-8-10-6", "layer 11 reads layer 6, which is not stored beside it"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct object o;
        struct kv_error err = {{0}};
        char spec[96];
        open_object(&o, "f16", 1, 4, 1, KV_KEYS);
        kv_spec_free(&o.specs);
        snprintf(spec, sizeof spec, "k.layer-share:map=%s", bad[i].map);
        cr_assert_eq(kv_spec_parse(&o.specs, spec, &err), KV_OK, "%s", err.text);
        struct kv_geometry layers[4];
        for (uint32_t l = 0; l < 4; l++) {
            layers[l] = o.geometry, layers[l].layer = 8 + l;
            o.layers[l] = &layers[l];
        }
        const struct kv_setup setup = {.geometry = layers,
                                       .kernels = &o.kernels,
                                       .pool = o.pool,
                                       .n_heads = 1,
                                       .n_layers = 4,
                                       .layers = o.layers,
                                       .side = KV_KEYS};
        struct kv_code *code;
        cr_expect_eq(kv_create_code(&code, o.specs.specs[0].caches[0].codec, &setup, 4, &err),
                     KV_EUNSUPPORTED, "%s", bad[i].map);
        cr_expect_neq(strstr(err.text, bad[i].reason), NULL, "%s: %s", bad[i].map, err.text);
        close_object(&o);
    }
}

/* Keys (1 2 1) throughout, queries (3 1 0): scores 9, 4, 0: a third dropped is the last channel. */
Test(structure, think_drops_what_queries_use_least)
{
    struct object o;
    float rows[40 * 3], queries[40 * 3];
    for (int i = 0; i < 40; i++)
        memcpy(rows + 3 * i, (const float[]){1, 2, 1}, 12),
            memcpy(queries + 3 * i, (const float[]){3, 1, 0}, 12);
    open_object(&o, "think:ratio=0.34", 1, 1, 3, KV_KEYS);
    fit_object(&o, rows, 40, queries);
    expect_row(&o, (const float[]){5, 6, 7}, (const double[]){5, 6, 0}, 0);
    cr_expect_eq(o.code->payload_bytes, 4);
    cr_expect_eq(o.code->tiers.recent, PROMPT_WINDOW);
    close_object(&o);
}

/* fmax would do, but the aarch64 gcc 12 crashes on its reductions. */
/* Eight heads of 2 columns: 12 latents of all of them are one group to palu, and nothing to pool. */
Test(structure, latents_are_no_heads)
{
    struct object o;
    struct kv_error err;
    open_object(&o, "svd:rank=12+palu:rank=3", 8, 1, 2, KV_VALUES);
    cr_expect_eq(o.code->payload_bytes, 2 * 3);
    close_object(&o);
    cr_expect_eq(create_object(&o, "svd:rank=12+gqa", 8, 1, 2, KV_VALUES, &err), KV_EUNSUPPORTED);
    cr_expect_str_eq(err.text, "gqa: expected rows of heads, found latents, which are no head's");
    close_object(&o);
}

static void raise_to(double *largest, double value)
{
    if (value > *largest) *largest = value;
}

/* Latents of latents are the latents (idempotent), at every rank; full rank gives rows back. */
Test(structure, maps_are_projections)
{
    static const char *const methods[] = {"svd", "palu", "xkv", "kq-svd", "autoencoder"};
    enum { N = 48, DIM = 12 };
    float rows[N * DIM], queries[N * DIM], once[DIM], twice[DIM];
    struct kv_rng rng = kv_rng_stream(6, 1, 2, 3);
    for (int i = 0; i < N * DIM; i++)
        rows[i] = (float)kv_rng_normal(&rng), queries[i] = (float)kv_rng_normal(&rng);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
        for (uint32_t rank = 3; rank <= DIM; rank += 3) {
            struct object o;
            char spec[64];
            uint8_t atom[128];
            double error = 0, lost = 0;
            snprintf(spec, sizeof spec, "%s:rank=%u+f32", methods[m], rank);
            open_object(&o, spec, 1, 1, DIM, KV_KEYS);
            fit_object(&o, rows, N, queries);
            for (int i = 0; i < N; i++) {
                o.code->type->encode(o.code, rows + i * DIM, atom);
                o.code->type->decode(o.code, atom, 1, 0, DIM, once);
                o.code->type->encode(o.code, once, atom);
                o.code->type->decode(o.code, atom, 1, 0, DIM, twice);
                for (int c = 0; c < DIM; c++)
                    raise_to(&error, fabs(twice[c] - once[c])),
                        raise_to(&lost, fabs(once[c] - rows[i * DIM + c]));
            }
            cr_expect_lt(error, 2e-2, "%s: %g", spec, error);
            cr_expect(rank == DIM ? lost < 2e-2 : lost > 0.1, "%s: %g", spec, lost);
            close_object(&o);
        }
}

/* -- bytes of the model ----------------------------------------------------------------------- */

struct sum {
    int64_t resident, basis, shared;
};

/* A group of n layers of zeros (their bytes do not hang on what is in them). */
static void count_group(const char *spec, uint32_t first, uint32_t n, uint32_t prefill,
                        struct sum *sum)
{
    static uint16_t zeros[(size_t)HEADS * TOKENS * WIDTH];
    static int32_t positions[TOKENS];
    struct kv_geometry geometry[4];
    struct kv_cache_plan plans[4] = {{{0}}};
    struct kv_cache *caches[4];
    struct kv_kernels kernels;
    struct kv_spec_list specs;
    struct kv_error err;
    struct kv_pool *pool = kv_pool_create(0);
    const struct kv_tensor rows = {KV_F16, HEADS, TOKENS, WIDTH, WIDTH, zeros};
    cr_assert_eq(kv_kernels_fill(&kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(&specs, spec, &err), KV_OK, "%s", err.text);
    for (uint32_t l = 0; l < n; l++) {
        geometry[l] = (struct kv_geometry){.layer = first + l,
                                           .model_layers = LAYERS,
                                           .q_heads = HEADS,
                                           .kv_heads = HEADS,
                                           .group = 1,
                                           .key_dim = WIDTH,
                                           .value_dim = WIDTH,
                                           .tokens = TOKENS,
                                           .prefill = prefill,
                                           .element_bits = 16,
                                           .scale = 1,
                                           .positions = positions};
        plans[l] = (struct kv_cache_plan){
            .source = {.geometry = &geometry[l], .keys = &rows, .values = &rows, .queries = &rows},
            .spec = specs.specs[0].caches,
            .kernels = &kernels,
            .pool = pool,
            .n_heads = HEADS,
            .seed = 1};
    }
    cr_assert_eq(kv_cache_create_group(caches, plans, n, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_cache_prefill(caches[0], &err), KV_OK);
    for (uint32_t t = prefill; t < TOKENS; t++)
        kv_cache_begin(caches[0], t, NULL), kv_cache_end(caches[0], t, NULL);
    for (uint32_t l = 0; l < n; l++) {
        const struct kv_cache_bytes bytes = kv_cache_count(caches[l]);
        for (int s = 0; s < 2; s++) {
            sum->resident += bytes.payload[s] + bytes.metadata[s] + bytes.residual[s];
            sum->basis += bytes.basis[s];
        }
    }
    kv_spec_free(&specs);
    kv_pool_destroy(pool);
}

/* What the layers of one kind come to: `times` groups like it. */
static void add_groups(const char *spec, uint32_t first, uint32_t n, uint32_t times,
                       struct sum *sum)
{
    struct sum one = {0};
    count_group(spec, first, n, TOKENS - 1, &one);
    sum->resident += times * one.resident, sum->basis += times * one.basis;
}

static void expect_bytes(const char *what, const struct sum *sum, int64_t resident, int64_t basis)
{
    cr_expect_eq(sum->resident, resident, "%s: %lld bytes, expected %lld", what,
                 (long long)sum->resident, (long long)resident);
    cr_expect_eq(sum->basis, basis, "%s: a basis of %lld, expected %lld", what,
                 (long long)sum->basis, (long long)basis);
}

Test(structure, bytes_of_low_rank, .timeout = 600)
{
    static const struct {
        const char *spec;
        int64_t resident, basis;
    } cases[] = {{"palu:group_heads=1:rank=32", 23592960, 737280},
                 {"palu:rank=96", 23592960, 2211840},
                 {"palu:rank=136+int:bits=3:group_size=136", 6758400, 3133440},
                 {"palu:rank=96+int:bits=2:group_size=96", 3440640, 2211840}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sum sum = {0};
        add_groups(cases[i].spec, 0, 1, LAYERS, &sum);
        expect_bytes(cases[i].spec, &sum, cases[i].resident, cases[i].basis);
    }
}

/* Seven groups of four layers and one of two. The table has all 2048 tokens in the prompt; the one
 * that is decoded here stays exact: 2 * 768 bytes instead of 480 a group of four, 768 instead of
 * 240. */
Test(structure, bytes_of_joined_layers, .timeout = 600)
{
    struct sum sum = {0};
    add_groups("xkv-4", 0, 4, 7, &sum);
    add_groups("xkv-4", 28, 2, 1, &sum);
    const int64_t exact = 7 * (4 * 768 - 480) + (2 * 768 - 240);
    expect_bytes("xkv-4", &sum, 7372800 + exact, 2672640);
}

/* Fifteen layers as they are, seven pairs, and layer 29 alone. */
Test(structure, bytes_of_pairs, .timeout = 600)
{
    struct sum sum = {0};
    add_groups("minicache:retained=0", 0, 1, 15, &sum);
    add_groups("minicache:retained=0", 15, 2, 7, &sum);
    add_groups("minicache:retained=0", 29, 1, 1, &sum);
    expect_bytes("minicache", &sum, 36864000, 0);
}

Test(structure, bytes_of_heads_channels_and_windows, .timeout = 600)
{
    struct sum think = {0}, mqa = {0}, window = {0};
    add_groups("think", 0, 1, LAYERS, &think);
    think.resident += think.basis, think.basis = 0; /* the table counts the mask among them */
    expect_bytes("think", &think, 38114640, 0);
    add_groups("gqa:heads=1", 0, 1, LAYERS, &mqa);
    expect_bytes("mqa", &mqa, 15728640, 0);
    add_groups("interleave:budget=512", 0, 1, 25, &window);
    add_groups("interleave:budget=512", 5, 1, 5, &window);
    expect_bytes("interleave", &window, 17694720, 0);
}
