/* The slow road's working copy of one lane: every held row, decoded, at a slot. Keys lie in panels as
 * the kernels want them. A row is decoded again only when its stored form changed.
 *
 * While the mirror is frozen, answers under way still read what is there: a row that is dropped or
 * changes its form keeps its slot, dead, until the thaw, and a new form gets a slot of its own. The
 * recorded keys of the tokens to come lie where these will find their slots, so that queries under way
 * meet them together with those that are there. */
#ifndef KVBENCH_HARNESS_MIRROR_H
#define KVBENCH_HARNESS_MIRROR_H

#include "methods/cache/cache.h"
#include "methods/kernels/ready.h"

struct kv_mirror {
    const struct kv_kernels *kernels;
    const struct kv_geometry *geometry;
    struct kv_view view;              /* how rows are seen */
    uint32_t columns[2];              /* of keys and values, as seen */
    uint32_t n_slots, capacity;       /* slots ever used; at most, whole panels */
    uint32_t opened;                  /* slots of panels that were zeroed: what lies past them nobody ever used */
    uint32_t *slot_of;                /* [tokens], valid for held tokens */
    uint32_t *token_of;               /* [slots] the last token there */
    uint8_t *live;                    /* [slots] 1 = holds a row, in its form of now */
    uint8_t *coded;                   /* [slots] */
    uint32_t *free_slots, n_free;
    bool frozen;
    uint32_t met;                     /* slots whose keys of the freeze all queries under way have met */
    uint32_t *dead_slots, n_dead;     /* to be freed by the thaw */
    uint32_t *changed, n_changed;     /* slots whose keys the last refresh brought; [tokens] */
    float *keys;                      /* [slots / panel][key columns][panel] */
    float *exact_keys;                /* the recorded keys likewise, or NULL when the same */
    float *values;                    /* [slots][value columns] */
    struct kv_kept_ready ready[2];    /* keys and values of the first slots; of no lines where nobody asked */
    float *row_keys, *row_values;     /* [CHUNK] scratch of a refresh */
    uint32_t *row_tokens;             /* [tokens] likewise */
    float *exact_row;                 /* [key_dim] */
};

/* rows: as many as ever fill slots at once. exact: also keep the recorded keys, for the comparison with exact
 * attention. */
int kv_mirror_create(struct kv_mirror *mirror, const struct kv_kernels *kernels,
                     const struct kv_geometry *geometry, const struct kv_view *view, uint32_t rows, bool exact,
                     struct kv_pool *pool, struct kv_error *err);

/* Keys and values of some slots stay ready for products of many rows, where the set makes them so. */
int kv_mirror_keep_ready(struct kv_mirror *mirror, struct kv_pool *pool, struct kv_error *err);

/* Takes over what changed in the lane of one cache since the last call (empties its dirty list); the
 * slots of keys that nobody has met are added to `changed`, which the caller empties. */
void kv_mirror_refresh(struct kv_mirror *mirror, struct kv_cache *cache, uint32_t lane);

/* Until the thaw; what comes are mostly the rows of tokens t .. t + n - 1 of a head. */
void kv_mirror_freeze(struct kv_mirror *mirror, const struct kv_tensor *keys, uint32_t head, uint32_t t,
                      uint32_t n);
/* Slots that a frozen mirror can still fill below `limit`. */
uint32_t kv_mirror_room(const struct kv_mirror *mirror, uint32_t limit);
void kv_mirror_thaw(struct kv_mirror *mirror);
/* The key at a slot, as a row; and a row into panels like the mirror's. */
void kv_mirror_key(const struct kv_mirror *mirror, uint32_t slot, float *key);
void kv_mirror_put_key(const struct kv_mirror *mirror, float *panels, uint32_t slot, const float *key);

#endif
