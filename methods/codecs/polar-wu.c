/* polar-wu: keys as radius and angle of the pairs that the rotary position turns: an outlying pair
 * is a ring, of steady radius and even angle (PolarQuant, Wu et al., NeurIPS 2025; its code
 * ericshwu/PolarQuant).
 *
 * Keys after the rotation, pairs (x, y) as the layer turns them ((i, i + d/2) or (2i, 2i + 1));
 * columns that do not turn (all of a latent) are paired likewise among themselves, a last odd one
 * with y = 0. rho = |(x, y)|, theta = angle in [0, 2 pi). Each of rho and theta, per pair and group
 * of group_size tokens, b bits:
 *
 *     s = f16((max - min) / 2^b), m = f16(min), code = clamp(floor((v - m) / s), 0, 2^b - 1)
 *     v_hat = s (code + 1/2) + m;  x_hat = rho_hat cos(theta_hat), y_hat = rho_hat sin(theta_hat)
 *
 * The exact rows grow to group_size and are then encoded. Values: exact (value_bits=16: the default
 * store), or the grid of `int`, per token, groups of group_size channels, at once.
 *
 * Bytes of a group of G tokens, P pairs: payload ceil(G P radius_bits / 8) + ceil(G P angle_bits /
 * 8), metadata 8 P: 4 + 0.25 bits at 4 and 4 bits and G = 128.
 *
 * Departures: codes are two streams, not a byte each pair; a constant group gives code 0; a pair of
 * zeros has angle 0, whatever their signs. Rows of several heads, pooled ones too, are paired within
 * each head. */
#include <math.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"
#include "methods/parts/grid.h"
#include "methods/rotary.h"

extern const struct kv_codec kv_codec_polar_wu;

struct config {
    uint32_t radius_bits, angle_bits, group_size, value_bits;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"radius_bits", KV_PARAM_U32, FIELD(radius_bits), 4, 1, 8, NULL, "bits of a pair's radius"},
    {"angle_bits", KV_PARAM_U32, FIELD(angle_bits), 4, 1, 8, NULL, "bits of a pair's angle"},
    {"group_size", KV_PARAM_U32, FIELD(group_size), 128, 1, 4096, NULL,
     "tokens that share a pair's grids, and exact rows; channels of a value that share a grid"},
    {"value_bits", KV_PARAM_U32, FIELD(value_bits), 16, 1, 16, NULL,
     "1 to 8 bits of a value's code, or 16: exact"},
    {0}};

enum { RADIUS, ANGLE, QUANTITIES };
static const uint32_t ALONE = UINT32_MAX;

struct polar_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_grid grid; /* values */
    uint32_t n_pairs, bits[QUANTITIES], code_bytes[QUANTITIES];
    uint32_t *x, *y;                               /* [n_pairs] columns; y ALONE: 0 */
    float *values[QUANTITIES];                     /* [block][n_pairs] */
    uint8_t *codes[QUANTITIES];                    /* [block][n_pairs] */
    float *steps[QUANTITIES], *minima[QUANTITIES]; /* [n_pairs] */
    float *cosines, *sines;                        /* [n_pairs][2^angle_bits] */
    float *rows;                                   /* [block][dim] */
};

/* Pairs of `n` columns that do not turn from `first` on: halves against each other. */
static uint32_t pair_halves(struct polar_code *self, uint32_t at, uint32_t first, uint32_t n)
{
    const uint32_t half = (n + 1) / 2;
    for (uint32_t i = 0; i < half; i++, at++)
        self->x[at] = first + i, self->y[at] = half + i < n ? first + half + i : ALONE;
    return at;
}

static uint32_t pair_head(struct polar_code *self, uint32_t at, uint32_t first, uint32_t n,
                          const struct kv_geometry *layer)
{
    const struct kv_rope *rope = &layer->rope;
    if (rope->layout == KV_ROPE_INTERLEAVED) {
        for (uint32_t i = 0; i < n; i += 2, at++)
            self->x[at] = first + i, self->y[at] = i + 1 < n ? first + i + 1 : ALONE;
        return at;
    }
    const bool turns = n == layer->key_dim && rope->layout == KV_ROPE_HALF;
    const uint32_t turning = turns ? rope->dims / 2 * 2 : 0;
    at = pair_halves(self, at, first, turning);
    return pair_halves(self, at, first + turning, n - turning);
}

