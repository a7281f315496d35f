/* gear: grid codes, plus a low-rank approximation of what they lose, plus outliers apart (Kang et
 * al., arXiv 2403.05527; its code opengear-project/GEAR): x_hat = D + L, but S where x is an
 * outlier.
 *
 * A vector is a channel for keys, a token's row for values (KCVT). S: the sparsity/2 largest and
 * smallest of a vector, f16 and index; D: the others (outliers filled by their mean) on the grid of
 * `int`, bits each, one grid a vector; L: of the residual R = X - D (0 at outliers) the `rank`
 * leading right singular directions B [dim][rank], f16, and each row's R B, f16.
 *
 * Prompt rows are one block: the fit finds keys' grids, thresholds (the channel's outliers are what
 * is not between them) and B, all resident; a row's atom is its codes and coefficients. Later rows
 * wait exact and are encoded `buffer` at a time after the answer, each block with its own grids and
 * a B of later_rank.
 *
 * Bytes. Prompt row: payload ceil(bits dim / 8) + 2 rank (values: + 4 n, n outliers at each end);
 * metadata: values 4 + 4 n; keys 2 (count) + 4 an outlier, as many as there are, none at
 * sparsity=0. Basis: 2 dim rank, keys 4 dim. Later block of T rows: ceil(bits T dim / 8) + 2
 * later_rank (T + dim) payload, 4 a vector metadata, 2 + 2 an outlier. sparsity=0 is GEAR-L. n =
 * round(sparsity / 2 * vector), so that a block of 20 has none in its channels at 2 %, as little as
 * the published code.
 *
 * Another backbone is the codec that follows, `gear+kivi:bits=2:group_size=64` (gear-kivi; the
 * paper's 2-bit rows), or any other: D is what that reads back of rows whose outliers are filled.
 * Its block is the prompt's (rows that fill none wait with the later ones), and a later block is
 * `buffer` rows or, if those are not whole blocks of it, the next more that are. It is fitted on
 * the prompt's filled rows and keeps its own sinks, but not its own window: rows wait in the
 * buffer, as in the published code, and bits and grids are its own. Bytes: its atoms in place of
 * codes and grids; keys have no 4 dim of basis, and an atom's one count.
 *
 * Departures: exact eigenvectors where the code takes 3 power iterations; one head is one object
 * (the paper's value vector spans the heads: span=heads says so, and then B does, too); the
 * published code takes bits^2 - 1 for 2^bits - 1; outliers are read as kept, without L on top. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/parts/ends.h"
#include "methods/parts/sort.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_gear;

enum { TOGETHER = 4 }; /* sums, which would wait for themselves */

struct config {
    double sparsity;
    uint32_t bits, rank, later_rank, buffer;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, FIELD(bits), 4, 1, 8, NULL,
     "bits a code of its own grid (no codec follows)"},
    {"rank", KV_PARAM_U32, FIELD(rank), 4, 1, 256, NULL, "directions of the prompt's residual"},
    {"later_rank", KV_PARAM_U32, FIELD(later_rank), 2, 1, 256, NULL,
     "directions of a later block's"},
    {"sparsity", KV_PARAM_REAL, FIELD(sparsity), 0.02, 0, 0.5, NULL,
     "share of values kept in 16 bits; 0: GEAR-L"},
    {"buffer", KV_PARAM_U32, FIELD(buffer), 20, 1, 4096, NULL,
     "later rows that wait exact, and are a block"},
    {0}};

struct gear_code {
    struct kv_code code;
    struct kv_code *inner;  /* the backbone, or NULL: the grid of this file */
    struct gear_code *late; /* of prompt rows: the object of later ones */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    bool keys, prompt, counts; /* counts: an atom says how many outliers it has */
    /* codes_bytes: in front of the coefficients, codes or the backbone's atoms */
    uint32_t bits, rank, per_end, codes_bytes, n_vectors;
    double sparsity;
    float *low, *high, *mean, *step, *base; /* prompt keys: [dim] */
    float *basis;                           /* [rank][dim] */
    double *matrix;                         /* [dim][dim + 1] scratch of eigenvectors */
    float *read, *filled, *rest;            /* [block][dim] D; x with outliers filled; R */
    float *vector;                          /* the longer of block and dim */
    uint8_t *outlying, *codes;              /* [block][dim]; codes 7 more, then marks of a vector */
};

