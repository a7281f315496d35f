/* tova: the rows with the largest last-query weight stay (Oren et al., arXiv 2401.06104).
 *
 * score[j] = softmax weight of the newest query on row j, mean over all query heads of the layer: the
 * same rows for every KV head. when=step evicts at every step by the weights last observed; the
 * newest row has none yet and is protected (the paper scores it with its own query). */
#include "methods/policy.h"

static void wants(const void *config, struct kv_wants *wants)
{
    wants->tail = 1;
    wants->state_floats = 1;
}

/* state of every lane = mean over all heads of weights[lane][g][i]. */
static void average(struct kv_lane *lanes, uint32_t n_lanes, bool prompt)
{
    const uint32_t n = lanes[0].n;
    for (uint32_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (uint32_t l = 0; l < n_lanes; l++) {
            const float *weights = prompt ? lanes[l].prompt->tail_weights : lanes[l].weights;
            for (uint32_t g = 0; g < lanes[l].group; g++) sum += weights[(size_t)g * n + i];
        }
        for (uint32_t l = 0; l < n_lanes; l++)
            lanes[l].state[i] = sum / (float)(n_lanes * lanes[0].group);
    }
}

static void keep(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                 uint32_t n_lanes)
{
    average(lanes, n_lanes, true);
}

static void observe(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                    uint32_t n_lanes)
{
    average(lanes, n_lanes, false);
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) lanes[l].score[i] = lanes[l].state[i];
}

const struct kv_policy kv_policy_tova = {
    .name = "tova", .summary = "rows that the last query attends to stay",
    .paper = "TOVA (Oren et al., arXiv 2401.06104)", .scope = KV_LAYER_HEADS,
    .trim = {.budget = {.share = 0.2}, .recent = 1},
    .wants = wants, .keep = keep, .observe = observe, .score = score};
