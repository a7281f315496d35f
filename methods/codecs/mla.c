/* mla: multi-head attention turned into latent attention after training. One latent for keys and
 * values of all heads, and one rotary part beside it, as DeepSeek-V2 stores (arXiv 2405.04434,
 * equations 37 to 47); found from rows as TransMLA does (Meng et al., arXiv 2502.07864).
 *
 * Fit, per layer, on keys before rotation (double, not centred); P rotary pairs (x, y) a head:
 *   1. RoRoPE and FreqFold: `fold` neighbouring pairs of all heads are one group. Of each group the
 *      same number of leading eigenvectors u of sum x x^T + y y^T are kept, rope / 2 in all;
 *      component a turns with frequency (a * collapse) mod fold of its group, collapse = 2 P /
 * rope.
 *   2. The other components lose their rotation. a = E|k_nope| / E|v|; Z = the `rank` leading
 *      eigenvectors of the Gram matrix of [k_nope / a, v] over all heads.
 *
 * Stored: c = Z^T [k_nope / a, v] and k_R, rotated at its own position, in one row of the inner
 * codec (default f16). Read without unpacking: a query of KV head j at position i meets it as
 * [a Z_kj^T q, R_i u_j q], q before rotation; its answer is Z_vj (weighted sum of c). u and Z are
 * halves. A layer that attends to latents already (values are the keys' first columns) keeps these,
 * and the other columns for k_R as recorded. As many latents as columns are the columns themselves,
 * exact, and cost no basis: such a layer by default.
 *
 * rank: latents, or a share of all columns of K and V (latents that a layer has already are cut by
 * a number only); at most all that is not k_R. rope: dimensions of k_R, or a share of the 2 P, or
 * whole multiples of 2 P.
 *
 * Bytes: the inner codec's for rank + rope columns a token (K and V, all heads); the basis
 * 2 heads (d_k + d_v) rank + heads fold rope + 4. key_error and value_error are those of rows
 * mapped back, each key rotated at its own position: what the rank costs, not what the lost
 * rotation does.
 *
 * Departures: eigenvectors of the rows (what the published code takes); no damping, which moves no
 * eigenvector; the fitted maps are charged, where a conversion folds them into projections; balance
 * is the paper's equation 20, where the published code takes mean column norms; no fine-tuning.
 * Rows of exact tiers stay keys and values of heads. Directions without energy are none. */
#include <stddef.h>

#include "methods/codecs/mla/mla_parts.h"
#include "methods/parts/wrapper.h"
#include "methods/rotary.h"

extern const struct kv_codec kv_codec_mla;

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct mla_config, rank), 0.25, 1, 1048576, NULL,
     "latents of a layer: a number, or a share of the columns of K and V"},
    {"rope", KV_PARAM_BUDGET, offsetof(struct mla_config, rope), 0.5, 1, 1048576, NULL,
     "dimensions that keep their rotation: a number, or a share of a head's"},
    {"fold", KV_PARAM_U32, offsetof(struct mla_config, fold), 0, 0, 4096, NULL,
     "neighbouring frequencies taken for one; 0: as few as rope allows"},
    {0}};

static int make_rotation(struct mla_code *self, struct mla_rotation *rotation, uint32_t n,
                         struct kv_error *err)
{
    const size_t size = (size_t)self->geometry->tokens * n * sizeof(float);
    rotation->n = n;
    rotation->cosine = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    rotation->sine = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    if (n && (!rotation->cosine || !rotation->sine))
        return kv_fail(err, KV_EMEMORY, "mla: no memory for rotations");
    return KV_OK;
}