static uint8_t *marks_of(const struct gear_code *self)
{
    return self->codes + (size_t)self->code.block * self->code.dim + 7;
}

/* ---- create ---- */

static uint32_t per_end(double sparsity, uint32_t length)
{
    const uint32_t n = (uint32_t)(0.5 * sparsity * length + 0.5), most = (length - 1) / 2;
    return n < most ? n : most;
}

static int reserve(struct gear_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->sizes_only) return KV_OK;
    const size_t dim = self->code.dim, n = self->code.block * dim,
                 longest = self->code.block > dim ? self->code.block : dim;
    float *floats = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                    (3 * n + longest + (5 + self->rank) * dim) * sizeof *floats);
    self->matrix =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, dim * (dim + 1) * sizeof *self->matrix);
    self->outlying = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * n + 7 + longest);
    if (!floats || !self->matrix || !self->outlying)
        return kv_fail(err, KV_EMEMORY, "gear: no memory for %u rows of %u", self->code.block,
                       self->code.dim);
    self->read = floats, self->filled = floats + n, self->rest = floats + 2 * n,
    self->vector = floats + 3 * n;
    self->low = self->vector + longest, self->high = self->low + dim, self->mean = self->high + dim;
    self->step = self->mean + dim, self->base = self->step + dim, self->basis = self->base + dim;
    self->codes = self->outlying + n;
    return KV_OK;
}

static uint32_t inner_atoms(const struct gear_code *self)
{
    return self->inner ? self->code.block / self->inner->block : 0;
}

/* Of places that an atom keeps, in metadata. */
static uint32_t places_bytes(const struct gear_code *self)
{
    if (self->counts) return 2 + 4 * self->code.block * self->code.dim;
    return 4 * self->per_end * self->n_vectors;
}

static void set_bytes(struct gear_code *self)
{
    const uint32_t dim = self->code.dim, block = self->code.block, atoms = inner_atoms(self);
    const uint32_t codes = atoms ? atoms * self->inner->payload_bytes
                                 : kv_packed_bytes((size_t)block * dim, self->bits);
    const uint32_t grids = atoms ? atoms * self->inner->metadata_bytes : 4 * self->n_vectors;
    self->codes_bytes = atoms ? codes + grids : codes;
    self->code.payload_bytes = codes + 2 * self->rank * (block + (self->prompt ? 0 : dim)) +
                               4 * self->per_end * self->n_vectors;
    self->code.metadata_bytes = grids + places_bytes(self);
}

/* Rows of a block: of the backbone's, or for later rows as many of those as fill the buffer. */
static uint32_t block_of(const struct config *config, const struct kv_code *inner, bool prompt)
{
    const uint32_t unit = inner ? inner->block : 1;
    return prompt ? unit : (config->buffer + unit - 1) / unit * unit;
}

static int make(struct gear_code **out, const struct kv_setup *setup, struct kv_code *inner,
                bool prompt, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct gear_code *self = *out = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "gear: no memory");
    const uint32_t dim = setup->dim, block = block_of(config, inner, prompt),
                   rank = prompt ? config->rank : config->later_rank;
    *self = (struct gear_code){.inner = inner,
                               .kernels = setup->kernels,
                               .pool = setup->pool,
                               .keys = setup->side == KV_KEYS,
                               .prompt = prompt,
                               .bits = config->bits,
                               .rank = rank < dim ? rank : dim,
                               .sparsity = config->sparsity};
    self->n_vectors = !self->keys ? block : prompt ? 0 : dim;
    self->per_end = self->keys && prompt ? 0 : per_end(config->sparsity, self->keys ? block : dim);
    self->counts = self->keys && prompt && self->sparsity > 0;
    self->code = (struct kv_code){.dim = dim, .block = block};
    self->code.tiers = (struct kv_tiers){.flush = block, .coded_at_once = prompt};
    if (inner) self->code.tiers.sinks = inner->tiers.sinks;
    set_bytes(self);
    return reserve(self, setup, err);
}

