/* How the heads of a layer share one budget (Ada-KV, Feng et al., arXiv 2407.11550): what is not
 * protected goes to the best rows of all heads together; each head is then given what it won there,
 * or nearer to an equal share, as a floor demands:
 *   blend      (the paper) won x (1 - floor) + equal share x floor, in whole rows by largest
 * remainder, so that the sum stays exact (the authors round each head by itself) safeguard
 * (kvpress) a head's best floor x budget rows are out of the competition. */
#ifndef KVBENCH_METHODS_HEAD_BUDGET_H
#define KVBENCH_METHODS_HEAD_BUDGET_H

#include "methods/policy.h"

/* Sets lanes[i].budget from scores; the sum stays. Scores of safeguarded rows become infinite. A
 * budget below what is protected stays equal. The lanes' arrays lie at equal distances. */
void kv_share_heads(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes);

#endif
