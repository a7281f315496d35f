/* tova: the rows with the largest last-query weight stay (Oren et al., arXiv 2401.06104).
 *
 * score[j] = softmax weight of the newest query on row j, mean over all query heads of the layer: the
 * same rows for every KV head. when=step evicts at every step by the weights last observed; the
 * newest row has none yet and is protected (the paper scores it with its own query). Behind another
 * policy the heads may hold different rows: a head that does not hold a row gives it nothing. */
#include "methods/trim.h"

static void wants(const void *config, struct kv_wants *wants)
{
    wants->tail = 1;
    wants->state_floats = 1;
}

static float *state_of(struct kv_lane *lane) { return lane->state; }

/* Where another policy came first: a lane's own sums, and then those of all that hold the row. */
static void average_held(struct kv_lane *lanes, uint32_t n_lanes, bool prompt)
{
    for (uint32_t l = 0; l < n_lanes; l++) {
        const struct kv_lane *lane = &lanes[l];
        const float *weights = prompt ? lane->prompt->tail_weights : lane->weights;
        const size_t n = prompt ? lane->prompt->n : lane->n;
        for (uint32_t i = 0; i < lane->n; i++) {
            float sum = 0.0f;
            for (uint32_t g = 0; g < lane->group; g++)
                sum += weights[g * n + (prompt ? lane->positions[i] : i)];
            lane->state[i] = sum / (float)(n_lanes * lane->group);
        }
    }
    kv_sum_lanes(lanes, n_lanes, state_of);
}

/* state of every lane = mean over all heads of weights[lane][g][i]. */
static void average(struct kv_lane *lanes, uint32_t n_lanes, bool prompt)
{
    const uint32_t n = lanes[0].n;
    if (!kv_lanes_hold_the_same(lanes, n_lanes) || (prompt && n != lanes[0].prompt->n)) {
        average_held(lanes, n_lanes, prompt);
        return;
    }
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
