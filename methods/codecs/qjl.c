/* qjl: keys as the signs of random projections and a length, values on KIVI's grid (Zandieh et al.,
 * arXiv 2406.03482; its code amirzandieh/QJL).
 *
 * Keys, in groups of group_size tokens: the `outliers` channels of largest norm over the group, o,
 * are sketched apart. k = k_in + k_out; for each part x: f16(|x|) and sign(S x), S of m rows (m_o:
 * the first rows of the same S). The estimate of <q, x> is <q, x_hat>, x_hat = factor |x| S^T
 * sign(S x) (parts/signs.h): the query is not quantized, and decoding to x_hat gives the estimator
 * exactly. m = bits * dim, m_o = outlier_bits * dim; the first `initial_layers` layers of the model
 * take initial_bits and initial_outlier_bits. Defaults are the paper's LongBench runs at d = 128:
 * 256 + 256 signs, 512 + 128 in the first 15 layers. The exact rows grow to residual_length and are
 * then encoded. As an estimate of the row x_hat is poor (its error is above 1): it is made for
 * inner products.
 *
 * Values: per token, groups of group_size channels, value_bits, the last residual_length rows
 * exact.
 *
 * Bytes of a group of G tokens: payload G (ceil(m / 8) + ceil(m_o / 8)) (each dim signs in whole
 * bytes), metadata 4 G (two lengths) + outliers (a byte an index, two above 256 columns). At d =
 * 128, G = 32: 4.27 bits (5.27 in the first layers), not the 3 of the paper's table. outliers=0
 * leaves the second part out: 2.25. S comes from the seed, the same for all heads and layers:
 * regenerated.
 *
 * Departures: sketch=orthogonal (as the paper's experiments) takes E|u_1| of this very dimension
 * where the code has sqrt(2 / pi), 0.4 % off at 64; the paper's code keeps sqrt(|k|^2 - |k_out|^2)
 * for |k_in|. */
#include <math.h>
#include <string.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"
#include "methods/parts/grid.h"
#include "methods/parts/signs.h"

extern const struct kv_codec kv_codec_qjl;

enum { STREAM = 0x514a };

struct config {
    double bits, outlier_bits;
    uint32_t outliers, group_size, residual_length, initial_layers;
    double initial_bits, initial_outlier_bits;
    uint32_t sketch, value_bits;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"bits", KV_PARAM_REAL, FIELD(bits), 2, 0.125, 16, NULL, "signs a channel of the inlying part"},
    {"outlier_bits", KV_PARAM_REAL, FIELD(outlier_bits), 2, 0.125, 16, NULL,
     "signs a channel (of the whole row) of the outlying part"},
    {"outliers", KV_PARAM_U32, FIELD(outliers), 8, 0, 4096, NULL,
     "channels sketched apart in a group"},
    {"group_size", KV_PARAM_U32, FIELD(group_size), 32, 1, 4096, NULL,
     "tokens that share outlying channels; channels of a value that share a grid"},
    {"residual_length", KV_PARAM_U32, FIELD(residual_length), 128, 1, 1u << 20, NULL,
     "exact rows: keys grow to it, values keep it; a multiple of group_size"},
    {"initial_layers", KV_PARAM_U32, FIELD(initial_layers), 15, 0, 4096, NULL,
     "first layers of the model, with bits of their own"},
    {"initial_bits", KV_PARAM_REAL, FIELD(initial_bits), 4, 0.125, 16, NULL, "bits there"},
    {"initial_outlier_bits", KV_PARAM_REAL, FIELD(initial_outlier_bits), 1, 0.125, 16, NULL,
     "outlier_bits there"},
    {"sketch", KV_PARAM_CHOICE, FIELD(sketch), KV_SKETCH_ORTHOGONAL, 0, 0, "orthogonal|gaussian",
     "rows of the random matrix"},
    {"value_bits", KV_PARAM_U32, FIELD(value_bits), 2, 1, 8, NULL, "bits of a value's code"},
    {0}};

struct qjl_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_grid grid;                        /* values */
    struct kv_sketch sketch;                    /* keys */
    uint32_t signs[2], n_outliers, index_bytes; /* signs of the inlying and of the outlying part */
    uint32_t *outliers;                         /* [n_outliers] ascending */
    float *parts;                               /* [3][dim]: a row; outlying channels; energies */
};

static int create_values(struct qjl_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const int status = kv_grid_create(&self->grid, setup, KV_GRID_TOKEN, config->value_bits,
                                      config->group_size, err);
    self->code = (struct kv_code){.type = &kv_codec_qjl,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = self->grid.payload_bytes,
                                  .metadata_bytes = kv_grid_metadata_bytes(&self->grid),
                                  .tiers = {.recent = config->residual_length, .flush = 1}};
    return status;
}

