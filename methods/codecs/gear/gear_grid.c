/* gear: D and the marks of outliers, one vector at a time; R, which they leave. See codecs/gear.c.
 */
#include <string.h>

#include "methods/codecs/gear/gear_parts.h"
#include "methods/parts/codes.h"
#include "methods/parts/ends.h"

static uint8_t *marks_of(const struct gear_code *self)
{
    return self->codes + (size_t)self->code.block * self->code.dim + 7;
}

/* vector[n] with what is marked filled by the mean of the others. */
static void fill(const struct gear_code *self, uint32_t n)
{
    const uint8_t *one = marks_of(self);
    uint32_t others = n;
    for (uint32_t i = 0; i < n; i++)
        if (one[i]) self->vector[i] = 0, others--;
    const float mean =
        (float)(self->kernels->sum_wide(self->vector, NULL, n) / (others ? others : 1));
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

void kv_gear_fill_row(const struct kv_code *code, const float *row, float *filled)
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
    const uint32_t dim = self->code.dim, block = self->code.block, n = kv_gear_inner_atoms(self);
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

void kv_gear_code_rows(struct gear_code *self, const float *rows, uint8_t *grids)
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

void kv_gear_decode_grid(const struct gear_code *self, const uint8_t *atom)
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