static bool reserve(struct polar_code *self, const struct kv_setup *setup, uint32_t block)
{
    struct kv_pool *pool = setup->pool;
    const size_t pairs = setup->dim, n = block * pairs; /* at most as many pairs as columns */
    const size_t table = pairs << self->bits[ANGLE];
    bool done = true;
    self->x = kv_pool_reserve(pool, KV_WORKSPACE, pairs * sizeof(uint32_t));
    self->y = kv_pool_reserve(pool, KV_WORKSPACE, pairs * sizeof(uint32_t));
    for (int q = 0; q < QUANTITIES; q++) {
        self->values[q] = kv_pool_reserve(pool, KV_WORKSPACE, n * sizeof(float));
        self->codes[q] = kv_pool_reserve(pool, KV_WORKSPACE, n);
        self->steps[q] = kv_pool_reserve(pool, KV_WORKSPACE, 2 * pairs * sizeof(float));
        done = done && self->values[q] && self->codes[q] && self->steps[q];
        if (done) self->minima[q] = self->steps[q] + pairs;
    }
    self->cosines = kv_pool_reserve(pool, KV_WORKSPACE, table * sizeof(float));
    self->sines = kv_pool_reserve(pool, KV_WORKSPACE, table * sizeof(float));
    self->rows = kv_pool_reserve(pool, KV_WORKSPACE, n * sizeof(float));
    return done && self->x && self->y && self->cosines && self->sines && self->rows;
}

static int create_keys(struct polar_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const uint32_t block = config->group_size, head = setup->geometry->key_dim;
    self->bits[RADIUS] = config->radius_bits, self->bits[ANGLE] = config->angle_bits;
    if (!reserve(self, setup, block))
        return kv_fail(err, KV_EMEMORY, "polar-wu: no memory for %u rows of %u", block, setup->dim);
    /* Rows of heads as they were recorded, or pooled; else latents. */
    const uint32_t width = setup->dim % head ? setup->dim : head;
    for (uint32_t first = 0; first < setup->dim; first += width)
        self->n_pairs = pair_head(self, self->n_pairs, first, width, setup->geometry);
    self->code = (struct kv_code){.type = &kv_codec_polar_wu,
                                  .dim = setup->dim,
                                  .block = block,
                                  .metadata_bytes = 8 * self->n_pairs,
                                  .tiers = {.flush = block}};
    for (int q = 0; q < QUANTITIES; q++)
        self->code.payload_bytes += self->code_bytes[q] =
            kv_packed_bytes((size_t)block * self->n_pairs, self->bits[q]);
    return KV_OK;
}

static int create_values(struct polar_code *self, const struct kv_setup *setup,
                         struct kv_error *err)
{
    const struct config *config = setup->config;
    const int status = kv_grid_create(&self->grid, setup, KV_GRID_TOKEN, config->value_bits,
                                      config->group_size, err);
    self->code = (struct kv_code){.type = &kv_codec_polar_wu,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = self->grid.payload_bytes,
                                  .metadata_bytes = kv_grid_metadata_bytes(&self->grid),
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    return status;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "polar-wu: only keys turn, a span must not join them with values");
    if (config->value_bits > 8 && config->value_bits != 16)
        return kv_fail(err, KV_EUNSUPPORTED, "polar-wu: value_bits=%u is neither 1 to 8 nor 16",
                       config->value_bits);
    if (setup->side == KV_VALUES && config->value_bits == 16)
        return kv_create_code(out, NULL, setup, setup->dim, err);
    struct polar_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "polar-wu: no memory");
    self->kernels = setup->kernels;
    const int status =
        setup->side == KV_VALUES ? create_values(self, setup, err) : create_keys(self, setup, err);
    *out = &self->code;
    return status;
}

enum { TOGETHER = 64 }; /* pairs */

/* Pairs first .. first + n - 1 of a row. */
static void turn_pairs(const struct polar_code *self, const float *row, uint32_t first, uint32_t n,
                       size_t at)
{
    float x[TOGETHER], y[TOGETHER];
    for (uint32_t p = 0; p < n; p++) {
        x[p] = row[self->x[first + p]];
        y[p] = self->y[first + p] == ALONE ? 0.0f : row[self->y[first + p]];
    }
    self->kernels->polar_floats(x, y, n, self->values[RADIUS] + at, self->values[ANGLE] + at);
}

static void to_polar(const struct polar_code *self, const float *rows)
{
    for (uint32_t t = 0; t < self->code.block; t++, rows += self->code.dim)
        for (uint32_t p = 0; p < self->n_pairs; p += TOGETHER) {
            const uint32_t left = self->n_pairs - p;
            turn_pairs(self, rows, p, left < TOGETHER ? left : TOGETHER,
                       (size_t)t * self->n_pairs + p);
        }
}

/* Of a quantity each pair's grid over the group, kept at `grids` and as it is read. */
static void make_grids(const struct polar_code *self, int q, uint8_t *grids)
{
    const uint32_t n = self->n_pairs, levels = 1u << self->bits[q];
    const float *restrict v = self->values[q];
    float *restrict min = self->minima[q], *restrict max = self->steps[q];
    memcpy(min, v, n * sizeof *v);
    memcpy(max, v, n * sizeof *v);
    for (uint32_t t = 1; t < self->code.block; t++) {
        v += n;
        for (uint32_t p = 0; p < n; p++) {
            min[p] = v[p] < min[p] ? v[p] : min[p];
            max[p] = v[p] > max[p] ? v[p] : max[p];
        }
    }
    for (uint32_t p = 0; p < n; p++, grids += 4) {
        max[p] = kv_keep_half(grids, (max[p] - min[p]) / (float)levels);
        min[p] = kv_keep_half(grids + 2, min[p]);
    }
}