static const struct kv_codec steady, blocks, varied_blocks;

/* The backbone that follows, and whether atoms of this size can tell their places. */
static int make_inner(struct kv_code **inner, const struct kv_setup *setup, struct kv_error *err)
{
    *inner = NULL;
    const int status =
        setup->rest ? kv_create_code(inner, setup->rest, setup, setup->dim, err) : KV_OK;
    if (status || !*inner || (uint64_t)(*inner)->block * setup->dim <= UINT16_MAX) return status;
    return kv_fail(err, KV_EUNSUPPORTED,
                   "gear: an index of 16 bits cannot tell %u rows of %u columns", (*inner)->block,
                   setup->dim);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct gear_code *self, *late;
    struct kv_code *inner;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "gear: keys go by channel and values by token, a span must not join them");
    if (setup->dim >= UINT16_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "gear: an index of 16 bits cannot tell %u columns",
                       setup->dim);
    int status = make_inner(&inner, setup, err);
    if (!status) status = make(&self, setup, inner, true, err);
    if (!status) status = make(&late, setup, inner, false, err);
    if (status) return status;
    const bool varied = inner && inner->type->used;
    self->code.type = self->counts || varied ? &kv_codec_gear : &steady;
    late->code.type = varied ? &varied_blocks : &blocks;
    self->late = late;
    *out = &self->code;
    return KV_OK;
}

static struct kv_code *later(const struct kv_code *code)
{
    return &((const struct gear_code *)code)->late->code;
}

/* ---- D and S: one vector at a time ---- */

/* vector[n] with what is marked filled by the mean of the others. */
static void fill(const struct gear_code *self, uint32_t n)
{
    const uint8_t *one = marks_of(self);
    double sum = 0;
    uint32_t others = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!one[i]) sum += self->vector[i], others++;
    const float mean = (float)(sum / (others ? others : 1));
    for (uint32_t i = 0; i < n; i++)
        if (one[i]) self->vector[i] = mean;
}

/* Vector v of the block: n values `stride` apart; its grid at `grid`, its codes, D and marks in
 * place. */
static void code_vector(struct gear_code *self, const float *rows, size_t first, size_t stride,
                        uint32_t n, uint8_t *grid)
{
    const struct kv_kernels *kernels = self->kernels;
    float min, max, *vector = self->vector;
    uint8_t *one = marks_of(self); /* marks, then codes */
    for (uint32_t i = 0; i < n; i++) vector[i] = rows[first + i * stride];
    kv_mark_ends(kernels, vector, n, self->per_end, one);
    fill(self, n);
    kernels->min_max(vector, n, &min, &max);
    const float step = kv_keep_half(grid, (max - min) / (float)((1u << self->bits) - 1)),
                base = kv_keep_half(grid + 2, min);
    for (uint32_t i = 0; i < n; i++) self->outlying[first + i * stride] = one[i];
    kernels->grid_encode(vector, n, base, step, 1u << self->bits, one);
    kernels->grid_decode(one, n, base, step, vector);
    for (uint32_t i = 0; i < n; i++) {
        self->codes[first + i * stride] = one[i];
        self->read[first + i * stride] = vector[i];
    }
}

/* A prompt row of keys by the thresholds that the fit found. */
static void fill_key(const struct gear_code *self, const float *restrict row,
                     uint8_t *restrict outlying, float *restrict filled)
{
    const uint32_t dim = self->code.dim;
    const float *restrict low = self->low, *restrict high = self->high, *restrict mean = self->mean;
    for (uint32_t c = 0; c < dim; c++) outlying[c] = (row[c] <= low[c]) | (row[c] >= high[c]);
    for (uint32_t c = 0; c < dim; c++) {
        const float x = row[c], instead = mean[c];
        filled[c] = ((x <= low[c]) | (x >= high[c])) ? instead : x;
    }
}

