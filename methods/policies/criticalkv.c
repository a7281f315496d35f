/* criticalkv: half of the budget by score, half by score and weight of the value (Feng et al.,
 * arXiv 2502.03805), over snapkv's votes.
 *
 * The best B/2 rows stay (window included); the others are ranked by (score + 1e-4) |W_o v|_1, the
 * L1 norm of what the value adds to the layer's output, mean over the query heads of the group.
 * output_percent = 50 is the second share; it works with any scorer that acts on the prompt, and
 * with pooled_heads=1. The recording must have w_o: without it the row is skipped. */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(64, 5, KV_VOTES_MEAN, KV_JOIN_AFTER, 0),
                                         {0}};

const struct kv_policy kv_policy_criticalkv = {
    .name = "criticalkv",
    .summary = "half by votes, half by votes times the weight of the value in the output",
    .paper = "CriticalKV (Feng et al., arXiv 2502.03805)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true, .output_percent = 50},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
