/* The integer grids of `int` and `kivi` (replay.md "Methods"): per group of values
 *
 *     scale = f16((max - min) / (2^bits - 1)), minimum = f16(min)
 *     code = clamp(rint_half_even((x - minimum) / scale), 0, 2^bits - 1), scale 0 gives code 0
 *     x_hat = code * scale + minimum
 *
 * or, symmetric, with half = 2^(bits - 1) and no minimum,
 *
 *     scale = f16(max |x| / (half - 1)), code = clamp(rint_half_even(x / scale), -half, half - 1) +
 * half x_hat = (code - half) * scale
 *
 * with halves used as they are kept, and kept finite (clamped to the largest half). Along
 * tokens a group is `group` channels of one row; along channels it is `group` rows of one channel,
 * so that an atom is `group` rows. The last group along tokens may be short. */
#ifndef KVBENCH_METHODS_PARTS_GRID_H
#define KVBENCH_METHODS_PARTS_GRID_H

#include "methods/codec.h"

enum kv_grid_axis { KV_GRID_TOKEN, KV_GRID_CHANNEL, KV_GRID_SYMMETRIC = 2 /* added to an axis */ };

struct kv_grid {
    const struct kv_kernels *kernels;
    uint32_t dim, block, bits, group, n_groups;
    enum kv_grid_axis axis;
    uint32_t group_bytes; /* of what is kept a group: scale and minimum, or a symmetric grid's scale */
    uint32_t payload_bytes;
    uint8_t *codes;       /* of one atom, and seven more */
    float *grid;          /* along channels: [2][dim] scales and minima */
};

/* axis: enum kv_grid_axis bits. */
int kv_grid_create(struct kv_grid *grid, const struct kv_setup *setup, uint32_t axis, uint32_t bits,
                   uint32_t group, struct kv_error *err);
uint32_t kv_grid_metadata_bytes(const struct kv_grid *grid);
void kv_grid_encode(struct kv_grid *grid, const float *rows, uint8_t *atom);
void kv_grid_decode(const struct kv_grid *grid, const uint8_t *atoms, uint32_t n_atoms,
                    uint32_t first_column, uint32_t n_columns, float *out);

#endif
