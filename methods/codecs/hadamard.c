/* hadamard: rows turned by a normalised Walsh-Hadamard transform before the inner codec, and back
 * after it: outlying channels are spread over the row (QuaRot, Ashkboos et al., arXiv 2404.00456;
 * llama.cpp pull request 21038).
 *
 * Sylvester order, blocks of the largest power of two that divides the width of a head's row (of a
 * latent's, where the inner codec has latents), each scaled by 1 / sqrt(block): heads are not mixed
 * where one object serves several. Fixed, so it costs no bytes; nothing happens to rows of odd
 * width. No parameters. A stage modifier rotate=hadamard means this codec around its stage.
 *
 * Departures: no sign flips (a constant row becomes one spike; turboquant has them). */
#include <math.h>
#include <string.h>

#include "methods/parts/wrapper.h"
#include "methods/spec/spec.h"

extern const struct kv_codec kv_codec_hadamard;

struct hadamard_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    uint32_t span;       /* of one transform */
    float factor, *rows; /* rows of one atom */
};

static void turn(const struct hadamard_code *self, float *x, uint32_t n)
{
    if (self->span < 2) return;
    self->kernels->hadamard(x, NULL, x, self->span, n / self->span);
    self->kernels->scale(x, n, self->factor);
}

static void turn_row(const struct kv_code *code, const float *row, float *turned)
{
    memcpy(turned, row, code->dim * sizeof *row);
    turn((const struct hadamard_code *)code, turned, code->dim);
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    return kv_fit_inner(code, ((struct hadamard_code *)code)->inner, sample, turn_row, KV_MAP_TURN,
                        err);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct hadamard_code *self = (struct hadamard_code *)code;
    const size_t n = (size_t)code->block * code->dim;
    memcpy(self->rows, rows, n * sizeof *rows);
    turn(self, self->rows, (uint32_t)n);
    self->inner->type->encode(self->inner, self->rows, atom);
}

/* Whole transforms are decoded and turned; of the first and the last only some columns are wanted.
 */
static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct hadamard_code *self = (const struct hadamard_code *)code;
    const uint32_t first = first_column / self->span * self->span;
    const uint32_t end = (first_column + n_columns + self->span - 1) / self->span * self->span;
    const uint32_t width = end - first, skip = first_column - first;
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, first, width,
                                  self->rows);
        turn(self, self->rows, code->block * width);
        for (uint32_t t = 0; t < code->block; t++)
            memcpy(out + ((size_t)a * code->block + t) * n_columns,
                   self->rows + (size_t)t * width + skip, n_columns * sizeof *out);
    }
}

/* Without the way back: the inner codec's rows as they are. The transform is its own inverse. */

static uint32_t turned_columns(const struct kv_code *code, enum kv_side side)
{
    (void)side;
    return ((const struct hadamard_code *)code)->span < 2 ? 0 : code->dim;
}

static void decode_turned(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                          float *out)
{
    const struct kv_code *inner = ((const struct hadamard_code *)code)->inner;
    inner->type->decode(inner, atoms, n_atoms, 0, code->dim, out);
}

static void turn_query(const struct kv_code *code, uint32_t lane, uint32_t token,
                       const float *query, float *turned)
{
    (void)lane, (void)token;
    turn_row(code, query, turned);
}

static void turn_output(const struct kv_code *code, uint32_t lane, const float *turned,
                        float *output)
{
    float *row = ((const struct hadamard_code *)code)->rows;
    (void)lane;
    turn_row(code, turned, row);
    for (uint32_t c = 0; c < code->dim; c++) output[c] += row[c];
}

static const struct kv_turn turned = {.columns = turned_columns,
                                      .decode_turned = decode_turned,
                                      .query = turn_query,
                                      .output = turn_output};

/* The face of an object whose inner codec is fitted: without one the cache need not gather rows. */
static const struct kv_codec fitted = {.name = "hadamard",
                                       .traits = KV_LEAVES_ROWS,
                                       .fit = fit,
                                       .encode = encode,
                                       .decode = decode,
                                       .used = kv_wrapped_used,
                                       .turn = &turned};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct hadamard_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "hadamard: no memory");
    for (const struct kv_stage *rest = setup->rest; rest; rest = rest->rest)
        if (rest->codec->layer_stores)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "hadamard: turned rows mix the layers that %s tells apart",
                           rest->codec->name);
    const int status = kv_create_code(&self->inner, setup->rest, setup, setup->dim, err);
    if (status) return status;
    self->kernels = setup->kernels;
    const uint32_t width = setup->dim / kv_lanes_in_row(setup);
    self->span = width & -width;
    while (self->span > 4096) self->span /= 2; /* the kernel's largest */
    self->factor = (float)(1.0 / sqrt(self->span));
    self->code = kv_wrap_code(self->inner->type->fit ? &fitted : &kv_codec_hadamard, setup->dim,
                              self->inner);
    self->rows = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                 (size_t)self->code.block * setup->dim * sizeof(float));
    if (!self->rows) return kv_fail(err, KV_EMEMORY, "hadamard: no memory for its rows");
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_hadamard = {
    .name = "hadamard",
    .summary = "turns rows by a Hadamard transform around the inner codec",
    .paper = "QuaRot (Ashkboos et al., arXiv 2404.00456)",
    .traits = KV_LEAVES_ROWS | KV_WRAPS,
    .create = create,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used,
    .turn = &turned};
