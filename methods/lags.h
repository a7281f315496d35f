/* Queries as keys before the rotation meet them: turned on by the lag between the two. */
#ifndef KVBENCH_METHODS_LAGS_H
#define KVBENCH_METHODS_LAGS_H

#include <stdbool.h>

#include "harness/base/geometry.h"
#include "harness/base/pool.h"

/* squares [key_dim][key_dim], symmetric, in place: a sum of q q^T over queries before the rotation
 * becomes the sum over lags of p(lag) R_lag squares R_lag^T. p is the share of a lag among the
 * pairs of a query and a key that it sees, of n tokens from `first` on. What rotates was scaled on
 * both sides, and counts so. Scratch comes from the pool; false when memory is exhausted. */
bool kv_lags_average(double *squares, const struct kv_geometry *geometry, uint32_t first,
                     uint32_t n, struct kv_pool *pool);

#endif
