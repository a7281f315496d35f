/* How the layers of a model share the budget: rows of one layer, from rows a layer on average.
 *
 * With B the budget, w the rows whose queries judge (they stay and count), n the prompt, L the
 * layers of the model and base = B - w:
 * - pyramid: PyramidKV (Cai et al., arXiv 2406.02069): m = base div beta, M = 2 base - m, where
 *   M > n - w: M = n - w and m = 2 base - M; layer l holds w + M - l (M - m) / (L - 1). n < B or
 *   n < 2 base: B everywhere. Rounded so that layers l and L - 1 - l hold 2 B together: the model
 *   holds B L exactly
 * - pyramid_integer: the authors' code: (M - m) div (L - 1), which gives later layers up to L - 2
 *   rows more and the model more than its budget
 * - pyramid_kvpress: base = B, m = B / beta, rounded half to even; where not n >= M >= m >= w: B
 *   everywhere
 * - inverted: the pyramid upside down: later layers hold more (Scissorhands)
 * - cake: CAKE (Qin et al., arXiv 2503.12491): base L shared by the layers' preferences, none above
 *   n - w, what is cut off shared again; whole rows by largest remainder, of equal ones the earlier
 *   layer's. Layers that the recording has, not those of the model
 *
 * For a policy that evicts while it decodes n is all tokens. A layer holds one row at least: with
 * none it could not answer. */
#ifndef KVBENCH_METHODS_LAYER_BUDGET_H
#define KVBENCH_METHODS_LAYER_BUDGET_H

#include "methods/policy.h"

/* Rows of the geometry's layer; `average` is the budget a layer. */
uint32_t kv_layer_budget(const struct kv_trim *trim, const struct kv_geometry *geometry,
                         const struct kv_survey *survey, uint32_t average);

/* Of n layers that say the same of themselves, seen by the one at `here`; kept in the pool. NULL: no memory. */
const struct kv_survey *kv_survey_alike(struct kv_pool *pool, uint32_t n, uint32_t here);

#endif
