/* streaming: the first `sinks` tokens and the last budget - sinks stay, of a budget at or below the
 * sinks the newest row and the first budget - 1 (StreamingLLM, Xiao et al., arXiv 2309.17453, section
 * 3.2). Departure: the paper numbers positions inside the cache; the default here keeps the recorded
 * ones, since a model trained on longer texts than the budget sees no unknown distance;
 * positions=cache is as the paper. */
#include "methods/policy.h"

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) lanes[l].score[i] = (float)i;
}

const struct kv_policy kv_policy_streaming = {
    .name = "streaming", .summary = "attention sinks and the most recent tokens stay",
    .paper = "StreamingLLM (Xiao et al., arXiv 2309.17453)",
    .trim = {.budget = {.share = 0.2}, .sinks = 4}, .score = score, .in_blocks = true, .by_position = true};
