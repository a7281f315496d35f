/* snapkv: the last prompt queries vote for the rows before them (Li et al., arXiv 2404.14469).
 *
 * score[j] = mean over the observation window's queries of their full-softmax weight on row j,
 * pooled over neighbours (average, zero padded, divisor always `kernel`, or maximum), mean over the
 * query heads of the group; the window itself always stays. Acts once, after the prefill.
 * Departures: one score per KV head (the authors' code keeps per query head, on repeated KV heads);
 * the mean instead of the sum, which orders alike. A budget counts the window, as the authors'
 * max_capacity_prompt does. A prompt shorter than the window keeps its newest rows. Other codes, by
 * parameter: votes=max, group=max   the largest instead of the mean, over queries and over heads
 * (DefensiveKV) join=before            heads are joined before pooling (KVCache-Factory; differs
 * with pooling=max) */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(64, 5, KV_VOTES_MEAN, KV_JOIN_AFTER, 0),
                                         {0}};

const struct kv_policy kv_policy_snapkv = {
    .name = "snapkv",
    .summary = "prompt rows that the last prompt queries attend to stay",
    .paper = "SnapKV (Li et al., arXiv 2404.14469)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
