/* mla: the fit, on keys before rotation; steps 1 and 2 of codecs/mla.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codecs/mla/mla_parts.h"
#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/rotary.h"

/* Directions without energy are none: which they were would be for rounding to say. */
static float entry(double x, double value, double largest)
{
    return value > 1e-12 * largest ? kv_half_to_float(kv_finite_half((float)x)) : 0.0f;
}

struct fitting {
    struct mla_code *self;
    uint32_t n, dim;
    double *rows; /* [n][dim] keys before rotation, less what is kept; or latents as recorded */
    double *matrix, *values;
};

/* The sum of x x^T + y y^T over a group's components, [m][m], m = heads * fold. */
static void add_pairs(const struct fitting *fitting, uint32_t group, double *matrix)
{
    const struct mla_code *self = fitting->self;
    const struct mla_shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    memset(matrix, 0, (size_t)m * m * sizeof *matrix);
    for (uint32_t i = 0; i < fitting->n; i++)
        for (int half = 0; half < 2; half++)
            for (uint32_t r = 0; r < m; r++) {
                const double *row = fitting->rows + (size_t)i * fitting->dim;
                const uint32_t first = group * shape->fold;
                const double x = row[(size_t)(r / shape->fold) * shape->lane +
                                     self->pairs[first + r % shape->fold][half]];
                for (uint32_t c = 0; c < m; c++)
                    matrix[(size_t)r * m + c] +=
                        x * row[(size_t)(c / shape->fold) * shape->lane +
                                self->pairs[first + c % shape->fold][half]];
            }
}

static int fit_directions(const struct fitting *fitting, struct kv_error *err)
{
    struct mla_code *self = fitting->self;
    const struct mla_shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    int status = KV_OK;
    for (uint32_t k = 0; status == KV_OK && k < shape->kept; k += shape->each) {
        add_pairs(fitting, k / shape->each, fitting->matrix);
        status = kv_eigen_symmetric(self->kernels, fitting->matrix, m, fitting->values, err);
        for (uint32_t a = 0; a < shape->each; a++)
            for (uint32_t c = 0; c < m; c++)
                self->directions[(size_t)(k + a) * m + c] = entry(
                    fitting->matrix[(size_t)a * m + c], fitting->values[a], fitting->values[0]);
    }
    return status;
}

/* Takes the kept components off a row of keys before rotation; amplitudes [2 kept] is scratch. */
static void take_components(const struct mla_code *self, double *row, double *amplitudes)
{
    const struct mla_shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < 2 * shape->kept; k++) {
            const uint32_t component = k % shape->kept, half = k / shape->kept;
            const float *u = self->directions + (size_t)component * m;
            const uint32_t first = component / shape->each * shape->fold;
            if (!pass) amplitudes[k] = 0;
            for (uint32_t c = 0; c < m; c++) {
                double *x = row + (size_t)(c / shape->fold) * shape->lane +
                            self->pairs[first + c % shape->fold][half];
                if (pass)
                    *x -= amplitudes[k] * u[c];
                else
                    amplitudes[k] += *x * u[c];
            }
        }
}

/* Mean length of keys, or of values, of all heads together, in the rows as they are. */
static double mean_length(const struct fitting *fitting, uint32_t first, uint32_t n)
{
    const struct mla_shape *shape = &fitting->self->shape;
    double sum = 0;
    for (uint32_t i = 0; i < fitting->n; i++) {
        const double *row = fitting->rows + (size_t)i * fitting->dim + first;
        double square = 0;
        for (uint32_t h = 0; h < shape->heads; h++, row += shape->lane)
            for (uint32_t c = 0; c < n; c++) square += row[c] * row[c];
        sum += sqrt(square);
    }
    return sum / fitting->n;
}

/* Keys of which only the rounding of the kept directions is left (before: their length then) weigh
 * nothing. */
static void balance_rows(struct fitting *fitting, double before)
{
    struct mla_code *self = fitting->self;
    const struct mla_shape *shape = &self->shape;
    const double keys = mean_length(fitting, 0, shape->key),
                 values = mean_length(fitting, shape->key, shape->value);
    if (keys > before * 0x1p-8 && values > 0) self->balance = (float)(keys / values);
    for (uint32_t i = 0; i < fitting->n; i++)
        for (uint32_t h = 0; h < shape->heads; h++)
            for (uint32_t c = 0; c < shape->key; c++)
                fitting->rows[(size_t)i * fitting->dim + (size_t)h * shape->lane + c] /=
                    (double)self->balance;
}

static int fit_basis(const struct fitting *fitting, struct kv_error *err)
{
    struct mla_code *self = fitting->self;
    const uint32_t dim = fitting->dim, rank = self->shape.rank;
    memset(fitting->matrix, 0, (size_t)dim * dim * sizeof(double));
    for (uint32_t i = 0; i < fitting->n; i++) {
        const double *row = fitting->rows + (size_t)i * dim;
        for (uint32_t r = 0; r < dim; r++)
            for (uint32_t c = r; c < dim; c++)
                fitting->matrix[(size_t)r * dim + c] += row[r] * row[c];
    }
    for (uint32_t r = 0; r < dim; r++)
        for (uint32_t c = 0; c < r; c++)
            fitting->matrix[(size_t)r * dim + c] = fitting->matrix[(size_t)c * dim + r];
    const int status = kv_eigen_symmetric(fitting->self->kernels, fitting->matrix, dim, fitting->values, err);
    for (uint32_t k = 0; status == KV_OK && k < rank; k++)
        for (uint32_t c = 0; c < dim; c++)
            self->basis[(size_t)c * rank + k] =
                entry(fitting->matrix[(size_t)k * dim + c], fitting->values[k], fitting->values[0]);
    return status;
}

