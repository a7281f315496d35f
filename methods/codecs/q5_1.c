/* q5_1: llama.cpp's 5-bit blocks with a minimum (ggml quantize_row_q5_1_ref and
 * dequantize_row_q5_1), bytes as there.
 *
 * Blocks of 32 columns: m = min x, d = (max x - m) / 31, code = min(31, (int8)((x - m) * (1 / d) +
 * .5)), d and m kept as f16; x_hat = code * f16(d) + f16(m). A u32 holds the fifth bits, bit j of
 * code j; byte j of 16 the low bits of code j (low) and of code j + 16 (high). 24 bytes a block: 20
 * payload, 4 metadata; d, m first. Rows must be whole blocks. No parameters.
 *
 * Departures: a d or m that would be infinite is the largest half; where 1 / d overflows codes are
 * 0; q5_1 there does not hold codes below 32, which only a rounding could need. */
#include "methods/parts/llama.h"

extern const struct kv_codec kv_codec_q5_1;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, KV_BLOCK_Q5_1, &kv_codec_q5_1, err);
}

const struct kv_codec kv_codec_q5_1 = {.name = "q5_1",
                                       .summary = "llama.cpp's 5-bit blocks of 32 with a minimum",
                                       .paper = "ggml (llama.cpp), quantize_row_q5_1_ref",
                                       .create = create,
                                       .encode = kv_llama_encode,
                                       .encode_atoms = kv_llama_encode_atoms,
                                       .decode = kv_llama_decode};
