/* The slow road's working copy of one lane: every held row, decoded, at a slot. Keys lie in panels as
 * the kernels want them. A row is decoded again only when its stored form changed. */
#ifndef KVBENCH_HARNESS_MIRROR_H
#define KVBENCH_HARNESS_MIRROR_H

#include "methods/cache.h"

struct kv_mirror {
    const struct kv_kernels *kernels;
    const struct kv_geometry *geometry;
    uint32_t n_slots, capacity;       /* slots ever used, rounded up to panels in `capacity` */
    uint32_t *slot_of;                /* [tokens], valid for held tokens */
    uint32_t *token_of;               /* [slots]; UINT32_MAX = free */
    uint8_t *coded;                   /* [slots] */
    uint32_t *free_slots, n_free;
    float *keys;                      /* [slots / panel][key_dim][panel] */
    float *exact_keys;                /* the recorded keys likewise, or NULL when the same */
    float *values;                    /* [slots][value_dim] */
    float *row_keys, *row_values;     /* [tokens] scratch of a refresh */
    uint32_t *row_tokens;
    float *exact_row;                 /* [key_dim] */
};

/* exact: also keep the recorded keys, for the comparison with exact attention. */
int kv_mirror_create(struct kv_mirror *mirror, const struct kv_kernels *kernels,
                     const struct kv_geometry *geometry, bool exact, struct kv_pool *pool,
                     struct kv_error *err);

/* Takes over what changed in the lane of one cache since the last call (empties its dirty list). */
void kv_mirror_refresh(struct kv_mirror *mirror, struct kv_cache *cache, uint32_t lane);

#endif
