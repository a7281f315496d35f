/* How the heads of a layer share one budget (Ada-KV, Feng et al., arXiv 2407.11550): what is not
 * protected goes to the best rows of all heads together; each head is then given what it won there,
 * or nearer to an equal share, as a floor demands:
 *
 *   blend      (the paper) won x (1 - floor) + equal share x floor, in whole rows by largest
 *              remainder, so that the sum stays exact (the authors round each head by itself)
 *   safeguard  (kvpress) a head's best floor x budget rows are out of the competition
 *
 * Of equal claims the earlier head's goes before: of equal scores its rows stay, the earlier ones
 * first, and of equal remainders it gets the row. Heads whose scores are all equal give everything to
 * the first; exchange them, and the other one has it. */
#ifndef KVBENCH_METHODS_HEAD_BUDGET_H
#define KVBENCH_METHODS_HEAD_BUDGET_H

#include "methods/policy.h"

/* Sets lanes[i].budget from scores; the sum stays. Scores of safeguarded rows become infinite. Where
 * a budget is no more than what is protected there is nothing to share, and all stay as they were.
 * The lanes' arrays lie at equal distances. */
void kv_share_heads(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes);

#endif
