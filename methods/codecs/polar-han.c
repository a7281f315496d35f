/* polar-han: a random rotation, then each block of 16 as one radius and angles of angles, whose
 * laws are known (PolarQuant, Han et al., arXiv 2502.02617).
 *
 * y = R x. Level 1: 8 pairs (x, y) of a block -> angle in [0, 2 pi), 16 equal cells, and radius.
 * Level l = 2, 3, 4: neighbouring radii (r, s) -> psi = angle of (r, s) in [0, pi/2], 2 bits, and
 * |(r, s)|. One radius a block remains, f16. After R the density of psi is sin^m(2 psi), m =
 * 2^(l-1) - 1: codebook=offline is its Lloyd-Max table; codebook=online is fitted to the prompt's
 * angles (1-D k-means, level 1 stays even). Read back from the top: r_hat = v cos(psi_hat), s_hat =
 * v sin(psi_hat), x = r cos theta.
 *
 * Bytes of a block of 16: 4 (8 angles of 4 bits) + 14 bits (7 angles of 2) payload, each level's
 * kind packed over the row; 2 metadata (radius): 3.875 bits. online: 24 bytes of tables,
 * basis_online. A row that is no multiple of 16 columns is filled up with zeros, which are charged.
 *
 * generated=exact: rows after the prompt stay exact (the paper's); coded: encoded at once like the
 * prompt's. R comes from the seed, the same for all heads
 * and layers: regenerated.
 *
 * Departures: k-means starts from quantiles, not by k-means++; one online table an object (a head
 * and side, or its span), the paper's is one a layer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"
#include "methods/parts/kmeans.h"
#include "methods/parts/rotation.h"
#include "methods/rotary.h"

extern const struct kv_codec kv_codec_polar_han;

enum { BLOCK = 16, PAIRS = 8, UPPER = 7, LEVELS = 3, CELLS = 4, TURN_CELLS = 16, STREAM = 0x504f };
enum rotation { ROTATION_AUTO, ROTATION_HADAMARD, ROTATION_HAAR };

static const double PI = 3.14159265358979323846;

struct config {
    uint32_t rotation, online, coded;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"rotation", KV_PARAM_CHOICE, FIELD(rotation), ROTATION_AUTO, 0, 0, "auto|hadamard|haar",
     "auto: hadamard where the dimension is a power of two, else haar"},
    {"codebook", KV_PARAM_CHOICE, FIELD(online), 0, 0, 0, "offline|online",
     "tables of the angles: by their law, or fitted to the prompt"},
    {"generated", KV_PARAM_CHOICE, FIELD(coded), 0, 0, 0, "exact|coded", "rows after the prompt"},
    {0}};

struct table { /* of one level's angles */
    float thresholds[CELLS - 1];
    float cosines[CELLS], sines[CELLS];
};

struct polar_code {
    struct kv_code code, exact; /* exact: rows after the prompt, never encoded */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    bool later;
    uint32_t n_blocks, first_bytes, upper_bytes;
    struct kv_rotation rotation;
    struct table tables[LEVELS];
    float first_cosines[TURN_CELLS], first_sines[TURN_CELLS];
    float *turned, *row;    /* [n_blocks * 16] each */
    uint8_t *first, *upper; /* [n_blocks][8], [n_blocks][7] codes: levels 2, 3, 4 */
};

static void set_table(struct table *table, const double *angles)
{
    for (int i = 0; i < CELLS; i++) {
        double cosine, sine;
        kv_cos_sin(angles[i], &cosine, &sine);
        table->cosines[i] = (float)cosine, table->sines[i] = (float)sine;
        if (i) table->thresholds[i - 1] = (float)((angles[i - 1] + angles[i]) / 2);
    }
}

/* Lloyd-Max of sin^m(2 psi): k-means of many points of that density. */
static int make_tables(struct polar_code *self, struct kv_error *err)
{
    enum { POINTS = 16384 };
    struct kv_weighted *points = malloc(POINTS * (sizeof *points + sizeof(double)));
    if (!points) return kv_fail(err, KV_EMEMORY, "polar-han: no memory for a table");
    double *sines = (double *)(points + POINTS), cosine;
    for (int i = 0; i < POINTS; i++) kv_cos_sin((i + 0.5) * (PI / POINTS), &cosine, sines + i);
    for (int level = 0; level < LEVELS; level++) {
        double angles[CELLS];
        for (int i = 0; i < POINTS; i++) {
            double weight = 1;
            for (int k = 0; k < (2 << level) - 1; k++) weight *= sines[i];
            points[i] =
                (struct kv_weighted){.value = (i + 0.5) * (PI / 2 / POINTS), .weight = weight};
        }
        kv_kmeans(points, POINTS, CELLS, angles);
        set_table(&self->tables[level], angles);
    }
    free(points);
    return KV_OK;
}

