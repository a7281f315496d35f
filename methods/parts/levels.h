/* Rows whose values are one of a few levels times the magnitude of their group, a half a group:
 * what sign and ternary differ in is how levels are chosen and how their codes lie in the payload.
 */
#ifndef KVBENCH_METHODS_PARTS_LEVELS_H
#define KVBENCH_METHODS_PARTS_LEVELS_H

#include "methods/codec.h"

struct kv_levels {
    struct kv_code code;
    const struct kv_kernels *kernels;
    uint32_t group;
    uint8_t *codes; /* [dim + spare] */
};

struct kv_levels_config {
    uint32_t group_size;
};

extern const struct kv_param kv_levels_params[];

/* The codes of an atom's columns first .. first + n - 1, in self->codes. */
typedef const uint8_t *kv_levels_unpack(const struct kv_levels *self, const uint8_t *atom,
                                        uint32_t first, uint32_t n);

/* spare: codes that the method's packing needs behind a row. */
int kv_levels_create(struct kv_code **out, const struct kv_setup *setup,
                     const struct kv_codec *type, uint32_t payload_bytes, uint32_t spare,
                     struct kv_error *err);

/* Of one atom; table: the levels. */
void kv_levels_decode(const struct kv_code *code, const float *table, kv_levels_unpack *unpack,
                      const uint8_t *atom, uint32_t first, uint32_t n, float *out);

#endif
