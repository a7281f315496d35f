/* svd: rows as coefficients of the prompt's leading directions, held by the inner codec (the
 * low-rank family at its plainest: Eigen Attention, Saxena et al., arXiv 2408.05646, equation 3,
 * with the prompt in place of a calibration text).
 *
 * fit: the rank eigenvectors of the Gram matrix X^T X of all prompt rows (not centred; double) with
 * the largest eigenvalues, V [dim][rank], kept and used as f16. encode: z = V^T x goes to the inner
 * codec (default f16). decode: x_hat = V z_hat.
 *
 * Bytes: the inner codec's for rows of rank columns; the basis 2 * dim * rank, basis_online. Block
 * and tiers are the inner codec's. Before a fit the basis is the first rank columns.
 *
 * A rank above the columns of a row or above the rows of the prompt is refused: no direction would
 * be there to keep.
 *
 * Departures: no joint basis of keys and queries; one basis an object (a head and side, or its
 * span). */
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_svd;

struct config {
    uint32_t rank;
};

static const struct kv_param params[] = {{"rank", KV_PARAM_U32, offsetof(struct config, rank), 32,
                                          1, 65536, NULL,
                                          "directions kept: columns of a row of the inner codec"},
                                         {0}};

struct svd_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    uint32_t rank;
    float *basis, *transpose; /* [rank][dim]; [dim][rank] */
    float *latents;           /* [block][rank] */
};

static int reserve(struct svd_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const size_t size = (size_t)self->rank * setup->dim * sizeof(float);
    self->basis = kv_pool_reserve(setup->pool, KV_WORKSPACE, size);
    self->transpose = kv_pool_reserve(setup->pool, KV_WORKSPACE, size);
    self->latents = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                    (size_t)self->inner->block * self->rank * sizeof(float));
    if (!self->basis || !self->transpose || !self->latents)
        return kv_fail(err, KV_EMEMORY, "svd: no memory for a basis of %u", self->rank);
    return KV_OK;
}

static void set_basis(struct svd_code *self, uint32_t k, uint32_t c, float value)
{
    self->basis[(size_t)k * self->code.dim + c] = value;
    self->transpose[(size_t)c * self->rank + k] = value;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (config->rank > setup->dim)
        return kv_fail(err, KV_EUNSUPPORTED, "svd: rank %u of rows with %u columns", config->rank,
                       setup->dim);
    struct svd_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "svd: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool, self->rank = config->rank;
    int status = kv_create_code(&self->inner, setup->rest, setup, config->rank, err);
    if (!status) status = reserve(self, setup, err);
    if (status) return status;
    self->code = kv_wrap_code(&kv_codec_svd, setup->dim, self->inner);
    for (uint32_t k = 0; k < self->rank; k++) set_basis(self, k, k, 1.0f);
    *out = &self->code;
    return KV_OK;
}

/* Upper triangle row by row, then mirrored. */
static void gram(double *matrix, const struct kv_sample *sample, uint32_t dim)
{
    for (uint32_t i = 0; i < sample->n; i++) {
        const float *row = sample->rows + (size_t)i * dim;
        for (uint32_t r = 0; r < dim; r++) {
            const double x = row[r];
            double *sums = matrix + (size_t)r * dim;
            for (uint32_t c = r; c < dim; c++) sums[c] += x * row[c];
        }
    }
    for (uint32_t r = 0; r < dim; r++)
        for (uint32_t c = 0; c < r; c++) matrix[(size_t)r * dim + c] = matrix[(size_t)c * dim + r];
}

static int fit_basis(struct svd_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    const uint32_t dim = self->code.dim;
    if (sample->n < self->rank)
        return kv_fail(err, KV_EUNSUPPORTED, "svd: rank %u of a prompt of %u rows", self->rank,
                       sample->n);
    double *matrix = calloc((size_t)dim * dim + dim, sizeof *matrix);
    if (!matrix) return kv_fail(err, KV_EMEMORY, "svd: no memory for a Gram matrix of %u", dim);
    gram(matrix, sample, dim);
    const int status = kv_eigen_symmetric(matrix, dim, matrix + (size_t)dim * dim, err);
    for (uint32_t k = 0; !status && k < self->rank; k++)
        for (uint32_t c = 0; c < dim; c++)
            set_basis(self, k, c,
                      kv_half_to_float(kv_finite_half((float)matrix[(size_t)k * dim + c])));
    free(matrix);
    return status;
}

static void project(const struct kv_code *code, const float *row, float *latent)
{
    const struct svd_code *self = (const struct svd_code *)code;
    self->kernels->rotate(self->transpose, self->rank, code->dim, row, latent);
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct svd_code *self = (struct svd_code *)code;
    const int status = fit_basis(self, sample, err);
    if (status) return status;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * (int64_t)code->dim * self->rank);
    return kv_fit_inner(code, self->inner, sample, project, err);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct svd_code *self = (struct svd_code *)code;
    for (uint32_t t = 0; t < code->block; t++)
        project(code, rows + (size_t)t * code->dim, self->latents + (size_t)t * self->rank);
    self->inner->type->encode(self->inner, self->latents, atom);
}

/* Some columns of V z: the sums of the kernel, in its order. */
static void raise_some(const struct svd_code *self, const float *latent, uint32_t first, uint32_t n,
                       float *restrict out)
{
    memset(out, 0, n * sizeof *out);
    for (uint32_t k = 0; k < self->rank; k++) {
        const float *restrict direction = self->basis + (size_t)k * self->code.dim + first;
        for (uint32_t c = 0; c < n; c++) out[c] += direction[c] * latent[k];
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct svd_code *self = (const struct svd_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, 0, self->rank,
                                  self->latents);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns) {
            const float *latent = self->latents + (size_t)t * self->rank;
            if (n_columns == code->dim)
                self->kernels->rotate(self->basis, code->dim, self->rank, latent, out);
            else
                raise_some(self, latent, first_column, n_columns, out);
        }
    }
}

const struct kv_codec kv_codec_svd = {
    .name = "svd",
    .summary = "coefficients of the prompt's leading directions, in the inner codec",
    .paper = "Eigen Attention (Saxena et al., arXiv 2408.05646), fitted on the prompt",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT,
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used};