static int reserve(struct qjl_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const uint32_t dim = setup->dim;
    self->outliers =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, (self->n_outliers + 1) * sizeof *self->outliers);
    self->parts = kv_pool_reserve(setup->pool, KV_WORKSPACE, 3 * (size_t)dim * sizeof(float));
    if (!self->outliers || !self->parts)
        return kv_fail(err, KV_EMEMORY, "qjl: no memory for rows of %u", dim);
    return KV_OK;
}

static int create_keys(struct qjl_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const bool first = setup->geometry->layer < config->initial_layers;
    const uint32_t dim = setup->dim, group = config->group_size;
    self->signs[0] = (uint32_t)((first ? config->initial_bits : config->bits) * dim + 0.5);
    self->signs[1] =
        (uint32_t)((first ? config->initial_outlier_bits : config->outlier_bits) * dim + 0.5);
    self->n_outliers = config->outliers < dim ? config->outliers : dim;
    self->index_bytes = dim <= 256 ? 1 : 2;
    if (!self->n_outliers) self->signs[1] = 0;
    const uint32_t most = self->signs[0] > self->signs[1] ? self->signs[0] : self->signs[1];
    int status = reserve(self, setup, err);
    if (!status)
        status = kv_sketch_create(&self->sketch, setup, dim, most,
                                  (enum kv_sketch_kind)config->sketch, STREAM, err);
    self->code = (struct kv_code){
        .type = &kv_codec_qjl,
        .dim = dim,
        .block = group,
        .payload_bytes =
            group * (kv_sketch_bytes(dim, self->signs[0]) + kv_sketch_bytes(dim, self->signs[1])),
        .metadata_bytes = group * (self->n_outliers ? 4 : 2) + self->n_outliers * self->index_bytes,
        .tiers = {.flush = config->residual_length}};
    return status;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "qjl: keys are sketched and values are not, a span must not join them");
    if (config->residual_length % config->group_size)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "qjl: residual_length %u is not a multiple of group_size %u",
                       config->residual_length, config->group_size);
    struct qjl_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "qjl: no memory");
    self->kernels = setup->kernels;
    const int status =
        setup->side == KV_VALUES ? create_values(self, setup, err) : create_keys(self, setup, err);
    *out = &self->code;
    return status;
}

static bool is_values(const struct qjl_code *self)
{
    return self->grid.dim != 0;
}

static void add_energies(const float *restrict rows, uint32_t n_rows, uint32_t dim,
                         float *restrict energy)
{
    memset(energy, 0, dim * sizeof *energy);
    for (uint32_t t = 0; t < n_rows; t++, rows += dim)
        for (uint32_t c = 0; c < dim; c++) energy[c] += rows[c] * rows[c];
}

/* The largest again and again, in a copy; false where an energy is no number. */
static bool choose_largest(struct qjl_code *self, const float *energy)
{
    const uint32_t dim = self->code.dim;
    float *left = self->parts + dim, sum = 0;
    uint32_t n = 0;
    for (uint32_t c = 0; c < dim; c++) sum += left[c] = energy[c];
    if (sum != sum) return false;
    for (uint32_t i = 0; i < self->n_outliers; i++) {
        const float most = self->kernels->max(left, dim);
        uint32_t c = 0;
        while (left[c] != most) c++;
        left[c] = -1;
    }
    for (uint32_t c = 0; c < dim; c++)
        if (left[c] < 0) self->outliers[n++] = c;
    return true;
}

/* The channels of largest energy over the group; of equal ones the lower. */
static void choose(struct qjl_code *self, const float *rows)
{
    const uint32_t dim = self->code.dim;
    float *energy = self->parts + 2 * (size_t)dim;
    add_energies(rows, self->code.block, dim, energy);
    if (choose_largest(self, energy)) return;
    for (uint32_t i = 0; i < self->n_outliers; i++) self->outliers[i] = i; /* as good as any */
}

/* One part of some rows: the channels in x->columns, or all but those. */
static void take_part(const float *rows, uint32_t dim, const struct kv_sketched *x, bool outlying,
                      const uint32_t *chosen, uint32_t n_chosen, float *part)
{
    if (!outlying) memcpy(part, rows, (size_t)x->n * dim * sizeof *part);
    if (outlying && !x->columns) memset(part, 0, (size_t)x->n * dim * sizeof *part);
    for (uint32_t t = 0; t < x->n; t++, rows += dim, part += x->n_columns)
        for (uint32_t i = 0; i < n_chosen; i++)
            part[x->columns ? i : chosen[i]] = outlying ? rows[chosen[i]] : 0;
}

/* Each row's sum is one chain, so some rows go beside each other. */
enum { SOME_ROWS = 8 };

