/* q8_0: llama.cpp's 8-bit blocks (ggml quantize_row_q8_0_ref and dequantize_row_q8_0), bytes as
 * there.
 *
 * Blocks of 32 columns: d = max |x| / 127, code = roundf(x * (1 / d)) (half away from zero), d kept
 * as f16; x_hat = code * f16(d). 34 bytes a block: 32 payload, 2 metadata; d before the codes. Rows
 * must be whole blocks. No parameters.
 *
 * Departures: a d that would be infinite is the largest half; where 1 / d overflows codes are 0. */
#include "methods/parts/llama.h"

#include <math.h>
#include <string.h>

extern const struct kv_codec kv_codec_q8_0;

/* roundf for |x| < 2^23 without a call: what is cut off is exact. */
static int half_away(float x)
{
    const int whole = (int)x;
    const float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static void quantize(const struct kv_kernels *kernels, const float *x, uint8_t *codes, float *d,
                     float *m)
{
    (void)m;
    *d = fabsf(kv_llama_extreme(kernels, x)) / 127.0f;
    const float inverse = kv_llama_inverse(*d);
    uint8_t found[KV_LLAMA_BLOCK];
    for (int i = 0; i < KV_LLAMA_BLOCK; i++) found[i] = (uint8_t)half_away(x[i] * inverse);
    memcpy(codes, found, sizeof found);
}

static const struct kv_llama_format format = {
    .codec = &kv_codec_q8_0, .bits = 8, .quantize = quantize};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, &format, err);
}

const struct kv_codec kv_codec_q8_0 = {.name = "q8_0",
                                       .summary = "llama.cpp's 8-bit blocks of 32",
                                       .paper = "ggml (llama.cpp), quantize_row_q8_0_ref",
                                       .create = create,
                                       .encode = kv_llama_encode,
                                       .decode = kv_llama_decode};
