/* gear: L, the low-rank part of R. See codecs/gear.c. */
#include "methods/codecs/gear/gear_parts.h"
#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/parts/gram.h"

void kv_gear_add_gram(struct gear_code *self)
{
    kv_add_gram(self->kernels, self->rest, self->code.block, self->code.dim, self->code.dim, NULL, self->matrix);
}

int kv_gear_find_basis(struct gear_code *self, struct kv_error *err)
{
    const uint32_t dim = self->code.dim;
    kv_finish_gram(self->matrix, dim);
    const int status = kv_eigen_symmetric(self->kernels, self->matrix, dim, self->matrix + (size_t)dim * dim, err);
    for (size_t i = 0; i < (size_t)self->rank * dim; i++)
        self->basis[i] = status ? 0 : kv_half_to_float(kv_finite_half((float)self->matrix[i]));
    return status;
}

uint8_t *kv_gear_keep_factors(struct gear_code *self, uint8_t *at)
{
    const uint32_t dim = self->code.dim;
    for (uint32_t t = 0; t < self->code.block; t++)
        for (uint32_t k = 0; k < self->rank; k++, at += 2)
            kv_keep_half(at, (float)self->kernels->sum_wide(self->rest + (size_t)t * dim,
                                                            self->basis + (size_t)k * dim, dim));
    for (size_t i = 0; !self->prompt && i < (size_t)self->rank * dim; i++, at += 2)
        kv_keep_half(at, self->basis[i]);
    return at;
}

const uint8_t *kv_gear_add_factors(const struct gear_code *self, const uint8_t *at)
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
