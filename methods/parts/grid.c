#include "methods/parts/grid.h"

#include "methods/parts/codes.h"

#include <math.h>

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
    grid->strip = kv_pool_reserve(setup->pool, KV_WORKSPACE, (grid->block + 1) * sizeof(float) * 2);
    grid->grid = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * (size_t)dim * sizeof(float));
    if (!grid->codes || !grid->strip || !grid->grid)
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

/* Codes of a row, each channel with its own grid: rint((x - minimum) / scale) from `least` to
 * `most`, plus `offset`; adding 1.5 * 2^23 leaves the integer in the low bits. A scale of infinity
 * gives 0. */
struct range {
    float least, most;
    uint32_t offset;
};

static struct range range_of(const struct kv_grid *grid)
{
    const uint32_t half = 1u << (grid->bits - 1);
    return is_symmetric(grid) ? (struct range){-(float)half, (float)(half - 1), half}
                              : (struct range){0, (float)(2 * half - 1), 0};
}

static uint8_t code_of(float q, struct range range)
{
    q = q > range.least ? q : range.least;
    q = q < range.most ? q : range.most;
    return (uint8_t)(kv_bits_of_float(q + 0x1.8p23f) + range.offset);
}

static void encode_columns(const float *restrict x, const float *restrict minima,
                           const float *restrict scales, size_t n, struct range range,
                           uint8_t *restrict codes)
{
    for (size_t c = 0; c < n; c++) codes[c] = code_of((x[c] - minima[c]) / scales[c], range);
}

static void encode_symmetric(const struct kv_grid *grid, const float *restrict x, size_t n,
                             uint8_t *at, uint8_t *restrict codes)
{
    const struct range range = range_of(grid);
    const float scale = kv_keep_half(at, kv_largest(grid->kernels, x, n) / range.most);
    const float divisor = scale > 0 ? scale : INFINITY;
    for (size_t i = 0; i < n; i++) codes[i] = code_of(x[i] / divisor, range);
}

/* The grid of n values, kept at `at`; their codes. */
static void encode_group(const struct kv_grid *grid, const float *x, size_t n, uint8_t *at,
                         uint8_t *codes)
{
    float min, max;
    if (is_symmetric(grid)) {
        encode_symmetric(grid, x, n, at, codes);
        return;
    }
    grid->kernels->min_max(x, n, &min, &max);
    const float scale = kv_keep_half(at, (max - min) / (float)((1u << grid->bits) - 1));
    const float minimum = kv_keep_half(at + 2, min);
    grid->kernels->grid_encode(x, n, minimum, scale, 1u << grid->bits, codes);
}

static void encode_row(struct kv_grid *grid, const float *row, uint8_t *metadata)
{
    for (uint32_t g = 0; g < grid->n_groups; g++) {
        const uint32_t first = g * grid->group, left = grid->dim - first;
        encode_group(grid, row + first, left < grid->group ? left : grid->group,
                     metadata + grid->group_bytes * g, grid->codes + first);
    }
}

static void extremes(const float *restrict rows, size_t n_rows, size_t stride, size_t n,
                     float *restrict low, float *restrict high)
{
    for (size_t c = 0; c < n; c++) low[c] = high[c] = rows[c];
    for (size_t t = 1; t < n_rows; t++)
        for (size_t c = 0; c < n; c++) {
            const float x = rows[t * stride + c];
            low[c] = x < low[c] ? x : low[c];
            high[c] = x > high[c] ? x : high[c];
        }
}

/* Extremes of channel c -> its grid, kept at `at`: minimum, or 0, in *low and what to divide by in
 * *high. */
static void keep_channel(const struct kv_grid *grid, float *low, float *high, uint8_t *at)
{
    const struct range range = range_of(grid);
    const float min = *low + 0.0f, max = *high + 0.0f; /* -0 becomes +0 */
    const float size = !is_symmetric(grid) ? max - min : max > -min ? max : -min;
    const float scale = kv_keep_half(at, size / range.most);
    *low = is_symmetric(grid) ? 0.0f : kv_keep_half(at + 2, min);
    *high = scale != 0 ? scale : INFINITY;
}

/* Channels in strips as wide as an atom is long. Codes lie token by token in the atom, so that
 * decoding writes rows as they come. */
