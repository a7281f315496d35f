/* adakv: the heads of a layer share one budget by score (Ada-SnapKV, Feng et al., arXiv
 * 2407.11550).
 *
 * Votes as in snapkv, with the authors' setting: window 32, maximum pooling over 7, query heads of
 * a group averaged before pooling. The best H (B - w) rows of all H heads together give head h a
 * count B_h; it then keeps its best B_h (1 - floor) + (B - w) floor rows (floor_percent, 20) and
 * the window. Every head stores what it keeps and no more; where it begins and how long it is costs
 * 8 bytes a head (metadata). Departures: whole rows by largest remainder, so that the layer holds H
 * B rows exactly (the authors round each head). floor=safeguard is kvpress's rule: a head's best
 * floor x B rows are out of the competition. pooled_heads=1:floor_percent=20 does the same to any
 * other scorer. */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(32, 7, KV_VOTES_MAX, KV_JOIN_BEFORE, 0),
                                         {0}};

const struct kv_policy kv_policy_adakv = {
    .name = "adakv",
    .summary = "like snapkv, the heads of a layer share one budget by score",
    .paper = "Ada-KV (Feng et al., arXiv 2407.11550)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true, .pooled_heads = 1, .floor_percent = 20},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
