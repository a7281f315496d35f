/* Rows of 16-bit words, a value each and 2 bytes of payload: what f16 and bf16 share. */
#ifndef KVBENCH_METHODS_PARTS_WORDS_H
#define KVBENCH_METHODS_PARTS_WORDS_H

#include "methods/codec.h"

struct kv_words {
    struct kv_code code;
    const struct kv_kernels *kernels;
};

int kv_words_create(struct kv_code **out, const struct kv_setup *setup,
                    const struct kv_codec *codec, struct kv_error *err);

/* A codec's decode, by the kernel that widens its words. */
void kv_words_decode(const struct kv_code *code,
                     void (*widen)(const uint16_t *in, float *out, size_t n), const uint8_t *atoms,
                     uint32_t n_atoms, uint32_t first_column, uint32_t n_columns, float *out);

#endif