static void encode_channels(struct kv_grid *grid, const float *rows, uint8_t *metadata)
{
    const size_t dim = grid->dim, block = grid->block;
    float *low = grid->strip, *high = grid->strip + block;
    for (size_t first = 0; first < dim; first += block) {
        const size_t n = dim - first < block ? dim - first : block;
        extremes(rows + first, block, dim, n, low, high);
        for (size_t c = 0; c < n; c++)
            keep_channel(grid, low + c, high + c, metadata + grid->group_bytes * (first + c));
        for (size_t t = 0; t < block; t++)
            encode_columns(rows + t * dim + first, low, high, n, range_of(grid),
                           grid->codes + t * dim + first);
    }
}

void kv_grid_encode(struct kv_grid *grid, const float *rows, uint8_t *atom)
{
    uint8_t *metadata = atom + grid->payload_bytes;
    if (grid->axis == KV_GRID_TOKEN)
        encode_row(grid, rows, metadata);
    else
        encode_channels(grid, rows, metadata);
    grid->kernels->pack_bits(grid->codes, (size_t)grid->block * grid->dim, grid->bits, atom);
}

/* Halves times powers of two, so that code * scale + minimum is (code - half) * scale to the bit.
 */
static float kept_minimum(const struct kv_grid *grid, const uint8_t *at)
{
    return is_symmetric(grid) ? lowest(grid, kv_kept_half(at)) : kv_kept_half(at + 2);
}

static void decode_row(const struct kv_grid *grid, const uint8_t *atom, uint32_t first, uint32_t n,
                       float *out)
{
    const uint8_t *codes = kv_unpack_some(grid->kernels, atom, first, n, grid->bits, grid->codes);
    for (uint32_t done = 0; done < n;) {
        const uint32_t c = first + done, g = c / grid->group;
        const uint32_t in_group = (g + 1) * grid->group - c;
        const uint32_t run = in_group < n - done ? in_group : n - done;
        const uint8_t *at = atom + grid->payload_bytes + grid->group_bytes * (size_t)g;
        const float scale = kv_kept_half(at), minimum = kept_minimum(grid, at);
        grid->kernels->grid_decode(codes + done, run, minimum, scale, out + done);
        done += run;
    }
}

/* The grids of n channels, apart: halves become floats by the kernel, some at a time. */
static void widen_grids(const struct kv_grid *grid, const uint8_t *metadata, uint32_t n,
                        float *restrict scales, float *restrict minima)
{
    enum { SOME = 64 };
    uint16_t halves[2 * SOME];
    float pairs[2 * SOME];
    for (uint32_t c = 0; c < n; c += SOME) {
        const uint32_t some = n - c < SOME ? n - c : SOME;
        memcpy(halves, metadata + (size_t)c * sizeof *halves * 2, some * sizeof *halves * 2);
        grid->kernels->widen_half(halves, pairs, 2 * (size_t)some);
        for (uint32_t i = 0; i < some; i++)
            scales[c + i] = pairs[2 * i], minima[c + i] = pairs[2 * i + 1];
    }
}

static void widen_symmetric_grids(const struct kv_grid *grid, const uint8_t *metadata, uint32_t n,
                                  float *scales, float *minima)
{
    for (uint32_t c = 0; c < n; c++) {
        scales[c] = kv_kept_half(metadata + grid->group_bytes * (size_t)c);
        minima[c] = lowest(grid, scales[c]);
    }
}

/* The same two roundings as grid_decode, each channel with its own grid. Whole rows are unpacked
 * all at once. */
static void decode_channels(const struct kv_grid *grid, const uint8_t *atom, uint32_t first,
                            uint32_t n, float *out)
{
    float *restrict scales = grid->grid, *restrict minima = grid->grid + n;
    const uint8_t *metadata = atom + grid->payload_bytes + grid->group_bytes * (size_t)first;
    const bool whole = n == grid->dim;
    if (is_symmetric(grid))
        widen_symmetric_grids(grid, metadata, n, scales, minima);
    else
        widen_grids(grid, metadata, n, scales, minima);
    if (whole) grid->kernels->unpack_bits(atom, (size_t)grid->block * n, grid->bits, grid->codes);
    for (uint32_t t = 0; t < grid->block; t++) {
        const uint8_t *codes = grid->codes + (size_t)t * n;
        if (!whole)
            codes = kv_unpack_some(grid->kernels, atom, (size_t)t * grid->dim + first, n,
                                   grid->bits, grid->codes);
        float *restrict row = out + (size_t)t * n;
        for (uint32_t c = 0; c < n; c++) row[c] = (float)codes[c] * scales[c] + minima[c];
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