/* And by the grids. */
static void code_key(struct gear_code *self, const float *row)
{
    const uint32_t dim = self->code.dim;
    fill_key(self, row, self->outlying, self->vector);
    self->kernels->channel_encode(self->vector, dim, self->base, self->step, 1u << self->bits,
                                  self->codes);
    self->kernels->channel_decode(self->codes, dim, self->base, self->step, self->read);
}

/* A vector with its outliers marked and filled, in the block's places. */
static void fill_vector(struct gear_code *self, const float *rows, size_t first, size_t stride,
                        uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) self->vector[i] = rows[first + i * stride];
    kv_mark_ends(self->kernels, self->vector, n, self->per_end, marks_of(self));
    fill(self, n);
    for (uint32_t i = 0; i < n; i++) {
        self->outlying[first + i * stride] = marks_of(self)[i];
        self->filled[first + i * stride] = self->vector[i];
    }
}

/* A row of the prompt as the backbone's fit sees it. */
static void fill_row(const struct kv_code *code, const float *row, float *filled)
{
    struct gear_code *self = (struct gear_code *)code;
    if (self->keys)
        fill_key(self, row, self->outlying, filled);
    else
        fill_vector(self, row, 0, 1, code->dim),
            memcpy(filled, self->filled, code->dim * sizeof *row);
}

/* Marks and D of a block by the backbone, whose atoms are left. */
static void code_inner(struct gear_code *self, const float *rows, uint8_t *atoms)
{
    const struct kv_code *inner = self->inner;
    const uint32_t dim = self->code.dim, block = self->code.block, n = inner_atoms(self);
    if (self->keys && !self->prompt)
        for (uint32_t c = 0; c < dim; c++) fill_vector(self, rows, c, dim, block);
    else
        for (size_t at = 0; at < (size_t)block * dim; at += dim) {
            if (self->keys)
                fill_key(self, rows + at, self->outlying + at, self->filled + at);
            else
                fill_vector(self, rows, at, 1, dim);
        }
    for (uint32_t a = 0; a < n; a++)
        inner->type->encode(self->inner, self->filled + (size_t)a * inner->block * dim,
                            atoms + a * kv_atom_bytes(inner));
    inner->type->decode(inner, atoms, n, 0, dim, self->read);
}

/* Codes, D, marks and R of a block; at `grids` those of vectors that have their own, or the
 * backbone's atoms. */
static void code_rows(struct gear_code *self, const float *rows, uint8_t *grids)
{
    const uint32_t dim = self->code.dim, block = self->code.block;
    if (self->inner)
        code_inner(self, rows, grids);
    else if (self->keys && self->prompt)
        code_key(self, rows);
    else if (self->keys)
        for (uint32_t c = 0; c < dim; c++)
            code_vector(self, rows, c, dim, block, grids + 4 * (size_t)c);
    else
        for (uint32_t t = 0; t < block; t++)
            code_vector(self, rows, (size_t)t * dim, 1, dim, grids + 4 * (size_t)t);
    const size_t n = (size_t)block * dim;
    const float *restrict read = self->read;
    const uint8_t *restrict outlying = self->outlying;
    float *restrict rest = self->rest;
    for (size_t i = 0; i < n; i++) {
        const float x = rows[i], y = read[i];
        rest[i] = (outlying[i] ? y : x) - y;
    }
}

/* ---- L ---- */

static void add_gram(struct gear_code *self)
{
    const uint32_t dim = self->code.dim;
    for (uint32_t t = 0; t < self->code.block; t++) {
        const float *rest = self->rest + (size_t)t * dim;
        for (uint32_t r = 0; r < dim; r++)
            for (uint32_t c = 0; c < dim; c++)
                self->matrix[(size_t)r * dim + c] += (double)rest[r] * rest[c];
    }
}

static int find_basis(struct gear_code *self, struct kv_error *err)
{
    const uint32_t dim = self->code.dim;
    const int status = kv_eigen_symmetric(self->matrix, dim, self->matrix + (size_t)dim * dim, err);
    for (size_t i = 0; i < (size_t)self->rank * dim; i++)
        self->basis[i] = status ? 0 : kv_half_to_float(kv_finite_half((float)self->matrix[i]));
    return status;
}

