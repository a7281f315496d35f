/* What the parts of a bank share (bank.c, bank_fit.c, bank_read.c); nobody else includes it. */
#ifndef KVBENCH_METHODS_BANK_PARTS_H
#define KVBENCH_METHODS_BANK_PARTS_H

#include "methods/cache/bank.h"

struct kv_columns { uint32_t first, n; bool turned; };   /* of decoded rows */

struct kv_decoded {
    const uint8_t *atom;       /* NULL: block_rows holds something else */
    struct kv_columns columns;
};

/* Columns of a recorded row of one lane. */
static inline uint32_t kv_side_dim(const struct kv_geometry *geometry, enum kv_side side)
{
    return side == KV_KEYS     ? geometry->key_dim
           : side == KV_VALUES ? geometry->value_dim
                               : geometry->key_dim + geometry->value_dim;
}

/* The bank that a row lies in. */
static inline struct kv_bank *kv_bank_part_of(const struct kv_bank *bank, uint32_t token)
{
    return bank->later && bank->is_late[token] ? bank->later : (struct kv_bank *)bank;
}

/* The lane's columns of a recorded row, a key before its value; keys turned back where `rotary` is
 * given. Returns where the next lane's begin. */
float *kv_bank_gather_lane(const struct kv_bank *bank, const struct kv_source *source,
                           const struct kv_rotary *rotary, uint32_t head, uint32_t token, float *out);

/* Shows the codec the rows that it is fitted on, charges what it keeps, and says whether that is shared. */
int kv_bank_fit_code(struct kv_bank *bank, const struct kv_fit_rows *from, bool calibrated,
                     struct kv_error *err);

#endif
