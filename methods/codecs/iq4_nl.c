/* iq4_nl: llama.cpp's 4-bit blocks on a table (ggml quantize_row_iq4_nl_ref, the path of the KV
 * cache, and dequantize_row_iq4_nl), bytes as there.
 *
 * Blocks of 32 columns, T = -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113: v = the
 * signed value of largest magnitude, d0 = v / T[0], code = the index of T nearest to x / d0 (of two
 * equally near the upper), then d = sum(w T[code] x) / sum(w T[code]^2) with w = x^2, kept as f16,
 * without choosing codes again; x_hat = T[code] * f16(d). Sums in f32, column after column. Byte j
 * of 16 holds code j (low) and code j + 16 (high). 18 bytes a block: 16 payload, 2 metadata; d
 * first. Rows must be whole blocks. No parameters.
 *
 * Departures: blocks below 1e-15, whose codes ggml leaves as they happen to lie in memory, have
 * code 8 and d = 0; a d that is no number is 0, one beyond the largest half is that. */
#include "methods/parts/llama.h"

#include <math.h>

extern const struct kv_codec kv_codec_iq4_nl;

static const float levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};

/* `bucket` takes a value on a threshold for the lower code and ggml for the upper: each is the
 * number before the middle of two levels (all middles are exact). */
static const float thresholds[15] = {-0x1.ce0002p6f, -0x1.760002p6f, -0x1.280002p6f, -0x1.c80002p5f,
                                     -0x1.500002p5f, -0x1.c80002p4f, -0x1.000002p4f, -0x1.200002p2f,
                                     0x1.bffffep2f,  0x1.2ffffep4f,  0x1.f7fffep4f,  0x1.6bfffep5f,
                                     0x1.e7fffep5f,  0x1.3bfffep6f,  0x1.93fffep6f};

static void quantize(const struct kv_kernels *kernels, const float *x, uint8_t *codes, float *d,
                     float *m)
{
    const float v = kv_llama_extreme(kernels, x), inverse = kv_llama_inverse(v / levels[0]);
    float scaled[KV_LLAMA_BLOCK], top = 0, bottom = 0;
    (void)m;
    for (int i = 0; i < KV_LLAMA_BLOCK; i++) scaled[i] = x[i] * inverse;
    for (int i = 0; i < KV_LLAMA_BLOCK && fabsf(v) < 1e-15f; i++) scaled[i] = 1.0f;
    kernels->bucket(scaled, KV_LLAMA_BLOCK, thresholds, 15, codes);
    for (int i = 0; i < KV_LLAMA_BLOCK; i++) {
        const float level = levels[codes[i]], weight = x[i] * x[i];
        top += weight * level * x[i];
        bottom += weight * level * level;
    }
    *d = fabsf(v) >= 1e-15f && bottom > 0 && top / bottom == top / bottom ? top / bottom : 0.0f;
}

static const struct kv_llama_format format = {
    .codec = &kv_codec_iq4_nl, .bits = 4, .levels = levels, .quantize = quantize};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, &format, err);
}

const struct kv_codec kv_codec_iq4_nl = {.name = "iq4_nl",
                                         .summary =
                                             "llama.cpp's 4-bit blocks of 32 on a fixed table",
                                         .paper = "ggml (llama.cpp), quantize_row_iq4_nl_ref",
                                         .create = create,
                                         .encode = kv_llama_encode,
                                         .decode = kv_llama_decode};
