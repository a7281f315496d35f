/* outliers: the values of largest magnitude of every row are kept apart, in 16 bits with their
 * index, and the inner codec stores the others: dense and sparse (KVQuant, Hooper et al., arXiv
 * 2401.18079, section 3.5; GEAR, Kang et al., arXiv 2403.05527, its filter before quantization).
 *
 *     n = round(share * dim), at least 1; S = the n largest |x[c]|, of equal ones the lower c
 *     inner row: x[c], but for c in S the mean of the values that are not in S
 *     x_hat[c] = f16(x[c]) for c in S, else the inner codec's
 *
 * Bytes: what the inner codec needs, and 4 a kept value: 2 payload, 2 metadata (index), stored
 * with ascending index behind the inner atom. A stage modifier outliers=SHARE means this codec
 * around its stage. A row is the object's: where one serves all heads of a layer (nvfp4,
 * fp8:scale=tensor, span=heads) the layer's largest values are kept, as KVQuant takes its vectors.
 *
 * Departures: KVQuant's cap is a fixed number from the top and the bottom, with thresholds per
 * vector, and GEAR takes as many from each end; here the larger magnitudes win, whatever their
 * sign. Both keep a channel's outliers for keys; here a row is a token's. A value beyond the
 * largest half becomes the largest half. */
#include <math.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_outliers;

struct config {
    double share;
};

static const struct kv_param params[] = {{"share", KV_PARAM_REAL, offsetof(struct config, share),
                                          0.01, 0, 0.5, NULL,
                                          "share of a row's values that is kept in 16 bits"},
                                         {0}};

struct outliers_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    uint32_t n;  /* kept values a row */
    float *rows; /* [block][dim] of one atom, as the inner codec sees them; behind them chosen_of */
};

/* [n] columns of the kept values of a row, ascending. */
static uint32_t *chosen_of(const struct outliers_code *self)
{
    return (uint32_t *)(void *)(self->rows + (size_t)self->code.block * self->code.dim);
}

/* The first column of this size; of sizes that are no numbers, the first that is not chosen. */
static uint32_t first_of(const float *sizes, uint32_t n, float size)
{
    enum { TOGETHER = 32 }; /* in vectors */
    uint32_t c = 0;
    for (; c + TOGETHER <= n; c += TOGETHER) {
        int found = 0;
        for (uint32_t i = 0; i < TOGETHER; i++) found |= sizes[c + i] == size;
        if (found) break;
    }
    for (; c < n; c++)
        if (sizes[c] == size) return c;
    for (c = 0; sizes[c] < 0;) c++;
    return c;
}

/* The largest of what is left, as often as values are kept: of equal ones the lower columns. sizes
 * [dim]: magnitudes of what is not chosen yet, else -1. */
static void choose(const struct outliers_code *self, const float *restrict row,
                   float *restrict sizes)
{
    const uint32_t dim = self->code.dim, n = self->n;
    uint32_t *chosen = chosen_of(self);
    for (uint32_t c = 0; c < dim; c++) sizes[c] = fabsf(row[c]);
    for (uint32_t i = 0; i < n; i++) {
        chosen[i] = first_of(sizes, dim, self->kernels->max(sizes, dim));
        sizes[chosen[i]] = -1;
    }
    for (uint32_t i = 1; i < n; i++) { /* by column */
        const uint32_t c = chosen[i];
        uint32_t at = i;
        for (; at > 0 && chosen[at - 1] > c; at--) chosen[at] = chosen[at - 1];
        chosen[at] = c;
    }
}

/* The row without its chosen values; also how the rows of a fit are seen. */
static void fill_row(const struct kv_code *code, const float *row, float *filled)
{
    const struct outliers_code *self = (const struct outliers_code *)code;
    const uint32_t *chosen = chosen_of(self), others = code->dim - self->n;
    choose(self, row, filled);
    memcpy(filled, row, code->dim * sizeof *row);
    for (uint32_t i = 0; i < self->n; i++) filled[chosen[i]] = 0.0f;
    const double sum = self->kernels->sum_wide(filled, NULL, code->dim);
    for (uint32_t i = 0; others && i < self->n; i++) filled[chosen[i]] = (float)(sum / others);
}

