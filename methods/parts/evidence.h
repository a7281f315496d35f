/* Accumulated attention as a policy's state: one float a row, the weights that the row has got from all query
 * heads of its group, prompt queries (full causal attention) and decode queries alike. For a policy with
 * wants.column_sum and wants.state_floats = 1. */
#ifndef KVBENCH_METHODS_EVIDENCE_H
#define KVBENCH_METHODS_EVIDENCE_H

#include "methods/policy.h"

kv_hook kv_evidence_keep, kv_evidence_observe;

#endif