static void keep_lengths(const struct kv_sketched *x, uint8_t *lengths, size_t apart)
{
    for (uint32_t first = 0; first < x->n; first += SOME_ROWS) {
        const uint32_t n = x->n - first < SOME_ROWS ? x->n - first : SOME_ROWS;
        const float *rows = x->rows + (size_t)first * x->n_columns;
        double squares[SOME_ROWS] = {0};
        for (uint32_t c = 0; c < x->n_columns; c++)
            for (uint32_t t = 0; t < n; t++) {
                const double value = rows[(size_t)t * x->n_columns + c];
                squares[t] += value * value;
            }
        for (uint32_t t = 0; t < n; t++, lengths += apart)
            kv_keep_half(lengths, (float)sqrt(squares[t]));
    }
}

/* Where the parts of a group's rows go. */
struct places {
    uint8_t *signs, *lengths;
    size_t signs_apart, lengths_apart;
};

/* One part of a group, as many rows at a time as the scratch holds; few channels without the
 * others, which are 0. */
static void encode_part(struct qjl_code *self, const float *rows, bool outlying, struct places to)
{
    float scratch[KV_CODEC_SCRATCH];
    const uint32_t dim = self->code.dim, block = self->code.block, fits = KV_CODEC_SCRATCH / dim;
    const uint32_t *chosen = self->outliers, n_chosen = self->n_outliers;
    const bool few = outlying && n_chosen < fits;
    const uint32_t spared = few ? n_chosen * dim : 0, width = few ? n_chosen : dim;
    const uint32_t most = fits ? (KV_CODEC_SCRATCH - spared) / width : 1;
    float *part = fits ? scratch + spared : self->parts;
    for (uint32_t first = 0; first < block; first += most) {
        const struct kv_sketched x = {part, block - first < most ? block - first : most, width,
                                      few ? chosen : NULL, scratch};
        take_part(rows + (size_t)first * dim, dim, &x, outlying, chosen, n_chosen, part);
        keep_lengths(&x, to.lengths + first * to.lengths_apart, to.lengths_apart);
        kv_sketch_encode(&self->sketch, &x, self->signs[outlying],
                         to.signs + first * to.signs_apart, to.signs_apart);
    }
}

static void encode_keys(struct qjl_code *self, const float *rows, uint8_t *atom)
{
    const uint32_t dim = self->code.dim, n_parts = self->n_outliers ? 2 : 1;
    const uint32_t inlying = kv_sketch_bytes(dim, self->signs[0]);
    struct places to = {.signs = atom,
                        .lengths = atom + self->code.payload_bytes,
                        .signs_apart = inlying + kv_sketch_bytes(dim, self->signs[1]),
                        .lengths_apart = 2 * (size_t)n_parts};
    uint8_t *indices = to.lengths + to.lengths_apart * self->code.block;
    choose(self, rows);
    for (uint32_t i = 0; i < self->n_outliers; i++) {
        indices[i * self->index_bytes] = (uint8_t)self->outliers[i];
        if (self->index_bytes == 2) indices[2 * i + 1] = (uint8_t)(self->outliers[i] >> 8);
    }
    for (uint32_t p = 0; p < n_parts; p++, to.signs += inlying, to.lengths += 2)
        encode_part(self, rows, p == 1, to);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct qjl_code *self = (struct qjl_code *)code;
    if (is_values(self))
        kv_grid_encode(&self->grid, rows, atom);
    else
        encode_keys(self, rows, atom);
}

/* A part's estimate leaks into the other part's channels, as its inner product with q does. */
static void decode_keys(const struct qjl_code *self, const uint8_t *atom, uint32_t first,
                        uint32_t n, float *out)
{
    const uint32_t dim = self->code.dim, n_parts = self->n_outliers ? 2 : 1;
    const uint8_t *lengths = atom + self->code.payload_bytes;
    for (uint32_t t = 0; t < self->code.block; t++, out += n) {
        memset(self->parts, 0, dim * sizeof *self->parts);
        for (uint32_t p = 0; p < n_parts; p++, lengths += 2) {
            kv_sketch_decode(&self->sketch, atom, self->signs[p], kv_kept_half(lengths),
                             self->parts);
            atom += kv_sketch_bytes(dim, self->signs[p]);
        }
        memcpy(out, self->parts + first, n * sizeof *out);
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct qjl_code *self = (const struct qjl_code *)code;
    if (is_values(self)) {
        kv_grid_decode(&self->grid, atoms, n_atoms, first_column, n_columns, out);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_keys(self, atoms + a * kv_atom_bytes(code), first_column, n_columns,
                    out + (size_t)a * code->block * n_columns);
}

const struct kv_codec kv_codec_qjl = {.name = "qjl",
                                      .summary =
                                          "keys as signs of random projections, values per token",
                                      .paper = "QJL (Zandieh et al., arXiv 2406.03482)",
                                      .traits = KV_RANDOM_KEYS,
                                      .params = params,
                                      .config_size = sizeof(struct config),
                                      .create = create,
                                      .encode = encode,
                                      .decode = decode};
