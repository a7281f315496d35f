/* random: rows are dropped uniformly by seed; the recent half of the budget is protected, like h2o's.
 * Every row draws one number when it enters, a function of (seed, layer, head, position); the lowest
 * goes. So what is held at any time is a uniform sample of the rows that were not protected. */
#include "harness/base/rng.h"
#include "methods/policy.h"

enum { STREAM = 0x52414e44 };   /* "RAND": apart from other users of the seed */

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const uint32_t key[2] = {(uint32_t)step->seed, (uint32_t)(step->seed >> 32)};
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            uint32_t words[4];
            kv_philox(key, (uint32_t[4]){lanes[l].positions[i], step->geometry->layer, lanes[l].head,
                                         STREAM}, words);
            lanes[l].score[i] = (float)(words[0] >> 8);
        }
}

static bool is_random(const void *config) { return true; }

const struct kv_policy kv_policy_random = {
    .name = "random", .summary = "uniformly chosen tokens and the recent ones stay", .paper = "-",
    .trim = {.budget = {.share = 0.2}, .recent_percent = 50}, .score = score, .in_blocks = true,
    .random = is_random};