/* ---- fit: of the prompt ---- */

static void fit_channel(struct gear_code *self, const float *rows, uint32_t n, uint32_t c,
                        float *column)
{
    const uint32_t count = per_end(self->sparsity, n), dim = self->code.dim;
    double sum = 0;
    uint32_t others = 0;
    float min = INFINITY, max = -INFINITY;
    for (uint32_t t = 0; t < n; t++) column[t] = rows[(size_t)t * dim + c];
    kv_sort_floats(column, n);
    self->low[c] = count ? column[count - 1] : -INFINITY,
    self->high[c] = count ? column[n - count] : INFINITY;
    for (uint32_t t = 0; t < n; t++) {
        const float x = rows[(size_t)t * dim + c];
        if (x <= self->low[c] || x >= self->high[c]) continue;
        sum += x, others++;
        min = x < min ? x : min, max = x > max ? x : max;
    }
    self->mean[c] = (float)(sum / (others ? others : 1));
    if (!others) min = max = 0;
    uint8_t grid[4];
    self->step[c] = kv_keep_half(grid, (max - min) / (float)((1u << self->bits) - 1));
    self->base[c] = kv_keep_half(grid, min);
}

static int fit_inner(struct gear_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    if (!self->inner) return KV_OK;
    const int status = kv_fit_inner(&self->code, self->inner, sample, fill_row, KV_MAP_SHIFT, err);
    set_bytes(self), set_bytes(self->late);
    return status;
}

/* B of what whole blocks of the prompt lose. */
static int fit_basis(struct gear_code *self, const struct kv_sample *sample, uint8_t *grids,
                     struct kv_error *err)
{
    const uint32_t dim = self->code.dim, block = self->code.block;
    memset(self->matrix, 0, (size_t)dim * dim * sizeof *self->matrix);
    for (uint32_t t = 0; t + block <= sample->n; t += block) {
        code_rows(self, sample->rows + (size_t)t * dim, grids);
        add_gram(self);
    }
    return find_basis(self, err);
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct gear_code *self = (struct gear_code *)code;
    const uint32_t dim = code->dim;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE,
                   2 * (int64_t)dim * self->rank +
                       (self->keys && !self->inner ? 4 * (int64_t)dim : 0));
    if (sample->sizes_only) return fit_inner(self, sample, err);
    float *column = malloc((sample->n + 1) * sizeof *column);
    for (uint32_t c = 0; column && self->keys && c < dim; c++)
        fit_channel(self, sample->rows, sample->n, c, column);
    free(column);
    int status = column ? fit_inner(self, sample, err) : KV_EMEMORY;
    if (status && column) return status;
    uint8_t *grids = column ? malloc(kv_atom_bytes(code) + 4) : NULL;
    if (!grids) return kv_fail(err, KV_EMEMORY, "gear: no memory for a channel");
    status = fit_basis(self, sample, grids, err);
    free(grids);
    return status;
}

/* ---- encode: codes, coefficients, [B], outliers' values | grids, [count,] outliers' places ----
 */

/* Some coefficients of a row beside each other, each a sum over the columns in their order. */
static void project(const struct gear_code *self, const float *rest, uint32_t first, uint32_t n,
                    double sums[TOGETHER])
{
    const uint32_t dim = self->code.dim;
    const float *basis[TOGETHER];
    for (uint32_t k = 0; k < TOGETHER; k++) {
        basis[k] = self->basis + (size_t)(first + (k < n ? k : 0)) * dim;
        sums[k] = 0;
    }
    for (uint32_t c = 0; c < dim; c++)
        for (uint32_t k = 0; k < TOGETHER; k++) sums[k] += (double)rest[c] * basis[k][c];
}

