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

enum { KV_LLAMA_BLOCK = 32 };

struct kv_llama_format {
    const struct kv_codec *codec;
    uint32_t bits;
    bool minimum;        /* m is kept: x_hat = code * d + m */
    const float *levels; /* [1 << bits]: x_hat = levels[code] * d */
    float lowest;        /* when neither: x_hat = (code + lowest) * d */
    /* x [32] -> codes [32] and d, m. */
    void (*quantize)(const struct kv_kernels *kernels, const float *x, uint8_t *codes, float *d,
                     float *m);
};

/* 1 / d, or 0 where that is no number to multiply with. */
float kv_llama_inverse(float d);

/* The first value of largest magnitude, with its sign. */
float kv_llama_extreme(const struct kv_kernels *kernels, const float *x);

/* m = min x, d = (max x - m) / (2^bits - 1). */
void kv_llama_range(const struct kv_kernels *kernels, const float *x, uint32_t bits, float *d,
                    float *m);

/* codes = min(2^bits - 1, floor((x - m) / d + shift)), (x - m) / d + shift >= 0. */
void kv_llama_truncate(const float *restrict x, float m, float d, float shift, uint32_t bits,
                       uint8_t *restrict codes);

int kv_llama_create(struct kv_code **out, const struct kv_setup *setup,
                    const struct kv_llama_format *format, struct kv_error *err);
void kv_llama_encode(struct kv_code *code, const float *rows, uint8_t *atom);
void kv_llama_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                     uint32_t first_column, uint32_t n_columns, float *out);

#endif
