/* Accumulated attention; see evidence.h. */
#include "methods/parts/evidence.h"

void kv_evidence_keep(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                      uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            double sum = 0.0;
            for (uint32_t g = 0; g < lanes[l].group; g++)
                sum += lanes[l].prompt->column_sum[(size_t)g * lanes[l].prompt->n + lanes[l].positions[i]];
            lanes[l].state[i] = (float)sum;
        }
}

void kv_evidence_observe(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                         uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t g = 0; g < lanes[l].group; g++)
            for (uint32_t i = 0; i < lanes[l].n; i++)
                lanes[l].state[i] +=
                    lanes[l].weights[(size_t)g * lanes[l].stride + lanes[l].places[i]];
}