/* Rows of a fit come with keys before rotation, without the scale that rotation has. */
static void widen_rows(const struct fitting *fitting, const struct kv_sample *sample)
{
    const struct mla_code *self = fitting->self;
    const struct mla_shape *shape = &self->shape;
    const struct kv_rope *rope = self->rope;
    const uint32_t scaled = rope->layout == KV_ROPE_NONE ? 0 : rope->dims;
    for (uint32_t i = 0; i < fitting->n; i++)
        for (uint32_t c = 0; c < fitting->dim; c++)
            fitting->rows[(size_t)i * fitting->dim + c] =
                (double)sample->rows[(size_t)i * shape->dim + c] *
                (c % shape->lane < scaled ? rope->scale : 1.0);
}

static int fit_maps(struct mla_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    const struct mla_shape *shape = &self->shape;
    const uint32_t dim = kv_mla_basis_rows(shape), m = shape->heads * shape->fold,
                   side = dim > m ? dim : m;
    const size_t rows = (size_t)sample->n * dim, square = (size_t)side * side;
    double *memory = calloc(rows + square + 2 * (size_t)side, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "mla: no memory for Gram matrices of %u", side);
    struct fitting fitting = {.self = self,
                              .n = sample->n,
                              .dim = dim,
                              .rows = memory,
                              .matrix = memory + rows,
                              .values = memory + rows + square};
    int status = KV_OK;
    widen_rows(&fitting, sample);
    if (!shape->latent_already) {
        const double before = mean_length(&fitting, 0, shape->key);
        status = fit_directions(&fitting, err);
        for (uint32_t i = 0; i < sample->n; i++)
            take_components(self, fitting.rows + (size_t)i * dim, fitting.values + side);
        balance_rows(&fitting, before);
    }
    if (status == KV_OK) status = fit_basis(&fitting, err);
    free(memory);
    return status;
}

static void turn(double angle, float *x, float *y)
{
    const double x0 = *x, y0 = *y;
    double cosine, sine;
    kv_cos_sin(angle, &cosine, &sine);
    *x = (float)(x0 * cosine - y0 * sine);
    *y = (float)(x0 * sine + y0 * cosine);
}

/* A recorded row again, of latents beside a part that rotates. */
static void rotate_tail(const struct mla_code *self, double position, float *before)
{
    for (uint32_t p = 0; p < self->shape.n_pairs; p++)
        turn(position * self->frequencies[p], before + self->pairs[p][0], before + self->pairs[p][1]);
}

/* The sample's rows as the inner codec will get them. Rotated at the token's own position. */
static void sample_row(struct mla_code *self, const struct kv_sample *sample, uint32_t i,
                       float *turned)
{
    const struct mla_shape *shape = &self->shape;
    const struct kv_rope *rope = self->rope;
    const float *row = sample->rows + (size_t)i * shape->dim;
    const uint32_t token = sample->positions[i];
    const double position =
        token < self->geometry->tokens ? (double)self->geometry->positions[token] : token;
    float *before = self->row, *part = turned + shape->rank;
    for (uint32_t c = 0; c < shape->dim; c++) {
        const bool scaled = rope->layout != KV_ROPE_NONE && c % shape->lane < rope->dims;
        before[c] = scaled ? (float)(row[c] * rope->scale) : row[c];
    }
    if (shape->latent_already) {
        rotate_tail(self, position, before);
        memcpy(part, before + shape->value, shape->tail * sizeof *part);
    } else {
        memset(part, 0, shape->tail * sizeof *part);
        for (uint32_t h = 0; h < shape->heads; h++)
            kv_mla_add_components(self, h, before + (size_t)h * shape->lane, part);
    }
    if (!shape->whole) kv_mla_take_off(self, part, before);
    for (uint32_t k = 0; k < shape->kept; k++)
        turn(position * kv_mla_frequency(self, k), part + k, part + shape->kept + k);
    kv_mla_to_latents(self, before, turned);
}

static int fit_inner(struct mla_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    if (!self->inner->type->fit) return KV_OK;
    float *rows = calloc((size_t)sample->n * self->code.dim + 1, sizeof *rows);
    if (!rows) return kv_fail(err, KV_EMEMORY, "mla: no memory for %u rows", sample->n);
    for (uint32_t i = 0; i < sample->n && !sample->sizes_only; i++)
        sample_row(self, sample, i, rows + (size_t)i * self->code.dim);
    const struct kv_sample turned = {.n = sample->n,
                                     .sizes_only = sample->sizes_only,
                                     .counted = sample->counted,
                                     .rows = rows,
                                     .positions = sample->positions,
                                     .behind = "mla"};
    const int status = self->inner->type->fit(self->inner, &turned, err);
    free(rows);
    self->code.payload_bytes = self->inner->payload_bytes;
    self->code.metadata_bytes = self->inner->metadata_bytes;
    return status;
}

int kv_mla_fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct mla_code *self = (struct mla_code *)code;
    const struct mla_shape *shape = &self->shape;
    if (shape->whole) return fit_inner(self, sample, err);
    if (kv_sample_is_short(sample, shape->rank))
        return kv_fail(err, KV_EUNSUPPORTED, "mla: rank %u of a prompt of %u rows", shape->rank,
                       kv_sample_rows(sample));
    const int status = sample->sizes_only ? KV_OK : fit_maps(self, sample, err);
    const int64_t halves = (int64_t)kv_mla_basis_rows(shape) * shape->rank +
                           (int64_t)shape->kept * shape->heads * shape->fold;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * halves + (shape->latent_already ? 0 : 4));
    return status ? status : fit_inner(self, sample, err);
}
