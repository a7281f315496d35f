/* pyramidkv: snapkv with more rows in early layers, fewer in late ones (Cai et al., arXiv
 * 2406.02069).
 *
 * The score is snapkv's. With B the budget of a layer on average, w the window, base = B - w, n the
 * prompt: smallest m = base div beta, largest M = 2 base - m (M > n - w: M = n - w, m = 2 base -
 * M); layer l of the model's L keeps w + M - l (M - m) / (L - 1) rows. A prompt below B, or below 2
 * base: B everywhere. Departures: each pair of layers l, L - 1 - l is rounded to exactly 2 B, since
 * the authors' integer step lets the model hold more than its budget (layer_budget=pyramid_integer
 * is their code, pyramid_kvpress that of kvpress 0.5.5, where base = B). The paper keeps one row
 * per query head; here per KV head. A recording of some layers holds what the model would hold in
 * them: the realised budget is in kept_tokens. */
#include "methods/parts/votes.h"

static const struct kv_param params[] = {KV_VOTE_PARAMS(64, 5, KV_VOTES_MEAN, KV_JOIN_AFTER, 0),
                                         {0}};

const struct kv_policy kv_policy_pyramidkv = {
    .name = "pyramidkv",
    .summary = "like snapkv, with larger budgets in earlier layers",
    .paper = "PyramidKV (Cai et al., arXiv 2406.02069)",
    .params = params,
    .config_size = sizeof(struct kv_vote_config),
    .trim = {.budget = {.share = 0.2},
             .prompt_only = true,
             .layer_budget = KV_LAYERS_PYRAMID,
             .beta = 20},
    .wants = kv_votes_wants,
    .score = kv_votes_score,
    .survey = kv_votes_survey};