static uint8_t *keep_factors(struct gear_code *self, uint8_t *at)
{
    const uint32_t dim = self->code.dim;
    for (uint32_t t = 0; t < self->code.block; t++)
        for (uint32_t first = 0; first < self->rank; first += TOGETHER) {
            const uint32_t left = self->rank - first, n = left < TOGETHER ? left : TOGETHER;
            double sums[TOGETHER];
            project(self, self->rest + (size_t)t * dim, first, n, sums);
            for (uint32_t k = 0; k < n; k++, at += 2) kv_keep_half(at, (float)sums[k]);
        }
    for (size_t i = 0; !self->prompt && i < (size_t)self->rank * dim; i++, at += 2)
        kv_keep_half(at, self->basis[i]);
    return at;
}

static void keep_outliers(const struct gear_code *self, const float *rows, uint8_t *values,
                          uint8_t *places)
{
    const uint32_t dim = self->code.dim;
    uint16_t count = 0;
    uint8_t *start = places;
    if (self->counts) places += 2;
    /* Vector by vector: a channel's outliers tell their token, a row's their column; where
     * they are counted, their place in the block. */
    const bool channels = self->keys && !self->prompt, counted = self->counts;
    const uint32_t length = channels ? self->code.block : dim, stride = channels ? dim : 1;
    for (uint32_t v = 0; v < (channels ? dim : self->code.block); v++) {
        const size_t first = channels ? v : (size_t)v * dim;
        for (uint32_t i = 0; i < length; i++) {
            if (!channels) i = kv_next_marked(self->outlying + first, i, length);
            const size_t at = first + (size_t)i * stride;
            if (i >= length || !self->outlying[at]) continue;
            const uint16_t place = (uint16_t)(counted ? (size_t)v * dim + i : i);
            uint8_t *value = counted ? places : values, *told = counted ? places + 2 : places;
            kv_keep_half(value, rows[at]);
            memcpy(told, &place, sizeof place);
            places += counted ? 4 : 2, values += counted ? 0 : 2, count++;
        }
    }
    if (self->counts) memcpy(start, &count, sizeof count);
}

static uint8_t *places_of(const struct gear_code *self, const uint8_t *atom)
{
    return (uint8_t *)atom + kv_atom_bytes(&self->code) - places_bytes(self);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct gear_code *self = (struct gear_code *)code;
    code_rows(self, rows, self->inner ? atom : atom + code->payload_bytes);
    if (!self->prompt) {
        memset(self->matrix, 0, (size_t)code->dim * code->dim * sizeof *self->matrix);
        add_gram(self);
        find_basis(self, NULL);
    }
    if (!self->inner)
        self->kernels->pack_bits(self->codes, (size_t)code->block * code->dim, self->bits, atom);
    uint8_t *values = keep_factors(self, atom + self->codes_bytes);
    if (self->per_end || self->counts) keep_outliers(self, rows, values, places_of(self, atom));
}

static uint32_t count_of(const struct gear_code *self, const uint8_t *atom)
{
    uint16_t count;
    memcpy(&count, places_of(self, atom), sizeof count);
    return count <= self->code.block * self->code.dim ? count : 0;
}

/* Bytes of the count and what it counts. */
static uint32_t counted_bytes(const struct gear_code *self, const uint8_t *atom)
{
    if (!self->counts) return places_bytes(self);
    if (!atom) return 2 + 4 * (uint32_t)(self->sparsity * self->code.block * self->code.dim + 0.5);
    return 2 + (atom == kv_smallest_atom ? 0 : 4 * count_of(self, atom));
}

static uint32_t used(const struct kv_code *code, const uint8_t *atom)
{
    const struct gear_code *self = (const struct gear_code *)code;
    const bool real = atom && atom != kv_smallest_atom;
    uint32_t bytes = counted_bytes(self, atom);
    if (!self->inner) return bytes + 4 * self->n_vectors;
    for (uint32_t a = 0; a < inner_atoms(self); a++)
        bytes += kv_metadata_used(self->inner, real ? atom + a * kv_atom_bytes(self->inner) : atom);
    return bytes;
}

/* ---- decode ---- */

