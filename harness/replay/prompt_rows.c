/* Rows of the prompt; see prompt_rows.h. */
#include "harness/replay/prompt_rows.h"

#include "harness/replay/prompt_statistics.h"
#include "methods/spec/spec_wants.h"

int kv_prompt_rows_add(const struct kv_replay *replays, uint32_t n, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_wants wants = kv_spec_wants(replays->spec);
    int status = KV_OK;
    if (!wants.prompt_rows && !wants.queries) return KV_OK;
    for (uint32_t u = 0; u < n; u++)
        for (uint32_t h = 0; status == KV_OK && h < replays[u].n_heads; h++) {
            const uint32_t head = replays[u].first_head + h;
            status = kv_prompt_rows(&replays[u].prompts[head], replays[u].owner, head, &wants,
                                    replays[u].kernels, pool, err);
        }
    return status;
}

void kv_prompt_rows_forget(const struct kv_replay *replays, uint32_t n)
{
    for (uint32_t u = 0; u < n; u++)
        for (uint32_t h = 0; h < replays[u].n_heads; h++) {
            struct kv_prompt *prompt = &replays[u].prompts[replays[u].first_head + h];
            prompt->keys = prompt->values = prompt->queries = NULL;
        }
}
