/* How much an error in an entry of K or V matters, by the trace's gradient probes.
 *
 * A probe gives g_t = dL / d o_t for the tokens t of a window, o_t = sum_j a_tj v_j the output of a
 * query head, a_tj = softmax_j(l_tj), l_tj = cap(scale q_t.k_j). By the chain rule, summed over the
 * window's t that see row j and over the query heads of its KV head:
 *
 *     dL / dv_j = sum_t a_tj g_t
 *     dL / dk_j = sum_t a_tj (g_t.v_j - g_t.o_t) cap'(l_tj) scale q_t
 *
 * (a sink logit stands in the softmax with a value of 0, so the second line holds with it; cap' = 1
 * - (l / softcap)^2, or 1). Keys before the rotation: dL / dk = R^T dL / dk_rotated. What is kept
 * is the square, summed over windows (each was differentiated on its own) and averaged over the
 * Fisher probes: by their construction an estimate of the diagonal of the Fisher information; of
 * the label probe: the empirical one, as KVQuant has it.
 *
 * Only the owner's own query heads count where layers share K and V. Sums in double, in a fixed
 * order, with an exponential of our own: codebooks that are fitted with these must not depend on
 * the CPU. Weights below 2^-30 are left out. */
#ifndef KVBENCH_HARNESS_PROBE_SQUARES_H
#define KVBENCH_HARNESS_PROBE_SQUARES_H

#include "methods/policy.h"
#include "traces/trace.h"

/* Fills prompt->fisher and prompt->label for one KV head as `wants` asks; NULL stays where the
 * layer was read without such gradients. What is kept lies in `pool`, everything else in `work`. */
int kv_probe_squares(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                     const struct kv_wants *wants, struct kv_pool *pool, struct kv_pool *work,
                     struct kv_error *err);

#endif
