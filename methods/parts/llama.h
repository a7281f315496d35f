/* llama.cpp's blocks of 32 columns (ggml quantize_row_NAME_ref, dequantize_row_NAME), bytes as
 * there:
 *
 *     d f16 | m f16, if the format has one | fifth bits u32, if 5 bits | codes
 *
 * 4 and 5 bits: byte j of 16 holds the low bits of code j (low nibble) and of code j + 16 (high);
 * bit j of the u32 is the fifth of code j. 8 bits: a byte a code. Codes come from the f32 scale and
 * are read with the half, as there. Rows must be whole blocks. Numbers that ggml would divide to
 * infinity or NaN by are kept finite: a half beyond the largest is the largest, and where 1 / d
 * overflows, d counts as infinite. */
#ifndef KVBENCH_METHODS_PARTS_LLAMA_H
#define KVBENCH_METHODS_PARTS_LLAMA_H

#include "methods/codec.h"

int kv_llama_create(struct kv_code **out, const struct kv_setup *setup, enum kv_block_format format,
                    const struct kv_codec *codec, struct kv_error *err);
void kv_llama_encode(struct kv_code *code, const float *rows, uint8_t *atom);
void kv_llama_encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms,
                           uint8_t *atoms);
void kv_llama_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                     uint32_t first_column, uint32_t n_columns, float *out);

#endif
