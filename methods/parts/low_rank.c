#include "methods/parts/low_rank.h"

#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/gram.h"
#include "methods/parts/wrapper.h"

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int create_block(struct kv_low_rank *self, struct kv_directions *block, bool counts,
                        struct kv_error *err)
{
    const size_t size = (size_t)block->width * block->rank * sizeof(float);
    /* Nothing is projected: a basis of many layers would be all the time it takes. */
    if (counts) return KV_OK;
    block->down = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    block->up = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    if (!block->down || !block->up)
        return kv_fail(err, KV_EMEMORY, "%s: no memory for a basis of %u", self->code.type->name,
                       block->rank);
    for (uint32_t k = 0; k < block->rank; k++)
        block->down[(size_t)k * block->rank + k] = block->up[(size_t)k * block->width + k] = 1.0f;
    return KV_OK;
}

/* Where each block's columns and latents lie. */
static int lay_out(struct kv_low_rank *self, uint32_t dim, uint32_t width, uint32_t rank,
                   struct kv_error *err)
{
    self->n_blocks = (dim + width - 1) / width;
    self->blocks = kv_pool_reserve(self->pool, KV_WORKSPACE, self->n_blocks * sizeof *self->blocks);
    if (!self->blocks) return kv_fail(err, KV_EMEMORY, "low rank: no memory");
    for (uint32_t b = 0; b < self->n_blocks; b++) {
        struct kv_directions *block = &self->blocks[b];
        block->first = b * width, block->width = smaller(width, dim - b * width);
        block->first_latent = self->n_latents, block->rank = smaller(rank, block->width);
        self->n_latents += block->rank;
    }
    return KV_OK;
}

int kv_low_rank_create(struct kv_low_rank *self, const struct kv_codec *type,
                       const struct kv_setup *setup, uint32_t width, uint32_t rank,
                       struct kv_error *err)
{
    if (rank == 0 || rank > smaller(width, setup->dim))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rank %u of rows with %u columns", type->name,
                       rank, smaller(width, setup->dim));
    self->kernels = setup->kernels, self->pool = setup->pool;
    int status = lay_out(self, setup->dim, width, rank, err);
    if (!status) status = kv_create_code(&self->inner, setup->rest, setup, self->n_latents, err);
    if (status) return status;
    self->code = kv_wrap_code(type, setup->dim, self->inner);
    self->latents = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                    (size_t)self->inner->block * self->n_latents * sizeof(float));
    self->row = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim * sizeof(float));
    if (!self->latents || !self->row)
        return kv_fail(err, KV_EMEMORY, "%s: no memory for its latents", type->name);
    for (uint32_t b = 0; !status && b < self->n_blocks; b++)
        status = create_block(self, &self->blocks[b], setup->sizes_only, err);
    return status;
}

void kv_low_rank_set(struct kv_directions *block, uint32_t k, const double *down, const double *up)
{
    for (uint32_t c = 0; c < block->width; c++) {
        block->down[(size_t)c * block->rank + k] = kv_half_to_float(kv_finite_half((float)down[c]));
        block->up[(size_t)k * block->width + c] = kv_half_to_float(kv_finite_half((float)up[c]));
    }
}

void kv_low_rank_gram(const struct kv_kernels *kernels, const struct kv_directions *block,
                      const struct kv_sample *sample, uint32_t dim, const float *shift, double *gram)
{
    const uint32_t n = block->width;
    memset(gram, 0, (size_t)n * n * sizeof *gram);
    for (uint32_t r = 0; sample->sizes_only && r < n; r++) gram[(size_t)r * n + r] = n - r;
    if (sample->sizes_only) return; /* any directions do */
    kv_add_gram(kernels, sample->rows + block->first, sample->n, dim, n, shift ? shift + block->first : NULL, gram);
    kv_finish_gram(gram, n);
}

static void project(const struct kv_code *code, const float *row, float *latents)
{
    const struct kv_low_rank *self = (const struct kv_low_rank *)code;
    if (self->shift) {
        for (uint32_t c = 0; c < code->dim; c++) self->row[c] = row[c] - self->shift[c];
        row = self->row;
    }
    for (uint32_t b = 0; b < self->n_blocks; b++) {
        const struct kv_directions *block = &self->blocks[b];
        self->kernels->rotate(block->down, block->rank, block->width, row + block->first,
                              latents + block->first_latent);
    }
}

int kv_low_rank_finish(struct kv_low_rank *self, const struct kv_sample *sample, size_t halves,
                       struct kv_error *err)
{
    if (kv_sample_is_short(sample, self->blocks->rank))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rank %u of a prompt of %u rows",
                       self->code.type->name, self->blocks->rank, kv_sample_rows(sample));
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * (int64_t)halves);
    return kv_fit_inner(&self->code, self->inner, sample, project, KV_MAP_OTHER, err);
}

void kv_low_rank_encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kv_low_rank *self = (struct kv_low_rank *)code;
    for (uint32_t t = 0; t < code->block; t++)
        project(code, rows + (size_t)t * code->dim, self->latents + (size_t)t * self->n_latents);
    self->inner->type->encode(self->inner, self->latents, atom);
}

/* Columns first .. first + n - 1 of a block: the sums of the kernel, in its order. */
static void raise_some(const struct kv_directions *block, const float *latents, uint32_t first,
                       uint32_t n, float *restrict out)
{
    memset(out, 0, n * sizeof *out);
    for (uint32_t k = 0; k < block->rank; k++) {
        const float *restrict direction = block->up + (size_t)k * block->width + first;
        for (uint32_t c = 0; c < n; c++) out[c] += direction[c] * latents[k];
    }
}

/* The columns of one row that are asked for, block by block. */
static void raise_row(const struct kv_low_rank *self, const float *latents, uint32_t first,
                      uint32_t n, float *out)
{
    for (uint32_t b = 0; b < self->n_blocks; b++) {
        const struct kv_directions *block = &self->blocks[b];
        const uint32_t end = smaller(first + n, block->first + block->width);
        const uint32_t from = first > block->first ? first : block->first;
        if (from >= end) continue;
        float *part = out + (from - first);
        if (end - from == block->width)
            self->kernels->rotate(block->up, block->width, block->rank,
                                  latents + block->first_latent, part);
        else
            raise_some(block, latents + block->first_latent, from - block->first, end - from, part);
    }
    for (uint32_t c = 0; self->shift && c < n; c++) out[c] += self->shift[first + c];
}

void kv_low_rank_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                        uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct kv_low_rank *self = (const struct kv_low_rank *)code;
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, 0,
                                  self->n_latents, self->latents);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns)
            raise_row(self, self->latents + (size_t)t * self->n_latents, first_column, n_columns,
                      out);
    }
}
