/* q4_1: llama.cpp's 4-bit blocks with a minimum (ggml quantize_row_q4_1_ref and
 * dequantize_row_q4_1), bytes as there.
 *
 * Blocks of 32 columns: m = min x, d = (max x - m) / 15, code = min(15, (int8)((x - m) * (1 / d) +
 * .5)), d and m kept as f16; x_hat = code * f16(d) + f16(m). Byte j of 16 holds code j (low) and
 * code j + 16 (high). 20 bytes a block: 16 payload, 4 metadata; d, m first. Rows must be whole
 * blocks. No parameters.
 *
 * Departures: a d or m that would be infinite is the largest half; where 1 / d overflows codes are
 * 0. */
#include "methods/parts/llama.h"

extern const struct kv_codec kv_codec_q4_1;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, KV_BLOCK_Q4_1, &kv_codec_q4_1, err);
}

const struct kv_codec kv_codec_q4_1 = {.name = "q4_1",
                                       .summary = "llama.cpp's 4-bit blocks of 32 with a minimum",
                                       .paper = "ggml (llama.cpp), quantize_row_q4_1_ref",
                                       .create = create,
                                       .encode = kv_llama_encode,
                                       .encode_atoms = kv_llama_encode_atoms,
                                       .decode = kv_llama_decode};