static void fill_rotations(struct mla_code *self)
{
    for (uint32_t t = 0; t < self->geometry->tokens; t++) {
        const double position = self->geometry->positions[t];
        for (uint32_t i = 0; i < self->own.n + self->turns.n; i++) {
            const bool kept = i >= self->own.n;
            struct mla_rotation *rotation = kept ? &self->turns : &self->own;
            const uint32_t k = kept ? i - self->own.n : i;
            double cosine, sine;
            kv_cos_sin(position * (kept ? kv_mla_frequency(self, k) : self->frequencies[k]),
                       &cosine, &sine);
            rotation->cosine[(size_t)t * rotation->n + k] = (float)cosine;
            rotation->sine[(size_t)t * rotation->n + k] = (float)sine;
        }
    }
}

/* The columns that latents are, when they are columns; directions of one component each. */
static void set_whole(struct mla_code *self)
{
    const struct mla_shape *shape = &self->shape;
    uint32_t n = 0;
    for (uint32_t c = 0; c < kv_mla_basis_rows(shape); c++) {
        bool rotates = false;
        for (uint32_t i = 0; i < shape->n_pairs; i++)
            rotates |= c == self->pairs[i][0] || c == self->pairs[i][1];
        if (!rotates) self->columns[n++] = c;
    }
    for (uint32_t k = 0; k < shape->kept; k++) self->directions[k] = 1.0f;
}

static int reserve(struct mla_code *self, struct kv_error *err)
{
    const struct mla_shape *shape = &self->shape;
    const size_t directions = (size_t)shape->kept * shape->heads * shape->fold;
    const size_t basis = shape->whole ? 0 : (size_t)kv_mla_basis_rows(shape) * shape->rank;
    self->directions = kv_pool_reserve(self->pool, KV_WORKSPACE, directions * sizeof(float));
    self->basis = kv_pool_reserve(self->pool, KV_WORKSPACE, basis * sizeof(float));
    self->columns = kv_pool_reserve(self->pool, KV_WORKSPACE, shape->rank * sizeof *self->columns);
    self->row = kv_pool_reserve(self->pool, KV_WORKSPACE, shape->dim * sizeof(float));
    if ((directions && !self->directions) || (basis && !self->basis) || !self->columns ||
        !self->row)
        return kv_fail(err, KV_EMEMORY, "mla: no memory for rank %u of %u columns", shape->rank,
                       shape->dim);
    int status = make_rotation(self, &self->own, shape->latent_already ? 0 : shape->n_pairs, err);
    if (status == KV_OK) status = make_rotation(self, &self->turns, shape->kept, err);
    if (status == KV_OK) fill_rotations(self);
    if (status == KV_OK && shape->whole) set_whole(self);
    return status;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct mla_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "mla: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool, self->geometry = setup->geometry;
    self->rope = &setup->geometry->rope;
    self->balance = 1.0f;
    int status = kv_mla_take_shape(self, setup, err);
    if (status == KV_OK && !setup->sizes_only) status = reserve(self, err);
    if (status != KV_OK) return status;
    const uint32_t width = self->shape.rank + self->shape.tail;
    status = kv_create_code(&self->inner, setup->rest, setup, width, err);
    if (status != KV_OK) return status;
    self->code = kv_wrap_code(&kv_codec_mla, width, self->inner);
    *out = &self->code;
    return KV_OK;
}

/* ---- turned rows ---- */

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kv_code *inner = ((struct mla_code *)code)->inner;
    inner->type->encode(inner, rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct kv_code *inner = ((const struct mla_code *)code)->inner;
    inner->type->decode(inner, atoms, n_atoms, first_column, n_columns, out);
}

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_SIDES | KV_SPAN_HEADS;
}

const struct kv_codec kv_codec_mla = {
    .name = "mla",
    .summary = "one latent for K and V of all heads, and a rotary part beside it",
    .paper = "TransMLA (Meng et al., arXiv 2502.07864); DeepSeek-V2 (arXiv 2405.04434)",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_UNROTATED_KEYS,
    .params = params,
    .config_size = sizeof(struct mla_config),
    .span = span,
    .create = create,
    .fit = kv_mla_fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used,
    .turn = &kv_mla_turn};