/* What is cut off is the floor, where it is not below 0. Arrays are told to be apart, and a step of
 * 0 divides as infinity: compilers make vectors of it. */
static void encode_pairs(const float *restrict values, const float *restrict minima,
                         const float *restrict steps, uint32_t n, float last,
                         uint8_t *restrict codes)
{
    for (uint32_t p = 0; p < n; p++) {
        const float step = steps[p] > 0 ? steps[p] : INFINITY;
        float code = (values[p] - minima[p]) / step;
        code = code > 0 ? code : 0;
        code = code < last ? code : last;
        codes[p] = (uint8_t)(int32_t)code;
    }
}

static void encode_quantity(const struct polar_code *self, int q, uint8_t *grids)
{
    const float last = (float)((1u << self->bits[q]) - 1);
    make_grids(self, q, grids);
    for (size_t first = 0; first < (size_t)self->code.block * self->n_pairs; first += self->n_pairs)
        encode_pairs(self->values[q] + first, self->minima[q], self->steps[q], self->n_pairs, last,
                     self->codes[q] + first);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct polar_code *self = (struct polar_code *)code;
    if (self->grid.dim) {
        kv_grid_encode(&self->grid, rows, atom);
        return;
    }
    uint8_t *grids = atom + code->payload_bytes;
    to_polar(self, rows);
    for (int q = 0; q < QUANTITIES; q++) {
        encode_quantity(self, q, grids);
        grids += 4 * (size_t)self->n_pairs;
        self->kernels->pack_bits(self->codes[q], (size_t)code->block * self->n_pairs, self->bits[q],
                                 atom);
        atom += self->code_bytes[q];
    }
}

/* Unpacks codes and grids; a pair's angles take few values, whose cos and sin are looked up. */
static void open_atom(const struct polar_code *self, const uint8_t *atom)
{
    const uint8_t *grids = atom + self->code.payload_bytes;
    for (int q = 0; q < QUANTITIES; q++) {
        self->kernels->unpack_bits(atom, (size_t)self->code.block * self->n_pairs, self->bits[q],
                                   self->codes[q]);
        atom += self->code_bytes[q];
        for (uint32_t p = 0; p < self->n_pairs; p++, grids += 4)
            self->steps[q][p] = kv_kept_half(grids), self->minima[q][p] = kv_kept_half(grids + 2);
    }
    for (uint32_t p = 0; p < self->n_pairs; p++)
        for (uint32_t i = 0; i < 1u << self->bits[ANGLE]; i++) {
            double cosine, sine;
            kv_cos_sin((double)self->steps[ANGLE][p] * (i + 0.5) + self->minima[ANGLE][p], &cosine,
                       &sine);
            const size_t at = ((size_t)p << self->bits[ANGLE]) + i;
            self->cosines[at] = (float)cosine, self->sines[at] = (float)sine;
        }
}

static void decode_keys(const struct polar_code *self, const uint8_t *atom, uint32_t first,
                        uint32_t n, float *out)
{
    open_atom(self, atom);
    for (uint32_t t = 0; t < self->code.block; t++, out += n)
        for (uint32_t p = 0; p < self->n_pairs; p++) {
            const size_t at = (size_t)t * self->n_pairs + p;
            const size_t angle = ((size_t)p << self->bits[ANGLE]) + self->codes[ANGLE][at];
            const float radius = self->steps[RADIUS][p] * ((float)self->codes[RADIUS][at] + 0.5f) +
                                 self->minima[RADIUS][p];
            const uint32_t x = self->x[p] - first, y = self->y[p] - first;
            if (self->x[p] >= first && x < n) out[x] = radius * self->cosines[angle];
            if (self->y[p] != ALONE && self->y[p] >= first && y < n)
                out[y] = radius * self->sines[angle];
        }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct polar_code *self = (const struct polar_code *)code;
    if (self->grid.dim) {
        kv_grid_decode(&self->grid, atoms, n_atoms, first_column, n_columns, out);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_keys(self, atoms + a * kv_atom_bytes(code), first_column, n_columns,
                    out + (size_t)a * code->block * n_columns);
}

const struct kv_codec kv_codec_polar_wu = {
    .name = "polar-wu",
    .summary = "keys as radius and angle of rotary pairs, on grids of their own",
    .paper = "PolarQuant (Wu et al., NeurIPS 2025)",
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .encode = encode,
    .decode = decode};
