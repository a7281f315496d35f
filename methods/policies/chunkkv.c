/* chunkkv: rows stay in whole chunks (Liu et al., arXiv 2502.00299), in the form of kvpress.
 *
 * Votes as in snapkv, summed over the KV heads of the layer; the prompt is cut into chunks of
 * `chunk` = 20 positions (the last may be short); a chunk's score is the mean of its rows' sums,
 * and the best budget div chunk chunks stay, the same in every head. Chunks that reach into the
 * window or the sinks come first. Less than one chunk for each of those: rows go one by one.
 * Departures: the paper re-uses the chosen chunks in neighbouring layers to save time; here every
 * layer chooses (the time is not measured). */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(64, 5, KV_VOTES_MEAN, KV_JOIN_AFTER, 0),
                                         {0}};

const struct kv_policy kv_policy_chunkkv = {
    .name = "chunkkv",
    .summary = "like snapkv, in whole chunks and the same rows for all heads",
    .paper = "ChunkKV (Liu et al., arXiv 2502.00299)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true, .chunk = 20, .shared_heads = 1},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
