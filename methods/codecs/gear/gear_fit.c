/* gear: the fit, of the prompt. See codecs/gear.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codecs/gear/gear_parts.h"
#include "methods/parts/codes.h"
#include "methods/parts/sort.h"
#include "methods/parts/wrapper.h"

static void fit_channel(struct gear_code *self, const float *rows, uint32_t n, uint32_t c,
                        float *column)
{
    const uint32_t count = kv_gear_per_end(self->sparsity, n), dim = self->code.dim;
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
    const int status =
        kv_fit_inner(&self->code, self->inner, sample, kv_gear_fill_row, KV_MAP_SHIFT, err);
    kv_gear_set_bytes(self), kv_gear_set_bytes(self->late);
    return status;
}

/* B of what whole blocks of the prompt lose. */
static int fit_basis(struct gear_code *self, const struct kv_sample *sample, uint8_t *grids,
                     struct kv_error *err)
{
    const uint32_t dim = self->code.dim, block = self->code.block;
    memset(self->matrix, 0, (size_t)dim * dim * sizeof *self->matrix);
    for (uint32_t t = 0; t + block <= sample->n; t += block) {
        kv_gear_code_rows(self, sample->rows + (size_t)t * dim, grids);
        kv_gear_add_gram(self);
    }
    return kv_gear_find_basis(self, err);
}

int kv_gear_fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
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