static size_t kept_bytes(const struct outliers_code *self)
{
    return 4 * (size_t)self->n * self->code.block;
}

static void set_bytes(struct outliers_code *self)
{
    const uint32_t each = 2 * self->n * self->code.block;
    self->code.payload_bytes = self->inner->payload_bytes + each;
    self->code.metadata_bytes = self->inner->metadata_bytes + each;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct outliers_code *self = (struct outliers_code *)code;
    const int status = kv_fit_inner(code, self->inner, sample, fill_row, KV_MAP_SHIFT, err);
    if (status == KV_OK) set_bytes(self);
    return status;
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct outliers_code *self = (struct outliers_code *)code;
    const uint32_t *chosen = chosen_of(self);
    uint8_t *at = atom + kv_atom_bytes(self->inner);
    for (uint32_t t = 0; t < code->block; t++) {
        const float *row = rows + (size_t)t * code->dim;
        fill_row(code, row, self->rows + (size_t)t * code->dim);
        for (uint32_t i = 0; i < self->n; i++, at += 4) {
            const uint16_t column = (uint16_t)chosen[i];
            kv_keep_half(at, row[column]);
            memcpy(at + 2, &column, sizeof column);
        }
    }
    self->inner->type->encode(self->inner, self->rows, atom);
}

/* Puts the kept values of one atom into its decoded columns. */
static void restore(const struct outliers_code *self, const uint8_t *at, uint32_t first,
                    uint32_t n_columns, float *out)
{
    for (uint32_t t = 0; t < self->code.block; t++, out += n_columns)
        for (uint32_t i = 0; i < self->n; i++, at += 4) {
            uint16_t column;
            memcpy(&column, at + 2, sizeof column);
            if (column >= first && column - first < n_columns)
                out[column - first] = kv_kept_half(at);
        }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct outliers_code *self = (const struct outliers_code *)code;
    const size_t inner_bytes = kv_atom_bytes(self->inner), bytes = inner_bytes + kept_bytes(self);
    for (uint32_t a = 0; a < n_atoms; a++, atoms += bytes, out += (size_t)code->block * n_columns) {
        self->inner->type->decode(self->inner, atoms, 1, first_column, n_columns, out);
        restore(self, atoms + inner_bytes, first_column, n_columns, out);
    }
}

/* The face of an object whose inner codec is fitted: without one the cache need not gather rows. */
static const struct kv_codec fitted = {.name = "outliers",
                                       .traits = KV_LEAVES_ROWS,
                                       .fit = fit,
                                       .encode = encode,
                                       .decode = decode,
                                       .used = kv_wrapped_used};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (setup->dim > UINT16_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "outliers: an index of 16 bits cannot tell %u columns",
                       setup->dim);
    struct outliers_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "outliers: no memory");
    const int status = kv_create_code(&self->inner, setup->rest, setup, setup->dim, err);
    if (status) return status;
    self->code = kv_wrap_code(self->inner->type->fit ? &fitted : &kv_codec_outliers, setup->dim,
                              self->inner);
    self->n = (uint32_t)(config->share * setup->dim + 0.5);
    if (self->n == 0) self->n = 1;
    if (self->n > setup->dim) self->n = setup->dim;
    set_bytes(self);
    self->rows = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                 (size_t)self->code.block * setup->dim * sizeof(float) +
                                     self->n * sizeof(uint32_t));
    self->kernels = setup->kernels;
    if (!self->rows) return kv_fail(err, KV_EMEMORY, "outliers: no memory for its rows");
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_outliers = {
    .name = "outliers",
    .summary = "keeps a row's largest values in 16 bits around the inner codec",
    .paper = "dense and sparse quantization (KVQuant, Hooper et al., arXiv 2401.18079)",
    .traits = KV_LEAVES_ROWS | KV_WRAPS,
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used};