static int make_rotation(struct polar_code *self, const struct kv_setup *setup,
                         struct kv_error *err)
{
    const uint32_t dim = setup->dim, kind = ((const struct config *)setup->config)->rotation;
    const bool power = !(dim & (dim - 1)) && dim <= 4096;
    const bool hadamard = kind == ROTATION_HADAMARD || (kind == ROTATION_AUTO && power);
    return kv_rotation_create(&self->rotation, setup, dim,
                              hadamard ? KV_ROTATE_HADAMARD : KV_ROTATE_HAAR,
                              kv_rng_stream(setup->seed, STREAM, 0, dim), err);
}

static int reserve(struct polar_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const size_t n = (size_t)self->n_blocks * BLOCK;
    self->turned = kv_pool_reserve(setup->pool, KV_WORKSPACE, n * sizeof(float));
    self->row = kv_pool_reserve(setup->pool, KV_WORKSPACE, n * sizeof(float));
    self->first = kv_pool_reserve(setup->pool, KV_WORKSPACE, n);
    self->upper = kv_pool_reserve(setup->pool, KV_WORKSPACE, n);
    if (!self->turned || !self->row || !self->first || !self->upper)
        return kv_fail(err, KV_EMEMORY, "polar-han: no memory for rows of %u", setup->dim);
    return KV_OK;
}

static const struct kv_codec law, never;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct polar_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "polar-han: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool, self->later = !config->coded;
    self->n_blocks = (setup->dim + BLOCK - 1) / BLOCK;
    self->first_bytes = self->n_blocks * PAIRS / 2;
    self->upper_bytes = kv_packed_bytes((size_t)self->n_blocks * UPPER, 2);
    for (int i = 0; i < TURN_CELLS; i++) {
        double cosine, sine;
        kv_cos_sin((i + 0.5) * (2 * PI / TURN_CELLS), &cosine, &sine);
        self->first_cosines[i] = (float)cosine, self->first_sines[i] = (float)sine;
    }
    int status = make_rotation(self, setup, err);
    if (!status) status = reserve(self, setup, err);
    if (!status) status = make_tables(self, err);
    self->code = (struct kv_code){.type = config->online ? &kv_codec_polar_han : &law,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = self->first_bytes + self->upper_bytes,
                                  .metadata_bytes = 2 * self->n_blocks,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    self->exact = self->code;
    self->exact.type = &never;
    self->exact.tiers = (struct kv_tiers){.flush = UINT32_MAX};
    *out = &self->code;
    return status;
}

static struct kv_code *later(const struct kv_code *code)
{
    struct polar_code *self = (struct polar_code *)code;
    return self->later ? &self->exact : NULL;
}

static void turn(const struct polar_code *self, const float *x)
{
    memset(self->turned, 0, (size_t)self->n_blocks * BLOCK * sizeof(float));
    kv_rotation_apply(&self->rotation, x, self->turned);
}

enum { TOGETHER = 8 }; /* blocks */

/* Angles of some blocks, level by level: 8 of each, then 4, 2 and 1 of each; radii of the blocks.
 */
struct levels {
    double first[TOGETHER * PAIRS], upper[LEVELS][TOGETHER * PAIRS / 2], radii[TOGETHER * PAIRS];
};

/* Neighbours of radii [2 n] are the pairs of the next level. */
static void next_level(const struct kv_kernels *kernels, uint32_t n, double *radii, double *angles)
{
    double r[TOGETHER * PAIRS / 2], s[TOGETHER * PAIRS / 2];
    for (uint32_t i = 0; i < n; i++) r[i] = radii[2 * i], s[i] = radii[2 * i + 1];
    kernels->polar(r, s, n, radii, angles);
}

static void levels_of(const struct polar_code *self, uint32_t block, uint32_t blocks,
                      struct levels *levels)
{
    const float *turned = self->turned + (size_t)block * BLOCK;
    double x[TOGETHER * PAIRS], y[TOGETHER * PAIRS];
    const uint32_t n = blocks * PAIRS;
    for (uint32_t i = 0; i < n; i++) x[i] = turned[2 * i], y[i] = turned[2 * i + 1];
    self->kernels->polar(x, y, n, levels->radii, levels->first);
    for (int level = 0; level < LEVELS; level++)
        next_level(self->kernels, n >> (level + 1), levels->radii, levels->upper[level]);
}

/* Which table serves upper angle i: 4 of the first, 2 of the second, 1 of the third. */
static int level_of(int i)
{
    return i < 4 ? 0 : i < 6 ? 1 : 2;
}

