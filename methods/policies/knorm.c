/* knorm: rows with small keys stay (Devoto et al., arXiv 2406.11430): score = -|k|_2, once,
 * after the prefill. */
#include "methods/policy.h"

#include <math.h>

static void wants(const void *config, struct kv_wants *wants) { wants->prompt_rows = true; }

static int create(struct kv_chooser *self, const struct kv_setup *setup, struct kv_error *err)
{
    if (self->trim.prompt_only) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "knorm: when=step: only the prompt's norms are at hand");
}

static float norm(const float *key, uint32_t dim)
{
    double sum = 0.0;
    for (uint32_t c = 0; c < dim; c++) sum += (double)key[c] * key[c];
    return (float)sqrt(sum);
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint32_t dim = lanes[l].key_dim;
        for (uint32_t i = 0; i < lanes[l].n; i++)
            lanes[l].score[i] = -norm(lanes[l].prompt->keys + (size_t)lanes[l].positions[i] * dim, dim);
    }
}

const struct kv_policy kv_policy_knorm = {
    .name = "knorm", .summary = "rows with small key norms stay",
    .paper = "L2 norm-based compression (Devoto et al., arXiv 2406.11430)",
    .trim = {.budget = {.share = 0.2}, .prompt_only = true},
    .wants = wants, .create = create, .score = score, .in_blocks = true};
