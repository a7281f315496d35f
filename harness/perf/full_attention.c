/* Exact attention of all queries; see full_attention.h. */
#include "harness/perf/full_attention.h"

#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"

static bool fill_rows(struct kv_full_attention *out, const struct kv_kernels *kernels)
{
    const struct kv_geometry *geometry = &out->layer->info->geometry;
    const uint32_t tokens = geometry->tokens, rows = tokens * geometry->group;
    const size_t queries = (size_t)rows * geometry->key_dim,
                 outputs = (size_t)rows * geometry->value_dim;
    out->memory = kv_large_alloc((queries + outputs + rows) * sizeof *out->memory);
    out->index = malloc((2 * (size_t)tokens + rows) * sizeof *out->index);
    if (!out->memory || !out->index) return false;
    out->recorded = (struct kv_recorded){.layer = out->layer, .kernels = kernels, .head = 0};
    const struct kv_lines lines = kv_recorded_lines(&out->recorded, tokens, out->index);
    uint32_t *token = out->index + 2 * (size_t)tokens;
    for (uint32_t r = 0; r < rows; r++) token[r] = r / geometry->group;
    kv_widen_queries(out->layer, 0, lines.position, tokens, kernels, out->memory);
    out->sweep = (struct kv_sweep){.kernels = kernels,
                                   .geometry = geometry,
                                   .lines = lines,
                                   .rows = {.n = rows, .queries = out->memory, .token = token},
                                   .answers = {.outputs = out->memory + queries,
                                               .log_sum_exp = out->memory + queries + outputs}};
    out->scratch = kv_large_alloc(kv_sweep_scratch(&out->sweep) * sizeof(float));
    return out->scratch;
}

int kv_full_attention_create(struct kv_full_attention *out, const struct kv_check_shape *shape,
                             const struct kv_kernels *kernels, struct kv_error *err)
{
    *out = (struct kv_full_attention){.layer = kv_check_layer(shape)};
    if (out->layer && fill_rows(out, kernels)) return KV_OK;
    kv_full_attention_free(out);
    return kv_fail(err, KV_EMEMORY, "out of memory for %u tokens", shape->tokens);
}

double kv_full_attention_run(void *context)
{
    struct kv_full_attention *attention = context;
    kv_sweep_run(&attention->sweep, attention->scratch);
    return attention->sweep.rows.n;
}

void kv_full_attention_free(struct kv_full_attention *attention)
{
    kv_check_layer_free(attention->layer);
    free(attention->memory);
    free(attention->scratch);
    free(attention->index);
}

double kv_full_attention_goal(const struct kv_kernels *kernels, uint32_t dim)
{
    if (!strncmp(kernels->isa, "avx512", strlen("avx512"))) return dim >= 128 ? 0.85 : 0.82;
    return 0.75;
}
