/* The parts of attention, each alone on one tile in the cache: what explanations of missed goals count
 * with. Products are made as the sweep makes those of many rows. */
#ifndef KVBENCH_HARNESS_PERF_CACHED_TILE_H
#define KVBENCH_HARNESS_PERF_CACHED_TILE_H

#include "harness/perf/perf.h"
#include "methods/kernels/ready.h"
#include "methods/kernels/strips.h"

enum { KV_TILE_ROWS = 96, KV_TILE_COLUMNS = KV_READY_TILE };

struct kv_cached_tile {
    const struct kv_kernels *kernels;
    uint32_t dim;
    float *memory;
    float *ready_keys, *ready_values; /* where the set has such */
    float *queries, *outputs;         /* [KV_TILE_ROWS][dim] */
    float *panels, *values;           /* [KV_TILE_COLUMNS][dim] */
    struct kv_strips strips;          /* values, as the set wants them where it makes nothing ready */
    float *logits;                    /* [KV_TILE_ROWS], as far apart as a sweep lays them */
};

/* Normally distributed floats, or such halves, which are cheaper to multiply in some sets; false: out of
 * memory. */
bool kv_cached_tile_create(struct kv_cached_tile *tile, const struct kv_kernels *kernels, uint32_t dim,
                           bool halves);
void kv_cached_tile_free(struct kv_cached_tile *tile);

/* Context: a kv_cached_tile. Floating-point operations: logits and weighted sums. */
kv_perf_work kv_cached_tile_products;
/* Weights: softmax alone; logits and their exponentials, as sums by column need them; whole answers. */
kv_perf_work kv_cached_tile_softmax, kv_cached_tile_weights, kv_cached_tile_answers;

/* How this set makes products of many rows. */
const char *kv_product_way(const struct kv_kernels *kernels);

struct kv_product_rate {
    double flops; /* a second */
    const char *by;
};

/* The faster of multiply-adds in registers and products of halves on such a tile. */
struct kv_product_rate kv_product_rate(const struct kv_kernels *kernels, uint32_t dim);

#endif
