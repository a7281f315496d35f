/* Exact attention of scored queries; see scored_sweep.h. */
#include "harness/replay/scored_sweep.h"

int kv_scored_rows(struct kv_rows *out, const struct kv_scored *scored, uint32_t head, struct kv_pool *pool,
                   struct kv_error *err)
{
    const struct kv_geometry *geometry = &scored->layer->info->geometry;
    const uint32_t group = geometry->group, n = scored->n * group;
    uint32_t *tokens = kv_pool_take(pool, n * sizeof *tokens);
    float *queries = kv_pool_room(pool, (size_t)n * geometry->key_dim * sizeof *queries);
    float *sinks = geometry->sink_logits ? kv_pool_take(pool, n * sizeof *sinks) : NULL;
    if (!tokens || !queries || (geometry->sink_logits && !sinks))
        return kv_fail(err, KV_EMEMORY, "out of memory for queries");
    for (uint32_t r = 0; r < n; r++) tokens[r] = scored->tokens[r / group];
    for (uint32_t r = 0; sinks && r < n; r++) sinks[r] = geometry->sink_logits[head * group + r % group];
    kv_widen_queries(scored->layer, head, scored->tokens, scored->n, scored->kernels, queries);
    *out = (struct kv_rows){.n = n, .queries = queries, .token = tokens, .sink_logit = sinks};
    return KV_OK;
}

int kv_scored_sweep_create(struct kv_scored_sweep *out, const struct kv_scored *scored, uint32_t head,
                           const struct kv_rows *rows, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *geometry = &scored->layer->info->geometry;
    const uint32_t tokens = geometry->tokens;
    uint32_t *index = kv_pool_take(pool, 2 * (size_t)tokens * sizeof *index);
    *out = (struct kv_scored_sweep){
        .recorded = {.layer = scored->layer, .kernels = scored->kernels, .head = head},
        .sweep = {.kernels = scored->kernels, .geometry = geometry, .rows = *rows}};
    out->sweep.lines.n = tokens;
    out->scratch = kv_pool_room(pool, kv_sweep_scratch(&out->sweep) * sizeof(float));
    if (!index || !out->scratch) return kv_fail(err, KV_EMEMORY, "out of memory for exact attention");
    out->sweep.lines = kv_recorded_lines(&out->recorded, tokens, index);
    return KV_OK;
}