/* How many angles of a level a block has, and where they begin among its upper ones. */
static uint32_t in_level(int level)
{
    return 4u >> level;
}

static uint32_t before_level(int level)
{
    return level == 0 ? 0 : level == 1 ? 4 : 6;
}

/* ---- codes without angles ----
 *
 * A code asks only on which side of a threshold an angle lies, and an angle to a few millionths
 * mostly tells. Where it does not, the angle itself is made. */

struct near {
    float angles[TOGETHER * PAIRS], sizes[TOGETHER * PAIRS];
};

/* What is cut off is the floor, since no angle is below 0. */
static uint8_t turn_code(double angle)
{
    const double cell = angle * (TURN_CELLS / (2 * PI));
    return (uint8_t)(cell < TURN_CELLS ? cell : TURN_CELLS - 1);
}

/* Codes of all angles that are a little larger, and a little smaller: where they differ, or the angle is
 * none, the code is in doubt. Those of the first level are one more, so that the ends of the turn are
 * edges as well. */
static void near_codes(const struct polar_code *self, const struct near *near, uint32_t n,
                       const struct table *table, uint8_t *codes, uint8_t *doubts)
{
    const struct kv_kernels *kernels = self->kernels;
    const float width = (float)(2 * PI / TURN_CELLS);
    float least, most, below[CELLS - 1], above[CELLS - 1];
    kernels->min_max(near->sizes, n, &least, &most);
    if (table) {
        for (int i = 0; i < CELLS - 1; i++)
            below[i] = table->thresholds[i] - KV_NEAR_ANGLE,
            above[i] = table->thresholds[i] + KV_NEAR_ANGLE;
        kernels->bucket(near->angles, n, below, CELLS - 1, codes);
        kernels->bucket(near->angles, n, above, CELLS - 1, doubts);
    } else {
        const float zero = -width / 2;
        kernels->grid_encode(near->angles, n, zero - KV_NEAR_ANGLE, width, TURN_CELLS + 2, codes);
        kernels->grid_encode(near->angles, n, zero + KV_NEAR_ANGLE, width, TURN_CELLS + 2, doubts);
    }
    for (uint32_t i = 0; i < n; i++) doubts[i] = codes[i] != doubts[i];
    for (uint32_t i = 0; !table && i < n; i++) codes[i] = (uint8_t)(codes[i] - 1) & (TURN_CELLS - 1);
    for (uint32_t i = 0; !(least > KV_LEAST_SIZE) && i < n; i++)
        doubts[i] |= !(near->sizes[i] > KV_LEAST_SIZE);
}

/* Codes of n pairs: by a level's table, or NULL for those of the first. usual: below 2^100. */
static void encode_pairs(const struct polar_code *self, const double *x, const double *y,
                         uint32_t n, const struct table *table, bool usual, uint8_t *codes)
{
    struct near near;
    uint8_t doubts[TOGETHER * PAIRS];
    if (usual) self->kernels->near_angles(x, y, n, near.angles, near.sizes);
    if (!usual)
        memset(doubts, 1, n);
    else
        near_codes(self, &near, n, table, codes, doubts);
    for (uint32_t i = 0; (i = kv_next_marked(doubts, i, n)) < n; i++) {
        double radius, angle;
        self->kernels->polar(x + i, y + i, 1, &radius, &angle);
        const float psi = (float)angle;
        if (table)
            self->kernels->bucket(&psi, 1, table->thresholds, CELLS - 1, codes + i);
        else
            codes[i] = turn_code(angle);
    }
}

/* Codes and radii of some blocks. */
static void encode_blocks(const struct polar_code *self, uint32_t block, uint32_t blocks,
                          uint8_t *kept)
{
    const float *turned = self->turned + (size_t)block * BLOCK;
    double x[TOGETHER * PAIRS], y[TOGETHER * PAIRS], radii[TOGETHER * PAIRS];
    uint8_t codes[TOGETHER * PAIRS / 2], *upper = self->upper + block * UPPER;
    uint32_t n = blocks * PAIRS;
    const bool usual = kv_largest(self->kernels, turned, 2 * (size_t)n) < 0x1p90f;
    for (uint32_t i = 0; i < n; i++) x[i] = turned[2 * i], y[i] = turned[2 * i + 1];
    self->kernels->polar(x, y, n, radii, NULL);
    encode_pairs(self, x, y, n, NULL, usual, self->first + block * PAIRS);
    for (int level = 0; level < LEVELS; level++) {
        const uint32_t each = in_level(level);
        n = blocks * each;
        for (uint32_t i = 0; i < n; i++) x[i] = radii[2 * i], y[i] = radii[2 * i + 1];
        self->kernels->polar(x, y, n, radii, NULL);
        encode_pairs(self, x, y, n, &self->tables[level], usual, codes);
        for (uint32_t b = 0; b < blocks; b++)
            memcpy(upper + b * UPPER + before_level(level), codes + b * each, each);
    }
    for (uint32_t b = 0; b < blocks; b++) kv_keep_half(kept + 2 * (block + b), (float)radii[b]);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct polar_code *self = (struct polar_code *)code;
    turn(self, rows);
    for (uint32_t b = 0; b < self->n_blocks; b += TOGETHER) {
        const uint32_t left = self->n_blocks - b;
        encode_blocks(self, b, left < TOGETHER ? left : TOGETHER, atom + code->payload_bytes);
    }
    self->kernels->pack_bits(self->first, (size_t)self->n_blocks * PAIRS, 4, atom);
    self->kernels->pack_bits(self->upper, (size_t)self->n_blocks * UPPER, 2,
                             atom + self->first_bytes);
}

