/* Mean and covariance of queries before their rotation, turned by the mean rotation of positions to
 * come. */
#ifndef KVBENCH_METHODS_QUERY_MOMENTS_H
#define KVBENCH_METHODS_QUERY_MOMENTS_H

#include "methods/policy.h"

struct kv_query_moments {
    const struct kv_geometry *geometry;
    double *cosine, *sine;           /* [prefill][rope.dims / 2] of the prompt's positions */
    double *row, *mean;              /* [key_dim] */
    double *covariance;              /* [key_dim][key_dim] */
    double *mean_cosine, *mean_sine; /* [rope.dims / 2] of positions to come */
};

/* Workspace for one head's moments; false without memory. */
bool kv_query_moments_create(struct kv_query_moments *moments, const struct kv_geometry *geometry,
                             struct kv_pool *pool);
/* Of the queries [n][key_dim] of tokens first .. n - 1, turned back to before their rotation. */
void kv_query_moments_take(struct kv_query_moments *moments, const float *queries, uint32_t first,
                           uint32_t n, bool covariance);
/* Turns both by the mean rotation of the `future` positions after token n - 1's. */
void kv_query_moments_turn(struct kv_query_moments *moments, uint32_t n, uint32_t future,
                           bool covariance);
/* key . mean; key . covariance . key. */
double kv_query_moments_mean(const struct kv_query_moments *moments, const float *key);
double kv_query_moments_square(const struct kv_query_moments *moments, const float *key);

#endif
