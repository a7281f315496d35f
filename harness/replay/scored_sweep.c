/* Exact attention of scored queries; see scored_sweep.h. */
#include "harness/replay/scored_sweep.h"

static void list_rows(const struct kv_scored *scored, uint32_t head, uint32_t *tokens, float *sinks)
{
    const struct kv_geometry *geometry = &scored->layer->info->geometry;
    for (uint32_t r = 0; r < scored->n * geometry->group; r++) {
        tokens[r] = scored->tokens[r / geometry->group];
        if (geometry->sink_logits)
            sinks[r] = geometry->sink_logits[head * geometry->group + r % geometry->group];
    }
}

int kv_scored_sweep_create(struct kv_scored_sweep *out, const struct kv_scored *scored, uint32_t head,
                           struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *geometry = &scored->layer->info->geometry;
    const uint32_t n = scored->n * geometry->group, tokens = geometry->tokens;
    uint32_t *index = kv_pool_take(pool, 2 * (size_t)tokens * sizeof *index);
    uint32_t *token = kv_pool_take(pool, n * sizeof *token);
    float *queries = kv_pool_take(pool, (size_t)n * geometry->key_dim * sizeof *queries);
    float *sinks = kv_pool_take(pool, n * sizeof *sinks);
    *out = (struct kv_scored_sweep){
        .recorded = {.layer = scored->layer, .kernels = scored->kernels, .head = head},
        .sweep = {.kernels = scored->kernels, .geometry = geometry}};
    struct kv_sweep *sweep = &out->sweep;
    sweep->rows = (struct kv_rows){.n = n, .queries = queries, .token = token,
                                   .sink_logit = geometry->sink_logits ? sinks : NULL};
    sweep->lines.n = tokens;
    out->scratch = kv_pool_take(pool, kv_sweep_scratch(sweep) * sizeof(float));
    if (!index || !token || !queries || !sinks || !out->scratch)
        return kv_fail(err, KV_EMEMORY, "out of memory for exact attention");
    sweep->lines = kv_recorded_lines(&out->recorded, tokens, index);
    list_rows(scored, head, token, sinks);
    kv_widen_queries(scored->layer, head, scored->tokens, scored->n, scored->kernels, queries);
    return KV_OK;
}
