/* Trim: the one rule by which scores become fates. Protected rows (sinks, recent) stay and count; of
 * the others the best by score stay, down to the budget; among equals the earlier one stays.
 *
 * Where steps are trimmed the newest row always stays: an answer reads its own token, and nobody has
 * looked for it yet, so that its score would be the lowest (replay.md, rules 2 and 3; kvpress's
 * DecodingPress and the published H2O and TOVA codes cut after the answer, which has read its token). A
 * budget below what is protected takes from the recent rows first, the oldest of them, then from the
 * sinks, the latest of them, whatever their scores: of one row that is the newest, of `sinks` rows or
 * fewer the first ones and, where steps are trimmed, the newest. Heads that pool their budgets rank
 * the rows of all: of equal scores the earlier head's stays (head_budget.h).
 */
#ifndef KVBENCH_METHODS_TRIM_H
#define KVBENCH_METHODS_TRIM_H

#include "methods/policy.h"

/* Whether trim would drop anything now: asked before a score is computed. */
bool kv_trim_acts(const struct kv_trim *trim, const struct kv_step *step,
                  const struct kv_lane *lanes, uint32_t n_lanes);

/* Marks fates from scores; may change the scores. With pooled heads the first call shares the sum of
 * the lanes' budgets by score, and each lane keeps its share (lanes[i].budget) from then on. */
void kv_trim_apply(const struct kv_trim *trim, const struct kv_step *step, struct kv_lane *lanes,
                   uint32_t n_lanes);

/* What each lane has at a row (of: its score, or its state of one float) becomes the sum over the lanes
 * that hold the row's position. Lanes hold different rows where another policy came first. */
void kv_sum_lanes(struct kv_lane *lanes, uint32_t n_lanes, float *(*of)(struct kv_lane *lane));
bool kv_lanes_hold_the_same(const struct kv_lane *lanes, uint32_t n_lanes);

/* What a budget protects of a lane that holds so many rows at positions below trim->sinks: its first
 * rows and its newest, together no more than the budget. */
struct kv_protected { uint32_t sinks, recent; };
struct kv_protected kv_trim_protected(const struct kv_trim *trim, uint32_t budget, uint32_t sinks);

/* Rows that a step drops at once, at least. */
uint32_t kv_trim_at_once(const struct kv_trim *trim, uint32_t budget);

/* Lists the rows that are not protected; returns how many. */
uint32_t kv_trim_candidates(const struct kv_trim *trim, const struct kv_lane *lane,
                            uint32_t *candidates);

/* Marks the m lowest of candidates (n ascending indices into score) with KV_DROP; among equal scores the
 * later index goes. NaN counts as lowest. Uses up the candidates. */
void kv_drop_lowest(const float *score, uint32_t *candidates, uint32_t n, uint32_t m, uint8_t *fate);

#endif
