#include "methods/parts/grid.h"

#include "methods/parts/codes.h"

int kv_grid_create(struct kv_grid *grid, const struct kv_setup *setup, uint32_t axis, uint32_t bits,
                   uint32_t group, struct kv_error *err)
{
    const uint32_t dim = setup->dim;
    *grid = (struct kv_grid){.kernels = setup->kernels, .dim = dim, .bits = bits};
    grid->axis = (enum kv_grid_axis)(axis & KV_GRID_CHANNEL);
    grid->group_bytes = axis & KV_GRID_SYMMETRIC ? 2 : 4;
    if (grid->axis == KV_GRID_TOKEN) {
        grid->group = group < dim ? group : dim;
        grid->block = 1;
        grid->n_groups = (dim + grid->group - 1) / grid->group;
    } else {
        grid->group = grid->block = group;
        grid->n_groups = dim;
    }
    const size_t n = (size_t)grid->block * dim;
    grid->payload_bytes = kv_packed_bytes(n, bits);
    grid->codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, n + 7);
    grid->grid = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * (size_t)dim * sizeof(float));
    if (!grid->codes || !grid->grid)
        return kv_fail(err, KV_EMEMORY, "grid: no memory for %u rows of %u", grid->block, dim);
    return KV_OK;
}

uint32_t kv_grid_metadata_bytes(const struct kv_grid *grid)
{
    return grid->group_bytes * grid->n_groups;
}

static bool is_symmetric(const struct kv_grid *grid)
{
    return grid->group_bytes == 2;
}

/* Where the codes of a symmetric grid begin: half is the code of 0. */
static float lowest(const struct kv_grid *grid, float scale)
{
    return -scale * (float)(1u << (grid->bits - 1));
}

/* Codes lie token by token in the atom, so that decoding writes rows as they come. */
void kv_grid_encode(struct kv_grid *grid, const float *rows, uint8_t *atom)
{
    const struct kv_kernels *kernels = grid->kernels;
    const struct kv_grid_shape shape = {grid->bits, is_symmetric(grid)};
    uint8_t *metadata = atom + grid->payload_bytes;
    uint8_t *codes = grid->bits == 8 ? atom : grid->codes; /* bytes are packed */
    if (grid->axis == KV_GRID_TOKEN)
        kernels->grid_row(rows, grid->dim, grid->group, &shape, metadata, codes);
    else
        kernels->grid_columns(rows, grid->block, grid->dim, &shape, metadata, codes);
    if (codes != atom)
        kernels->pack_bits(codes, (size_t)grid->block * grid->dim, grid->bits, atom);
}

/* Pairs of halves as they lie in an atom, at any address. By vectors where there are some: a kernel that reads a vector
 * right behind narrower stores waits until these are in the cache; and a copy of any size would take longer. */
static void copy_pairs(const uint8_t *from, uint32_t pairs, uint16_t *to)
{
    enum { PAIR = 2 * sizeof *to, PAIRS = 4 };
    uint32_t i = 0;
    for (; i + PAIRS <= pairs; i += PAIRS) memcpy(to + 2 * i, from + (size_t)PAIR * i, PAIRS * PAIR);
    for (; i < pairs; i++) memcpy(to + 2 * i, from + (size_t)PAIR * i, PAIR);
}

/* n grids, scales and minima apart: halves become floats by the kernel, some at a time. */
static void widen_grids(const struct kv_grid *grid, const uint8_t *metadata, uint32_t n,
                        float *restrict scales, float *restrict minima)
{
    enum { SOME = 64 };
    uint16_t halves[2 * SOME];
    float pairs[2 * SOME];
    for (uint32_t c = 0; c < n; c += SOME) {
        const uint32_t some = n - c < SOME ? n - c : SOME;
        copy_pairs(metadata + (size_t)grid->group_bytes * c, some, halves);
        grid->kernels->widen_half(halves, pairs, 2 * (size_t)some);
        for (uint32_t i = 0; i < some; i++)
            scales[c + i] = pairs[2 * i], minima[c + i] = pairs[2 * i + 1];
    }
}

/* Halves times powers of two, so that code * scale + minimum is (code - half) * scale to the bit. */
static void widen_symmetric_grids(const struct kv_grid *grid, const uint8_t *metadata, uint32_t n,
                                  float *scales, float *minima)
{
    for (uint32_t c = 0; c < n; c++) {
        scales[c] = kv_kept_half(metadata + grid->group_bytes * (size_t)c);
        minima[c] = lowest(grid, scales[c]);
    }
}

/* Grids of an atom, of groups or channels first .. first + n - 1. */
struct grids {
    const float *scales, *minima;
};

static struct grids read_grids(const struct kv_grid *grid, const uint8_t *atom, uint32_t first, uint32_t n)
{
    const uint8_t *metadata = atom + grid->payload_bytes + grid->group_bytes * (size_t)first;
    float *scales = grid->grid, *minima = grid->grid + n;
    (is_symmetric(grid) ? widen_symmetric_grids : widen_grids)(grid, metadata, n, scales, minima);
    return (struct grids){scales, minima};
}

/* Each group's grid serves its columns among first .. first + n - 1. */
static void decode_row(const struct kv_grid *grid, const uint8_t *atom, uint32_t first, uint32_t n,
                       float *out)
{
    const uint8_t *codes = kv_unpack_some(grid->kernels, atom, first, n, grid->bits, grid->codes);
    const uint32_t group = first / grid->group, groups = (first + n - 1) / grid->group + 1 - group;
    const struct grids grids = read_grids(grid, atom, group, groups);
    uint32_t run = (group + 1) * grid->group - first;
    for (uint32_t g = 0, done = 0; done < n; done += run, run = grid->group, g++) {
        if (run > n - done) run = n - done;
        grid->kernels->grid_decode(codes + done, run, grids.minima[g], grids.scales[g], out + done);
    }
}

/* The same two roundings as grid_decode, each channel with its own grid. Whole rows are unpacked
 * all at once. */
static void decode_channels(const struct kv_grid *grid, const uint8_t *atom, uint32_t first,
                            uint32_t n, float *out)
{
    const struct grids grids = read_grids(grid, atom, first, n);
    const bool whole = n == grid->dim;
    if (whole) grid->kernels->unpack_bits(atom, (size_t)grid->block * n, grid->bits, grid->codes);
    for (uint32_t t = 0; t < grid->block; t++) {
        const uint8_t *codes = grid->codes + (size_t)t * n;
        if (!whole)
            codes = kv_unpack_some(grid->kernels, atom, (size_t)t * grid->dim + first, n,
                                   grid->bits, grid->codes);
        grid->kernels->channel_decode(codes, n, grids.minima, grids.scales, out + (size_t)t * n);
    }
}

void kv_grid_decode(const struct kv_grid *grid, const uint8_t *atoms, uint32_t n_atoms,
                    uint32_t first_column, uint32_t n_columns, float *out)
{
    const size_t bytes = grid->payload_bytes + (size_t)kv_grid_metadata_bytes(grid);
    const size_t floats = (size_t)grid->block * n_columns;
    for (uint32_t a = 0; a < n_atoms; a++) {
        if (grid->axis == KV_GRID_TOKEN)
            decode_row(grid, atoms + a * bytes, first_column, n_columns, out + a * floats);
        else
            decode_channels(grid, atoms + a * bytes, first_column, n_columns, out + a * floats);
    }
}
