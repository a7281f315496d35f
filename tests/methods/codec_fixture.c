#include "tests/methods/codec_fixture.h"

#include <stdlib.h>
#include <string.h>

int try_codec(struct fixture *fixture, const char *spec, uint32_t dim, enum kv_side side,
              const char *isa)
{
    *fixture = (struct fixture){.pool = kv_pool_create(0)};
    fixture->geometry = (struct kv_geometry){.model_layers = 1,
                                             .q_heads = 1,
                                             .kv_heads = 1,
                                             .group = 1,
                                             .key_dim = dim,
                                             .value_dim = dim,
                                             .tokens = 64,
                                             .prefill = 32,
                                             .element_bits = 16,
                                             .scale = 1};
    cr_assert_eq(kv_kernels_fill(&fixture->kernels, isa, &fixture->err), KV_OK);
    const struct kv_stage *stage = NULL;
    if (spec[0]) {
        const int status = kv_spec_parse(&fixture->specs, spec, &fixture->err);
        cr_assert_eq(status, KV_OK, "%s: %s", spec, fixture->err.text);
        stage = fixture->specs.specs[0].caches[0].codec;
    }
    const struct kv_setup setup = {.geometry = &fixture->geometry,
                                   .kernels = &fixture->kernels,
                                   .pool = fixture->pool,
                                   .seed = 5,
                                   .n_heads = 1,
                                   .dim = dim,
                                   .side = side};
    return kv_create_code(&fixture->code, stage, &setup, dim, &fixture->err);
}

void open_codec(struct fixture *fixture, const char *spec, uint32_t dim, enum kv_side side)
{
    const int status = try_codec(fixture, spec, dim, side, "auto");
    cr_assert_eq(status, KV_OK, "%s: %s", spec, fixture->err.text);
}

void close_codec(struct fixture *fixture)
{
    kv_pool_destroy(fixture->pool);
    kv_spec_free(&fixture->specs);
}

void fit_codec(struct fixture *fixture, const float *rows, uint32_t n)
{
    enum { ENOUGH = 32 };
    if (!fixture->code->type->fit) return;
    const uint32_t times = n < ENOUGH ? (ENOUGH + n - 1) / n : 1;
    const size_t size = (size_t)n * fixture->code->dim;
    float *prompt = malloc(times * size * sizeof *prompt);
    for (uint32_t i = 0; i < times; i++) memcpy(prompt + i * size, rows, size * sizeof *prompt);
    const struct kv_sample sample = {.n = times * n, .rows = prompt};
    const int status = fixture->code->type->fit(fixture->code, &sample, &fixture->err);
    cr_assert_eq(status, KV_OK, "%s", fixture->err.text);
    free(prompt);
}

void fill_normal(float *values, size_t n, uint32_t stream)
{
    struct kv_rng rng = kv_rng_stream(11, stream, 0, 0);
    for (size_t i = 0; i < n; i++) values[i] = (float)kv_rng_normal(&rng);
}

void round_trip(struct fixture *fixture, const float *rows, uint32_t n, float *decoded)
{
    struct kv_code *code = fixture->code;
    uint8_t *atom = malloc(kv_atom_bytes(code));
    cr_assert_eq(n % code->block, 0);
    for (uint32_t i = 0; i < n; i += code->block) {
        code->type->encode(code, rows + (size_t)i * code->dim, atom);
        code->type->decode(code, atom, 1, 0, code->dim, decoded + (size_t)i * code->dim);
    }
    free(atom);
}

double nmse(const char *spec, uint32_t dim, enum kv_side side, uint32_t n)
{
    struct fixture fixture;
    const size_t size = (size_t)n * dim;
    float *rows = malloc(size * sizeof *rows), *decoded = malloc(size * sizeof *decoded);
    double error = 0, square = 0;
    open_codec(&fixture, spec, dim, side);
    fill_normal(rows, size, 1);
    fit_codec(&fixture, rows, n);
    round_trip(&fixture, rows, n, decoded);
    for (size_t i = 0; i < size; i++) {
        const double off = (double)decoded[i] - rows[i];
        error += off * off, square += (double)rows[i] * rows[i];
    }
    close_codec(&fixture);
    free(rows);
    free(decoded);
    return error / square;
}