static void decode_block(const struct polar_code *self, uint32_t b, float radius, float *out)
{
    const uint8_t *upper = self->upper + b * UPPER, *first = self->first + b * PAIRS;
    float radii[PAIRS] = {radius};
    for (int n = 1, at = UPPER - 1; n <= PAIRS / 2; at -= 2 * n, n *= 2)
        for (int i = n - 1; i >= 0; i--) {
            const struct table *table = &self->tables[level_of(at)];
            const float r = radii[i];
            radii[2 * i] = r * table->cosines[upper[at + i]];
            radii[2 * i + 1] = r * table->sines[upper[at + i]];
        }
    for (int i = 0; i < PAIRS; i++) {
        out[2 * i] = radii[i] * self->first_cosines[first[i]];
        out[2 * i + 1] = radii[i] * self->first_sines[first[i]];
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct polar_code *self = (const struct polar_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code), out += n_columns) {
        self->kernels->unpack_bits(atoms, (size_t)self->n_blocks * PAIRS, 4, self->first);
        self->kernels->unpack_bits(atoms + self->first_bytes, (size_t)self->n_blocks * UPPER, 2,
                                   self->upper);
        for (uint32_t b = 0; b < self->n_blocks; b++)
            decode_block(self, b, kv_kept_half(atoms + code->payload_bytes + 2 * b),
                         self->turned + (size_t)b * BLOCK);
        kv_rotation_undo(&self->rotation, self->turned, self->row);
        memcpy(out, self->row + first_column, n_columns * sizeof *out);
    }
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct polar_code *self = (struct polar_code *)code;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * LEVELS * CELLS);
    if (sample->sizes_only) return KV_OK;
    const size_t blocks = (size_t)sample->n * self->n_blocks;
    struct kv_weighted *points = malloc((blocks * UPPER + 1) * sizeof *points);
    if (!points) return kv_fail(err, KV_EMEMORY, "polar-han: no memory for the prompt's angles");
    for (size_t i = 0; i < blocks; i++) {
        struct levels levels;
        if (i % self->n_blocks == 0) turn(self, sample->rows + i / self->n_blocks * code->dim);
        levels_of(self, (uint32_t)(i % self->n_blocks), 1, &levels);
        /* Level by level: 4 blocks' worth, then 2, then 1. */
        for (int level = 0; level < LEVELS; level++)
            for (uint32_t a = 0; a < in_level(level); a++)
                points[before_level(level) * blocks + i * in_level(level) + a] =
                    (struct kv_weighted){.value = levels.upper[level][a], .weight = 1};
    }
    for (int level = 0; blocks && level < LEVELS; level++) {
        double angles[CELLS];
        kv_kmeans(points + before_level(level) * blocks, blocks * in_level(level), CELLS, angles);
        for (int i = 0; i < CELLS; i++)
            angles[i] = kv_half_to_float(kv_float_to_half((float)angles[i]));
        set_table(&self->tables[level], angles);
    }
    free(points);
    return KV_OK;
}

/* The face of tables by law, which need no prompt; and of rows that are never encoded. */
static const struct kv_codec law = {
    .name = "polar-han", .traits = KV_RANDOM, .encode = encode, .decode = decode, .later = later};
static const struct kv_codec never = {
    .name = "polar-han", .traits = KV_RANDOM, .encode = encode, .decode = decode};

const struct kv_codec kv_codec_polar_han = {
    .name = "polar-han",
    .summary = "random rotation, then a radius and angles of angles of blocks of 16",
    .paper = "PolarQuant (Han et al., arXiv 2502.02617)",
    .traits = KV_RANDOM,
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .later = later};
