/* cake: the layers share one budget by how scattered and how restless their attention is (Qin et al., arXiv
 * 2503.12491).
 *
 * A = full-softmax weights of the last w = 32 prompt queries on the n - w rows before them. A layer's
 * preference is P = H V, H = -sum A log(A + 1e-10) over query heads, queries and rows (dispersion), V = sum of
 * the variances over the queries (divided by w - 1; shift). Of base = B - w rows a layer on average, layer l
 * gets base L P_l / sum P, none more than n - w, what is cut off shared again; and its window. Score of a row:
 * mean + gamma x variance over the queries (gamma = 200), average pooling over 5, mean over the group.
 * Departures: exponents 1 / tau of H and V are 1; L counts the layers of the recording, not of the model;
 * budgets are final from the start, where the paper's cascade shrinks earlier layers while later ones are
 * prefilled (the same rows stay, its peak is lower); decoded tokens are kept. layer_budget=cake does the same
 * for the other policies that vote. */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(32, 5, KV_VOTES_MEAN, KV_JOIN_AFTER, 200),
                                         {0}};

const struct kv_policy kv_policy_cake = {
    .name = "cake",
    .summary = "like snapkv, with layer budgets by the scatter and shift of attention",
    .paper = "CAKE (Qin et al., arXiv 2503.12491)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true, .layer_budget = KV_LAYERS_CAKE},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
