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
 * Departures: exact eigenvectors where the code takes 3 power iterations; one head is one object
 * (the paper's value vector spans the heads: span=heads says so, and then B does, too); the
 * published code takes bits^2 - 1 for 2^bits - 1; outliers are read as kept, without L on top. The
 * 2-bit backbone by KIVI's groups is not here: bits=2 is KCVT at 2 bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/parts/ends.h"
#include "methods/parts/sort.h"

extern const struct kv_codec kv_codec_gear;

enum { TOGETHER = 4 }; /* sums, which would wait for themselves */

struct config {
    double sparsity;
    uint32_t bits, rank, later_rank, buffer;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, FIELD(bits), 4, 1, 8, NULL, "bits a code"},
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
    struct gear_code *late; /* of prompt rows: the object of later ones */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    bool keys, prompt;
    uint32_t bits, rank, per_end, codes_bytes, n_vectors;
    double sparsity;
    float *low, *high, *mean, *step, *base; /* prompt keys: [dim] */
    float *basis;                           /* [rank][dim] */
    double *matrix;                         /* [dim][dim + 1] scratch of eigenvectors */
    float *read, *filled, *rest;            /* [block][dim] D; x with outliers filled; R */
    float *vector;                          /* the longer of block and dim */
    uint8_t *outlying, *codes, *one;        /* [block][dim] (codes 7 more); [vector] */
};

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
    self->codes = self->outlying + n, self->one = self->codes + n + 7;
    return KV_OK;
}

static int make(struct gear_code **out, const struct kv_setup *setup, bool prompt,
                struct kv_error *err)
{
    const struct config *config = setup->config;
    struct gear_code *self = *out = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "gear: no memory");
    const uint32_t dim = setup->dim, block = prompt ? 1 : config->buffer,
                   rank = prompt ? config->rank : config->later_rank;
    *self = (struct gear_code){.kernels = setup->kernels,
                               .pool = setup->pool,
                               .keys = setup->side == KV_KEYS,
                               .prompt = prompt,
                               .bits = config->bits,
                               .rank = rank < dim ? rank : dim,
                               .sparsity = config->sparsity};
    self->codes_bytes = kv_packed_bytes((size_t)block * dim, self->bits);
    self->n_vectors = !self->keys ? block : prompt ? 0 : dim;
    self->per_end = self->keys && prompt ? 0 : per_end(config->sparsity, self->keys ? block : dim);
    const uint32_t kept = 2 * self->per_end * self->n_vectors;
    self->code = (struct kv_code){.dim = dim, .block = block};
    self->code.payload_bytes =
        self->codes_bytes + 2 * self->rank * (block + (prompt ? 0 : dim)) + 2 * kept;
    self->code.metadata_bytes = 4 * self->n_vectors + 2 * kept;
    if (self->keys && prompt && self->sparsity > 0) self->code.metadata_bytes = 2 + 4 * dim;
    self->code.tiers = (struct kv_tiers){.flush = block, .coded_at_once = prompt};
    return reserve(self, setup, err);
}

static const struct kv_codec steady, blocks;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct gear_code *self, *late;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "gear: keys go by channel and values by token, a span must not join them");
    if (setup->dim >= UINT16_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "gear: an index of 16 bits cannot tell %u columns",
                       setup->dim);
    int status = make(&self, setup, true, err);
    if (!status) status = make(&late, setup, false, err);
    if (status) return status;
    self->code.type = self->keys && self->sparsity > 0 ? &kv_codec_gear : &steady;
    late->code.type = &blocks;
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
    double sum = 0;
    uint32_t others = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!self->one[i]) sum += self->vector[i], others++;
    const float mean = (float)(sum / (others ? others : 1));
    for (uint32_t i = 0; i < n; i++)
        if (self->one[i]) self->vector[i] = mean;
}

/* Vector v of the block: n values `stride` apart; its grid at `grid`, its codes, D and marks in
 * place. */
