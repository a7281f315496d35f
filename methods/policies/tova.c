/* tova: the rows with the largest last-query weight stay (Oren et al., arXiv 2401.06104).
 *
 * score[j] = softmax weight of the newest query on row j, mean over all query heads of the layer: the
 * same rows for every KV head. when=step evicts at every step by the weights last observed; the
 * newest row has none yet and is protected (the paper scores it with its own query). Behind another
 * policy the heads may hold different rows: a head that does not hold a row gives it nothing. */
#include "methods/trim.h"

#include <string.h>

static void wants(const void *config, struct kv_wants *wants)
{
    wants->tail = 1;
    wants->state_floats = 1;
}

static float *state_of(struct kv_lane *lane) { return lane->state; }

/* sums[i] += the weights of a lane's row i, of the newest prompt query or of this step. */
static void add_weights(const struct kv_lane *lane, bool prompt, float *sums)
{
    const float *weights = prompt ? lane->prompt->tail_weights : lane->weights;
    const uint32_t *places = prompt ? lane->positions : lane->places;
    const size_t stride = prompt ? lane->prompt->n : lane->stride;
    for (uint32_t g = 0; g < lane->group; g++, weights += stride)
        for (uint32_t i = 0; i < lane->n; i++) sums[i] += weights[places[i]];
}

/* Where another policy came first: a lane's own sums, and then those of all that hold the row. */
static void average_held(struct kv_lane *lanes, uint32_t n_lanes, bool prompt)
{
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        memset(lane->state, 0, lane->n * sizeof *lane->state);
        add_weights(lane, prompt, lane->state);
        for (uint32_t i = 0; i < lane->n; i++) lane->state[i] /= (float)(n_lanes * lane->group);
    }
    kv_sum_lanes(lanes, n_lanes, state_of);
}

/* state of every lane = mean over all heads of a row's weights. */
static void average(struct kv_lane *lanes, uint32_t n_lanes, bool prompt)
{
    const uint32_t n = lanes[0].n;
    if (!kv_lanes_hold_the_same(lanes, n_lanes) || (prompt && n != lanes[0].prompt->n)) {
        average_held(lanes, n_lanes, prompt);
        return;
    }
    float *sums = lanes[0].state;
    memset(sums, 0, n * sizeof *sums);
    for (uint32_t l = 0; l < n_lanes; l++) add_weights(&lanes[l], prompt, sums);
    for (uint32_t i = 0; i < n; i++) sums[i] /= (float)(n_lanes * lanes[0].group);
    for (uint32_t l = 1; l < n_lanes; l++) memcpy(lanes[l].state, sums, n * sizeof *sums);
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
