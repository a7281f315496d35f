/* center: the prompt's mean row is taken from every row before the inner codec and added back after
 * it. A constant in every key moves all logits of a query alike and changes no weight; a quantizer
 * should not spend its range on it (SageAttention, Zhang et al., arXiv 2410.02367, smooths K so).
 *
 * mean[c] over all prompt rows of the object (double), kept and used as f16: 2 * dim bytes,
 * basis_online. No parameters. A stage modifier center=mean means this codec around its stage.
 *
 * Departures: the mean is the prompt's and then fixed, so that decoded rows never change. */
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_center;

struct center_code {
    struct kv_code code, *inner;
    struct kv_pool *pool;
    float *mean, *rows; /* [dim]; rows of one atom */
};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct center_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "center: no memory");
    const int status = kv_create_code(&self->inner, setup->rest, setup, setup->dim, err);
    if (status) return status;
    self->pool = setup->pool;
    self->code = kv_wrap_code(&kv_codec_center, setup->dim, self->inner);
    self->mean = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim * sizeof(float));
    self->rows = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                 (size_t)self->code.block * setup->dim * sizeof(float));
    if (!self->mean || !self->rows)
        return kv_fail(err, KV_EMEMORY, "center: no memory for its rows");
    *out = &self->code;
    return KV_OK;
}

static void take_mean(const struct kv_code *code, const float *row, float *centered)
{
    const float *mean = ((const struct center_code *)code)->mean;
    for (uint32_t c = 0; c < code->dim; c++) centered[c] = row[c] - mean[c];
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct center_code *self = (struct center_code *)code;
    for (uint32_t c = 0; c < code->dim; c++) {
        double sum = 0;
        for (uint32_t i = 0; i < sample->n; i++) sum += sample->rows[(size_t)i * code->dim + c];
        const float mean = sample->n ? (float)(sum / sample->n) : 0.0f;
        self->mean[c] = kv_half_to_float(kv_finite_half(mean));
    }
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * (int64_t)code->dim);
    return kv_fit_inner(code, self->inner, sample, take_mean, KV_MAP_SHIFT, err);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct center_code *self = (struct center_code *)code;
    for (uint32_t t = 0; t < code->block; t++)
        take_mean(code, rows + (size_t)t * code->dim, self->rows + (size_t)t * code->dim);
    self->inner->type->encode(self->inner, self->rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct center_code *self = (const struct center_code *)code;
    self->inner->type->decode(self->inner, atoms, n_atoms, first_column, n_columns, out);
    const size_t rows = (size_t)n_atoms * code->block;
    const float *mean = self->mean + first_column;
    for (size_t i = 0; i < rows; i++)
        for (uint32_t c = 0; c < n_columns; c++) out[i * n_columns + c] += mean[c];
}

const struct kv_codec kv_codec_center = {
    .name = "center",
    .summary = "takes the prompt's mean row off around the inner codec",
    .paper = "K smoothing of SageAttention (Zhang et al., arXiv 2410.02367)",
    .traits = KV_LEAVES_ROWS | KV_WRAPS | KV_FITS_PROMPT,
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used};