static void code_vector(struct gear_code *self, const float *rows, size_t first, size_t stride,
                        uint32_t n, uint8_t *grid)
{
    const struct kv_kernels *kernels = self->kernels;
    float min, max, *vector = self->vector;
    uint8_t *one = self->one; /* marks, then codes */
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

/* A prompt row of keys, by the grids that the fit found. */
static void code_key(struct gear_code *self, const float *row)
{
    const uint32_t dim = self->code.dim;
    const float *restrict low = self->low, *restrict high = self->high, *restrict mean = self->mean;
    float *restrict vector = self->vector;
    uint8_t *restrict outlying = self->outlying;
    for (uint32_t c = 0; c < dim; c++) outlying[c] = (row[c] <= low[c]) | (row[c] >= high[c]);
    for (uint32_t c = 0; c < dim; c++) {
        const float x = row[c], instead = mean[c];
        vector[c] = ((x <= low[c]) | (x >= high[c])) ? instead : x;
    }
    self->kernels->channel_encode(self->vector, dim, self->base, self->step, 1u << self->bits,
                                  self->codes);
    self->kernels->channel_decode(self->codes, dim, self->base, self->step, self->read);
}

/* Codes, D, marks and R of a block; grids where vectors have their own. */
static void code_rows(struct gear_code *self, const float *rows, uint8_t *grids)
{
    const uint32_t dim = self->code.dim, block = self->code.block;
    if (self->keys && self->prompt)
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

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct gear_code *self = (struct gear_code *)code;
    const uint32_t dim = code->dim;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE,
                   2 * (int64_t)dim * self->rank + (self->keys ? 4 * (int64_t)dim : 0));
    if (sample->sizes_only) return KV_OK;
    float *column = malloc((sample->n + 1) * sizeof *column);
    uint8_t *grids = malloc(4 * (size_t)self->n_vectors + 4);
    if (!column || !grids) {
        free(column), free(grids);
        return kv_fail(err, KV_EMEMORY, "gear: no memory for a channel");
    }
    for (uint32_t c = 0; self->keys && c < dim; c++)
        fit_channel(self, sample->rows, sample->n, c, column);
    memset(self->matrix, 0, (size_t)dim * dim * sizeof *self->matrix);
    for (uint32_t t = 0; t < sample->n; t++) {
        code_rows(self, sample->rows + (size_t)t * dim, grids);
        add_gram(self);
    }
    free(column), free(grids);
    return find_basis(self, err);
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

static bool counts(const struct gear_code *self)
{
    return self->code.type->used != NULL;
}

static void keep_outliers(const struct gear_code *self, const float *rows, uint8_t *values,
                          uint8_t *places)
{
    const uint32_t dim = self->code.dim;
    uint16_t count = 0;
    uint8_t *start = places;
    if (counts(self)) places += 2;
    /* Vector by vector: a channel's outliers tell their token, a row's their column. */
    const bool channels = self->keys && !self->prompt, counted = counts(self);
    const uint32_t length = channels ? self->code.block : dim, stride = channels ? dim : 1;
    for (uint32_t v = 0; v < (channels ? dim : self->code.block); v++) {
        const size_t first = channels ? v : (size_t)v * dim;
        for (uint32_t i = 0; i < length; i++) {
            if (!channels) i = kv_next_marked(self->outlying + first, i, length);
            const size_t at = first + (size_t)i * stride;
            if (i >= length || !self->outlying[at]) continue;
            const uint16_t place = (uint16_t)i;
            uint8_t *value = counted ? places : values, *told = counted ? places + 2 : places;
            kv_keep_half(value, rows[at]);
            memcpy(told, &place, sizeof place);
            places += counted ? 4 : 2, values += counted ? 0 : 2, count++;
        }
    }
    if (counts(self)) memcpy(start, &count, sizeof count);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct gear_code *self = (struct gear_code *)code;
    uint8_t *metadata = atom + code->payload_bytes;
    code_rows(self, rows, metadata);
    if (!self->prompt) {
        memset(self->matrix, 0, (size_t)code->dim * code->dim * sizeof *self->matrix);
        add_gram(self);
        find_basis(self, NULL);
    }
    self->kernels->pack_bits(self->codes, (size_t)code->block * code->dim, self->bits, atom);
    uint8_t *values = keep_factors(self, atom + self->codes_bytes);
    if (self->per_end || counts(self))
        keep_outliers(self, rows, values, metadata + 4 * (size_t)self->n_vectors);
}

static uint32_t count_of(const struct gear_code *self, const uint8_t *atom)
{
    uint16_t count;
    memcpy(&count, atom + self->code.payload_bytes, sizeof count);
    return count <= self->code.dim ? count : 0;
}

static uint32_t used(const struct kv_code *code, const uint8_t *atom)
{
    const struct gear_code *self = (const struct gear_code *)code;
    if (!atom) return 2 + 4 * (uint32_t)(self->sparsity * code->dim + 0.5);
    return 2 + (atom == kv_smallest_atom ? 0 : 4 * count_of(self, atom));
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
    const uint32_t dim = self->code.dim, each = counts(self) ? dim : 2 * self->per_end;
    const uint32_t n = counts(self) ? count_of(self, atom) : each * self->n_vectors;
    const uint8_t *places = atom + self->code.payload_bytes + 4 * (size_t)self->n_vectors;
    const bool channels = self->keys && !self->prompt;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t place;
        const uint8_t *value = counts(self) ? places + 2 + 4 * i : values + 2 * i;
        memcpy(&place, counts(self) ? value + 2 : places + 2 * i, sizeof place);
        const uint32_t vector = i / each, row = channels ? place : vector,
                       column = channels ? vector : place;
        if (column < dim && row < self->code.block)
            self->read[(size_t)row * dim + column] = kv_kept_half(value);
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct gear_code *self = (const struct gear_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code)) {
        decode_grid(self, atoms);
        const uint8_t *values = add_factors(self, atoms + self->codes_bytes);
        if (self->per_end || counts(self)) put_outliers(self, atoms, values);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns)
            memcpy(out, self->read + (size_t)t * code->dim + first_column, n_columns * sizeof *out);
    }
}

/* Faces: rows of one size (values; keys without outliers); blocks of later rows. */
static const struct kv_codec steady = {
    .name = "gear", .fit = fit, .encode = encode, .decode = decode, .later = later};
static const struct kv_codec blocks = {.name = "gear", .encode = encode, .decode = decode};

const struct kv_codec kv_codec_gear = {.name = "gear",
                                       .summary = "grid codes, a low-rank residual, outliers apart",
                                       .paper = "GEAR (Kang et al., arXiv 2403.05527)",
                                       .traits = KV_FITS_PROMPT,
                                       .params = params,
                                       .config_size = sizeof(struct config),
                                       .create = create,
                                       .fit = fit,
                                       .encode = encode,
                                       .decode = decode,
                                       .used = used,
                                       .later = later};
