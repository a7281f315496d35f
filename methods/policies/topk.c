/* topk (oracle): every query head reads the `budget` rows with its largest logits; all rows stay.
 * The ceiling of sparse reading: no system knows the logits before it has read the keys. */
#include "methods/policy.h"
#include "methods/trim.h"

#include <string.h>

struct config { struct kv_budget budget; };

static const struct kv_param params[] = {
    {"budget", KV_PARAM_BUDGET, offsetof(struct config, budget), 128, 1, 1 << 30, NULL,
     "rows read per query head and step"},
    {0}};

static void wants(const void *config, struct kv_wants *wants) { wants->logits = true; }

static void select(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                   uint32_t n_lanes)
{
    const struct config *config = self->config;
    const uint32_t budget = kv_budget_tokens(config->budget, step->geometry->prefill);
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t g = 0; g < lanes[l].group && lanes[l].n > budget; g++) {
            const uint32_t n = lanes[l].n;
            const uint8_t *fate = lanes[l].fate;
            uint8_t *reads = lanes[l].reads + (size_t)g * n;
            for (uint32_t i = 0; i < n; i++) lanes[l].scratch[i] = i;
            memset(lanes[l].fate, KV_STAYS, n);
            kv_drop_lowest(lanes[l].logits + (size_t)g * n, lanes[l].scratch, n, n - budget,
                           lanes[l].fate);
            for (uint32_t i = 0; i < n; i++) reads[i] = fate[i] == KV_DROP ? 0 : reads[i];
        }
}

const struct kv_policy kv_policy_topk = {
    .name = "topk", .summary = "oracle: each query head reads its largest logits", .paper = "-",
    .params = params, .config_size = sizeof(struct config), .wants = wants, .select = select,
    .oracle = true};
