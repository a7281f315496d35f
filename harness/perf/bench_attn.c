/* perf attn: exact fp32 causal attention beside the multiply-add peak of the same kernel set.
 * Useful operations only: 4 d a visible (query, key) pair; softmax, packing and masked columns
 * count nothing.
 *
 * The keys include some that every query is far from, so that weights would be subnormal (weights
 * below 2^-60 of a row's largest are exactly 0: kernels.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/sweep_case.h"

enum { HEADS = 4, ROWS = 96, COLUMNS = 256, STRIDE = COLUMNS + 16 }; /* as a sweep lays logits */

static double goal_of(const struct kv_kernels *kernels, uint32_t dim)
{
    if (!strncmp(kernels->isa, "avx512", strlen("avx512"))) return dim >= 128 ? 0.85 : 0.82;
    return 0.75;
}

/* The parts of a sweep, each alone on one tile in the cache: products, and softmax (a weight). */
struct parts {
    const struct kv_kernels *kernels;
    uint32_t dim;
    float *queries, *panels, *logits, *values, *outputs;
};

static double multiply(void *context)
{
    const struct parts *parts = context;
    parts->kernels->logits(parts->queries, ROWS, parts->dim, parts->panels, COLUMNS, 1e-3f,
                           parts->logits, STRIDE);
    parts->kernels->accumulate(parts->logits, ROWS, STRIDE, parts->values, COLUMNS, parts->dim,
                               NULL, parts->outputs);
    return 4.0 * ROWS * COLUMNS * parts->dim;
}

static double soften(void *context)
{
    const struct parts *parts = context;
    float largest[ROWS], factors[ROWS], added[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) largest[r] = -INFINITY;
    const struct kv_softmax softmax = {largest, factors, added};
    parts->kernels->soften(parts->logits, ROWS, STRIDE, COLUMNS, &softmax);
    return ROWS * COLUMNS;
}

/* Columns that blocks of rows compute, quarters of them on the diagonal, over those that count. */
static double masked(const struct kv_sweep_case *work)
{
    enum { GRAIN = 16, PIECE = ROWS / 4 };
    double computed = 0;
    for (uint32_t r = 0; r < work->sweep.rows.n; r += PIECE) {
        const uint32_t last = r + PIECE < work->sweep.rows.n ? r + PIECE : work->sweep.rows.n;
        computed += (double)(last - r) * ((work->token[last - 1] + GRAIN) / GRAIN * GRAIN);
    }
    return 4.0 * work->geometry.key_dim * computed / work->flops;
}

/* Vector operations that a weight takes with nothing else done: difference, argument in powers of two,
 * a root of two, rest and line (two), product (two), scale, cut, maximum, sum, and the argument's whole
 * part; without a table a polynomial of degree 4. One takes a lane the time of a multiply-add. */
struct exponential {
    uint32_t operations;
    const char *by;
};

static struct exponential least_exponential(const struct kv_kernels *kernels)
{
    static const struct exponential by_roots = {12, "a table of roots"}, by_series = {17, "a polynomial"};
    return strncmp(kernels->isa, "avx512", strlen("avx512")) ? by_series : by_roots;
}

/* All of it in shares of the row's limit: what the clock leaves behind products, what any loop can make of
 * that, and what these kernels and this sweep do when nothing has to come from memory. */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct kv_sweep_case *work = context;
    struct parts parts = {.kernels = work->sweep.kernels, .dim = work->geometry.key_dim};
    const size_t dim = parts.dim;
    float *memory = kv_perf_normals((2 * ROWS + 2 * COLUMNS) * dim + ROWS * STRIDE, 7);
    if (!memory) {
        snprintf(reason, KV_PERF_REASON, "no memory to look for a reason");
        return;
    }
    parts.queries = memory, parts.outputs = memory + ROWS * dim,
    parts.panels = memory + 2 * ROWS * dim;
    parts.values = parts.panels + COLUMNS * dim, parts.logits = parts.values + COLUMNS * dim;
    const double products = kv_perf_best(multiply, &parts),
                 weights = kv_perf_best(soften, &parts);
    const struct kv_perf_side busy = {"products", multiply, &parts};
    const double behind = kv_perf_median_behind(&busy, kv_perf_peak, (void *)parts.kernels);
    const double again = kv_perf_best(kv_sweep_case_run, context);
    const double flops = 4.0 * parts.dim; /* a weight */
    const struct exponential least = least_exponential(parts.kernels);
    snprintf(
        reason, KV_PERF_REASON,
        "right behind products in cache the multiply-adds' own peak is %.2f of the limit above; that and the %u "
        "vector operations of a weight by %s leave a loop at most %.2f; these kernels come to %.2f on one tile in cache "
        "(products %.2f, %.2f G weights/s, %.2f columns computed for each that counts), this sweep to %.2f when it "
        "runs again at once, and to %.2f here, where what was measured in between took the caches",
        behind / seen->limit, least.operations, least.by,
        behind / seen->limit * flops / (flops + 2 * least.operations),
        flops / seen->limit / (flops / products + 1 / weights) / masked(work),
        products / seen->limit, weights / 1e9, masked(work), again / seen->limit, seen->ratio);
    free(memory);
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
                                     .goal = goal_of(&perf->kernels, dim),
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

int kv_perf_attn(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {1024, 4096, 16384}, own_dims[] = {64, 128};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 3, 96);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 2, 64);
    int status = KV_OK;
    for (uint32_t d = 0; d < dims.n; d++)
        for (uint32_t t = 0; status == KV_OK && t < tokens.n; t++)
            status = measure(perf, tokens.at[t], dims.at[d], err);
    return status;
}
