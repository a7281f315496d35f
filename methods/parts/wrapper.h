/* What codecs share that leave rows to an inner codec: its block, tiers and bytes are theirs. */
#ifndef KVBENCH_METHODS_PARTS_WRAPPER_H
#define KVBENCH_METHODS_PARTS_WRAPPER_H

#include "methods/codec.h"

/* The outer object's face: `type` outside, everything else of the inner. */
struct kv_code kv_wrap_code(const struct kv_codec *type, uint32_t dim, const struct kv_code *inner);

/* `used` of an object that begins with its kv_code and then its inner one, whose atom comes first.
 */
uint32_t kv_wrapped_used(const struct kv_code *outer, const uint8_t *atom);

/* Turns one row into one row of the inner codec. */
typedef void kv_row_map(const struct kv_code *outer, const float *row, float *inner_row);

/* What a map makes of what is known beside the rows. */
enum kv_map_kind {
    KV_MAP_OTHER, /* columns of their own: nothing is known of them */
    KV_MAP_TURN, /* one head's row is turned, and so are queries; squares of gradients are not known
                  */
    KV_MAP_SHIFT /* the same columns: queries, gradients and W_o are what they were */
};

/* Fits inner, where it can be fitted, on the sample's rows as `map` turns them; then renews the
 * face of outer, since a fit may change sizes. */
int kv_fit_inner(struct kv_code *outer, struct kv_code *inner, const struct kv_sample *sample,
                 kv_row_map *map, enum kv_map_kind kind, struct kv_error *err);

/* The reason of a fit that wants what is not there: `missing` of the trace, or hidden by another
 * codec. */
int kv_fit_lacks(const struct kv_sample *sample, const char *name, const char *what,
                 const char *missing, struct kv_error *err);

#endif
