/* One tile of attention in the cache; see cached_tile.h. */
#include "harness/perf/cached_tile.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = KV_TILE_ROWS, COLUMNS = KV_TILE_COLUMNS, STRIDE = COLUMNS + 16 }; /* as a sweep lays logits */

static const float scale = 1e-3f;

static bool round_to_halves(const struct kv_kernels *kernels, float *x, size_t n)
{
    uint16_t *halves = malloc(n * sizeof *halves);
    if (!halves) return false;
    kernels->narrow_half(x, halves, n);
    kernels->widen_half(halves, x, n);
    free(halves);
    return true;
}

bool kv_cached_tile_create(struct kv_cached_tile *tile, const struct kv_kernels *kernels, uint32_t dim,
                           bool halves)
{
    const size_t ready = kv_ready_floats(kernels, dim);
    const size_t rows = (size_t)ROWS * dim, lines = (size_t)COLUMNS * dim;
    *tile = (struct kv_cached_tile){.kernels = kernels, .dim = dim};
    tile->memory = kv_perf_normals(2 * (ready + rows + lines) + lines + (size_t)ROWS * STRIDE, 7);
    if (!tile->memory) return false;
    tile->ready_keys = kv_ready_place(tile->memory), tile->ready_values = kv_ready_place(tile->memory + ready);
    tile->queries = tile->memory + 2 * ready, tile->panels = tile->queries + rows;
    tile->values = tile->panels + lines, tile->outputs = tile->values + lines;
    float *const strip_room = tile->outputs + rows;
    tile->logits = strip_room + lines;
    if (halves && !round_to_halves(kernels, tile->queries, rows + 2 * lines)) return false;
    tile->strips = kv_strips_of(kernels, ROWS, tile->values, COLUMNS, dim, strip_room);
    if (!ready) return true;
    kernels->ready_keys(tile->panels, COLUMNS, dim, tile->ready_keys);
    kernels->ready_values(tile->values, COLUMNS, dim, tile->ready_values);
    return true;
}

void kv_cached_tile_free(struct kv_cached_tile *tile)
{
    free(tile->memory);
}

static void make_logits(const struct kv_cached_tile *tile)
{
    const struct kv_kernels *kernels = tile->kernels;
    if (kernels->ready_cell)
        kernels->ready_logits(tile->queries, ROWS, tile->dim, tile->ready_keys, 0, COLUMNS,
                              kv_ready_scale(kernels, scale), tile->logits, STRIDE);
    else
        kernels->logits(tile->queries, ROWS, tile->dim, tile->panels, COLUMNS, scale, tile->logits, STRIDE);
}

static void add_values(const struct kv_cached_tile *tile)
{
    const struct kv_kernels *kernels = tile->kernels;
    if (kernels->ready_cell)
        kernels->ready_sums(tile->logits, ROWS, STRIDE, tile->ready_values, 0, COLUMNS, tile->dim, NULL,
                            tile->outputs);
    else
        kv_strips_sum(kernels, tile->logits, ROWS, STRIDE, &tile->strips, 0, COLUMNS, NULL, tile->outputs);
}

double kv_cached_tile_products(void *context)
{
    const struct kv_cached_tile *tile = context;
    make_logits(tile);
    add_values(tile);
    return 4.0 * ROWS * COLUMNS * tile->dim;
}

double kv_cached_tile_softmax(void *context)
{
    const struct kv_cached_tile *tile = context;
    float largest[ROWS], factors[ROWS], added[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) largest[r] = -INFINITY;
    const struct kv_softmax softmax = {largest, factors, added, 1.0f};
    tile->kernels->soften(tile->logits, ROWS, STRIDE, COLUMNS, &softmax);
    return ROWS * COLUMNS;
}

double kv_cached_tile_weights(void *context)
{
    const struct kv_cached_tile *tile = context;
    make_logits(tile);
    for (uint32_t r = 0; r < ROWS; r++) tile->kernels->exp_sum(tile->logits + r * STRIDE, COLUMNS, 1, 1);
    return ROWS * COLUMNS;
}

double kv_cached_tile_answers(void *context)
{
    const double weights = kv_cached_tile_weights(context);
    add_values(context);
    return weights;
}

const char *kv_product_way(const struct kv_kernels *kernels)
{
    return kernels->ready_cell ? "as bfloats" : "by multiply-adds";
}

struct kv_product_rate kv_product_rate(const struct kv_kernels *kernels, uint32_t dim)
{
    struct kv_product_rate best = {kv_perf_best(kv_perf_peak, (void *)kernels), "multiply-adds in registers"};
    struct kv_cached_tile tile;
    if (kv_cached_tile_create(&tile, kernels, dim, true)) {
        const double flops = kv_perf_best(kv_cached_tile_products, &tile);
        if (flops > best.flops) best = (struct kv_product_rate){flops, "products of halves in cache"};
    }
    kv_cached_tile_free(&tile);
    return best;
}
