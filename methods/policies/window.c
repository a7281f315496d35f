/* window: the last `budget` tokens stay, the current one included. */
#include "methods/policy.h"

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) lanes[l].score[i] = (float)i;
}

const struct kv_policy kv_policy_window = {
    .name = "window", .summary = "the last `budget` tokens stay",
    .paper = "sliding window attention (Beltagy et al., arXiv 2004.05150)",
    .trim = {.budget = {.share = 0.2}}, .score = score, .in_blocks = true, .by_position = true};
