/* What a codec or a policy is given when it is made, and what it may be fitted on. */
#ifndef KVBENCH_METHODS_SETUP_H
#define KVBENCH_METHODS_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/base/geometry.h"
#include "harness/base/params.h"
#include "harness/base/pool.h"
#include "harness/base/status.h"
#include "methods/kernels/kernels.h"

enum kv_side { KV_KEYS, KV_VALUES, KV_BOTH_SIDES };

enum kv_span { KV_SPAN_SIDES = 1, KV_SPAN_HEADS = 2 };

struct kv_stage;                 /* one parsed stage of a spec, see methods/spec/spec.h */

struct kv_setup {
    const struct kv_geometry *geometry;
    const void *config;          /* the method's own config struct, valid for the object's life */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;        /* charge what must be resident; see enum kv_class */
    uint64_t seed;
    uint32_t head, n_heads;      /* KV heads served: the first, and how many */
    uint32_t n_layers;           /* layers served (kv_codec.layer_group); 0 or 1: geometry's alone */
    bool sizes_only;             /* the object only counts: it never sees a row, what is fitted is never used */
    bool is_inner;               /* codec: another one makes it, of the stages to its right */
    const struct kv_geometry *const *layers;   /* [n_layers] theirs, all of one shape; NULL for one */
    uint32_t dim;                /* codec: columns of a row */
    enum kv_side side;           /* codec: which side its rows are */
    const struct kv_stage *rest; /* codec: the stages to its right (a KV_LEAVES_ROWS codec makes its inner) */
};

/* Rows for fit, exact, before anything is dropped: all prompt rows of the object, or rows of a
 * calibration text of the same layers and heads. */
struct kv_sample {
    uint32_t n;
    bool sizes_only;             /* of a bank that counts: rows are zeros, what is found is never used */
    uint32_t counted;            /* sizes_only: how many rows a fit would see; 0: not known */
    const float *rows;           /* [n][dim] in the codec's column order (keys unrotated if so marked) */
    const uint32_t *positions;   /* [n] */
    const float *queries;        /* [n_queries][key_dim] where the codec wants them, else NULL: the query
                                  * heads of the object's lanes (KV heads, layers outermost), of each
                                  * its n queries; unrotated where the rows are. Of one lane, and where
                                  * all_lags is wanted of such rows: key_dim vectors whose squares q q^T
                                  * sum to those of all queries, turned on by the lags (lags.h) */
    uint32_t n_queries;
    const float *fisher, *label; /* [n][dim] squares of gradients like rows (struct kv_squares), or NULL */
    const float *const *w_o;     /* of each layer [hidden][q_heads * value_dim], or NULL */
    uint32_t hidden;
    const char *behind;          /* the codec whose rows these are, where it hides what is NULL above; or NULL */
};

/* Whether fewer rows than `rank` are fitted on; false where nobody knows. */
static inline bool kv_sample_is_short(const struct kv_sample *sample, uint32_t rank)
{
    return sample->sizes_only ? sample->counted && sample->counted < rank : sample->n < rank;
}
static inline uint32_t kv_sample_rows(const struct kv_sample *sample)
{
    return sample->sizes_only ? sample->counted : sample->n;
}

#endif