static void decode_grid(const struct gear_code *self, const uint8_t *atom)
{
    const uint32_t dim = self->code.dim;
    const struct kv_kernels *kernels = self->kernels;
    const uint8_t *grids = atom + self->code.payload_bytes, *codes = self->codes;
    const bool fitted = self->keys && self->prompt;
    kernels->unpack_bits(atom, (size_t)self->code.block * dim, self->bits, self->codes);
    for (uint32_t c = 0; self->keys && !fitted && c < dim; c++)
        self->step[c] = kv_kept_half(grids + 4 * (size_t)c),
        self->base[c] = kv_kept_half(grids + 4 * (size_t)c + 2);
    for (uint32_t t = 0; t < self->code.block; t++, codes += dim, grids += 4) {
        float *read = self->read + (size_t)t * dim;
        if (self->keys)
            kernels->channel_decode(codes, dim, self->base, self->step, read);
        else
            kernels->grid_decode(codes, dim, kv_kept_half(grids + 2), kv_kept_half(grids), read);
    }
}

static const uint8_t *add_factors(const struct gear_code *self, const uint8_t *at)
{
    const uint32_t dim = self->code.dim, block = self->code.block;
    const uint8_t *own = at + 2 * (size_t)block * self->rank;
    for (size_t i = 0; !self->prompt && i < (size_t)self->rank * dim; i++)
        self->basis[i] = kv_kept_half(own + 2 * i);
    for (uint32_t t = 0; t < block; t++)
        for (uint32_t k = 0; k < self->rank; k++, at += 2) {
            const float coefficient = kv_kept_half(at);
            for (uint32_t c = 0; c < dim; c++)
                self->read[(size_t)t * dim + c] += coefficient * self->basis[(size_t)k * dim + c];
        }
    return at + (self->prompt ? 0 : 2 * (size_t)self->rank * dim);
}

static void put_outliers(const struct gear_code *self, const uint8_t *atom, const uint8_t *values)
{
    const uint32_t dim = self->code.dim, each = 2 * self->per_end;
    const uint32_t n = self->counts ? count_of(self, atom) : each * self->n_vectors;
    const uint8_t *places = places_of(self, atom);
    const bool channels = self->keys && !self->prompt;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t place;
        const uint8_t *value = self->counts ? places + 2 + 4 * i : values + 2 * i;
        memcpy(&place, self->counts ? value + 2 : places + 2 * i, sizeof place);
        const uint32_t vector = self->counts ? place / dim : i / each,
                       within = self->counts ? place % dim : place;
        const uint32_t row = channels ? within : vector, column = channels ? vector : within;
        if (column < dim && row < self->code.block)
            self->read[(size_t)row * dim + column] = kv_kept_half(value);
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct gear_code *self = (const struct gear_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code)) {
        if (self->inner)
            self->inner->type->decode(self->inner, atoms, inner_atoms(self), 0, code->dim,
                                      self->read);
        else
            decode_grid(self, atoms);
        const uint8_t *values = add_factors(self, atoms + self->codes_bytes);
        if (self->per_end || self->counts) put_outliers(self, atoms, values);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns)
            memcpy(out, self->read + (size_t)t * code->dim + first_column, n_columns * sizeof *out);
    }
}

/* Faces: rows of one size (values; keys without outliers); blocks of later rows. */
static const struct kv_codec steady = {
    .name = "gear", .fit = fit, .encode = encode, .decode = decode, .later = later};
static const struct kv_codec blocks = {.name = "gear", .encode = encode, .decode = decode};
static const struct kv_codec varied_blocks = {
    .name = "gear", .encode = encode, .decode = decode, .used = used};

const struct kv_codec kv_codec_gear = {.name = "gear",
                                       .summary = "grid codes, a low-rank residual, outliers apart",
                                       .paper = "GEAR (Kang et al., arXiv 2403.05527)",
                                       .traits = KV_FITS_PROMPT | KV_LEAVES_ROWS | KV_OWN_CODES,
                                       .params = params,
                                       .config_size = sizeof(struct config),
                                       .create = create,
                                       .fit = fit,
                                       .encode = encode,
                                       .decode = decode,
                                       .used = used,
                                       .later = later};
