/* positions=cache: a row answers from its place among the held rows rather than from its recorded
 * position (StreamingLLM, arXiv 2309.17453, section 3.2). Keys and queries are turned back and to
 * the numbers of their slots, so distances close up where rows were dropped. Visibility stays by
 * recorded positions. Slow road only: the numbers change at every step. */
#ifndef KVBENCH_HARNESS_RENUMBER_H
#define KVBENCH_HARNESS_RENUMBER_H

#include "harness/replay/mirror.h"
#include "methods/rotary.h"

struct kv_renumber {
    const struct kv_geometry *geometry;  /* of the layer that owns the rows */
    struct kv_rotary recorded, numbered; /* by token, by number; unused without a rotation */
    float *keys;                         /* [slots / panel][key_dim][panel] as in the mirror */
    uint32_t *number_of; /* [tokens] rank among the held rows, the token's own or next */
    uint8_t *held;       /* [tokens] */
    float *row;          /* [key_dim] */
};

/* first: another lane's, whose rotary tables this one shares; or NULL. */
int kv_renumber_create(struct kv_renumber *renumber, const struct kv_mirror *mirror,
                       const struct kv_renumber *first, struct kv_pool *pool, struct kv_error *err);

/* Fills keys: those of the mirror's live slots, at the numbers of this step. */
void kv_renumber_keys(struct kv_renumber *renumber, const struct kv_mirror *mirror);
/* Query rows [n][key_dim] of token t, in place: to the number of its own row. After
 * kv_renumber_keys. */
void kv_renumber_queries(const struct kv_renumber *renumber, uint32_t t, uint32_t n,
                         float *queries);

#endif
