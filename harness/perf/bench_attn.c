/* perf attn: exact fp32 causal attention beside the multiply-add peak of the same kernel set.
 * Useful operations only: 4 d a visible (query, key) pair; softmax, packing and masked columns
 * count nothing. Sets that multiply by other means pass that peak: products alone, in the cache, are
 * rows of their own.
 *
 * The keys include some that every query is far from, so that weights would be subnormal (weights
 * below 2^-60 of a row's largest are exactly 0: kernels.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/cached_tile.h"
#include "harness/perf/full_attention.h"
#include "harness/perf/sweep_case.h"

enum { HEADS = 4 };

/* Columns that blocks of rows compute, in pieces on the diagonal (of cells, where there are such), over
 * those that count. */
static double masked(const struct kv_sweep_case *work)
{
    const bool cells = work->sweep.kernels->ready_cell;
    const uint32_t grain = cells ? KV_READY_CELL : 16, piece = cells ? KV_READY_CELL : KV_TILE_ROWS / 4;
    double computed = 0;
    for (uint32_t r = 0; r < work->sweep.rows.n; r += piece) {
        const uint32_t last = r + piece < work->sweep.rows.n ? r + piece : work->sweep.rows.n;
        computed += (double)(last - r) * ((work->token[last - 1] + grain) / grain * grain);
    }
    return 4.0 * work->geometry.key_dim * computed / work->flops;
}

/* Vector operations that a weight takes with nothing else done: difference, argument in powers of two,
 * a root of two, rest and line (two), product (two), scale, cut, maximum, sum, and the argument's whole
 * part; with four roots two coefficients more, and a shift and a sum for root and scale together; without
 * roots a polynomial of degree 4. One takes a lane the time of a multiply-add. */
struct exponential {
    const char *isa; /* as it begins */
    uint32_t operations;
    const char *by;
};

static struct exponential least_exponential(const struct kv_kernels *kernels)
{
    static const struct exponential ways[] = {
        {"avx512", 12, "a table of 32 roots"}, {"avx2", 16, "a table of four roots"}, {"", 17, "a polynomial"}};
    const struct exponential *way = ways;
    while (strncmp(kernels->isa, way->isa, strlen(way->isa))) way++;
    return *way;
}

/* What multiply-adds leave to any loop: the clock behind products, what the core takes in, and a weight's other
 * operations. */
static int explain_multiply_adds(const struct kv_cached_tile *tile, double limit, char *reason)
{
    const struct kv_perf_side busy = {"products", kv_cached_tile_products, (void *)tile};
    void *const kernels = (void *)tile->kernels;
    const double peak = kv_perf_median_behind(&busy, kv_perf_peak, kernels) / limit,
                 issuing = kv_perf_median_behind(&busy, kv_perf_issuing_peak, kernels) / limit;
    const double flops = 4.0 * tile->dim; /* a weight */
    const struct exponential least = least_exponential(tile->kernels);
    const double most = issuing * flops / (flops + 2 * least.operations);
    return snprintf(reason, KV_PERF_REASON,
                    "right behind products in cache the multiply-adds' own peak is %.2f of the limit above, %.2f "
                    "among as many instructions that do nothing as a tile has loads; that and the %u vector "
                    "operations of a weight by %s leave a loop at most %.2f%s; ",
                    peak, issuing, least.operations, least.by, most,
                    most < kv_full_attention_goal(tile->kernels, tile->dim) ? ", below the goal: a limit of this core" : "");
}

/* All of it in shares of the row's limit: what any loop can make of it where products are multiply-adds,
 * and what these kernels and this sweep do when nothing has to come from memory. */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct kv_sweep_case *work = context;
    const struct kv_kernels *kernels = work->sweep.kernels;
    struct kv_cached_tile tile;
    if (!kv_cached_tile_create(&tile, kernels, work->geometry.key_dim, false)) {
        snprintf(reason, KV_PERF_REASON, "no memory to look for a reason");
        return;
    }
    const int used = kernels->ready_cell ? 0 : explain_multiply_adds(&tile, seen->limit, reason);
    const double products = kv_perf_best(kv_cached_tile_products, &tile),
                 weights = kv_perf_best(kv_cached_tile_softmax, &tile);
    const double again = kv_perf_best(kv_sweep_case_run, context);
    const double flops = 4.0 * tile.dim; /* a weight */
    snprintf(reason + used, (size_t)(KV_PERF_REASON - used),
             "these kernels come to %.2f on one tile in cache (products, %s, %.2f, %.2f G weights/s, %.2f "
             "columns computed for each that counts), this sweep to %.2f when it "
             "runs again at once, and to %.2f here, where what was measured in between took the caches",
             flops / seen->limit / (flops / products + 1 / weights) / masked(work),
             kv_product_way(kernels), products / seen->limit, weights / 1e9, masked(work),
             again / seen->limit, seen->ratio);
    kv_cached_tile_free(&tile);
}

static int measure(struct kv_perf *perf, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    char name[64], shape[96];
    struct kv_sweep_case work;
    kv_sweep_case_create(&work, &perf->kernels, tokens, dim, HEADS, 0);
    snprintf(name, sizeof name, "T=%u d=%u", tokens, dim);
    snprintf(shape, sizeof shape, "tokens=%u dim=%u heads=%d kv_heads=1", tokens, dim, HEADS);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GFLOP/s",
                                     .unit_size = 1e9,
                                     .limit = {"fma peak", kv_perf_peak, &perf->kernels},
                                     .ours = {"sweep", kv_sweep_case_run, &work},
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = kv_full_attention_goal(&perf->kernels, dim),
                                     .best = "sgemm",
                                     .shape = shape,
                                     .shape_work = work.flops,
                                     .explain = explain};
    const int status =
        work.bad ? kv_fail(err, KV_EMEMORY, "perf attn: out of memory for %u tokens", tokens)
                 : kv_perf_measure(perf, &row, err);
    kv_sweep_case_free(&work);
    return status;
}

/* What a set makes of products alone, on one tile in the cache: it bounds whatever is made of them. */
static int measure_products(struct kv_perf *perf, uint32_t dim, bool halves, struct kv_error *err)
{
    char name[64];
    struct kv_cached_tile tile;
    snprintf(name, sizeof name, "products of %s d=%u", halves ? "halves" : "floats", dim);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GFLOP/s",
                                     .unit_size = 1e9,
                                     .limit = {"fma peak", kv_perf_peak, &perf->kernels},
                                     .ours = {kv_product_way(&perf->kernels), kv_cached_tile_products, &tile},
                                     .kind = KV_PERF_NO_GOAL};
    const int status = kv_cached_tile_create(&tile, &perf->kernels, dim, halves)
                           ? kv_perf_measure(perf, &row, err)
                           : kv_fail(err, KV_EMEMORY, "perf attn: out of memory for a tile");
    kv_cached_tile_free(&tile);
    return status;
}

int kv_perf_attn(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {1024, 4096, 16384}, own_dims[] = {64, 128};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 3, 96);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 2, 64);
    int status = KV_OK;
    for (uint32_t d = 0; status == KV_OK && d < dims.n; d++) {
        for (uint32_t t = 0; status == KV_OK && t < tokens.n; t++)
            status = measure(perf, tokens.at[t], dims.at[d], err);
        for (int halves = 0; status == KV_OK && halves < 2; halves++)
            status = measure_products(perf, dims.at[d], halves, err);
    }
    return status;
}
