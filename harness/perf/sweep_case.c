/* Synthetic sweeps; see sweep_case.h. */
#include "harness/perf/sweep_case.h"

#include <stdlib.h>
#include <string.h>

static void copy_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    const struct kv_sweep_case *work = source;
    const size_t dim = work->geometry.key_dim, bytes = n * dim * sizeof(float);
    memcpy(keys, work->keys + first * dim, bytes);
    if (values) memcpy(values, work->values + first * dim, bytes);
}

/* All queries lean to one side, outlying keys lie far on the other. */
static void spread_logits(struct kv_sweep_case *work, uint32_t tokens, uint32_t rows)
{
    const uint32_t dim = work->geometry.key_dim;
    for (uint32_t r = 0; r < rows; r++) work->queries[(size_t)r * dim] = 8;
    for (uint32_t t = 0; t < tokens; t++)
        work->keys[(size_t)t * dim] = t % 64 == 63 ? -60 - (float)(t / 64 % 80) : 0;
}

static void fill_tokens(struct kv_sweep_case *work, uint32_t tokens, uint32_t positions,
                        uint32_t heads)
{
    for (uint32_t t = 0; t < tokens; t++) work->position[t] = t, work->until[t] = UINT32_MAX;
    work->flops = 0;
    for (uint32_t r = 0; r < positions * heads; r++) {
        work->token[r] = (uint32_t)((r / heads + 1ull) * tokens / positions - 1);
        work->flops += 4.0 * work->geometry.key_dim * (work->token[r] + 1.0);
    }
}

void kv_sweep_case_create(struct kv_sweep_case *work, const struct kv_kernels *kernels,
                          uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t positions)
{
    if (!positions || positions > tokens) positions = tokens;
    const uint32_t rows = positions * heads;
    *work = (struct kv_sweep_case){
        .geometry = {
            .key_dim = dim, .value_dim = dim, .scale = 0.1, .group = heads, .tokens = tokens}};
    work->keys = kv_perf_normals((size_t)tokens * dim, 1);
    work->values = kv_perf_normals((size_t)tokens * dim, 2);
    work->queries = kv_perf_normals((size_t)rows * dim, 3);
    work->outputs = kv_perf_normals((size_t)rows * dim, 4);
    work->log_sum_exp = calloc(rows, sizeof *work->log_sum_exp);
    work->position = calloc(tokens, sizeof *work->position);
    work->until = calloc(tokens, sizeof *work->until);
    work->token = calloc(rows, sizeof *work->token);
    work->sweep = (struct kv_sweep){
        .kernels = kernels,
        .geometry = &work->geometry,
        .lines = {tokens, work->position, work->position, work->until, NULL, copy_lines, work},
        .rows = {rows, work->queries, work->token, NULL},
        .answers = {work->outputs, work->log_sum_exp}};
    work->scratch = kv_perf_normals(kv_sweep_scratch(&work->sweep), 5);
    work->bad = !work->keys || !work->values || !work->queries || !work->outputs ||
                !work->log_sum_exp || !work->position || !work->until || !work->token ||
                !work->scratch;
    if (work->bad) return;
    spread_logits(work, tokens, rows);
    fill_tokens(work, tokens, positions, heads);
}

void kv_sweep_case_free(struct kv_sweep_case *work)
{
    void *const blocks[] = {work->keys,    work->values,      work->queries,
                            work->outputs, work->log_sum_exp, work->position,
                            work->until,   work->token,       work->scratch};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

double kv_sweep_case_run(void *context)
{
    struct kv_sweep_case *work = context;
    kv_sweep_run(&work->sweep, work->scratch);
    return work->flops;
}
