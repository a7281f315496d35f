/* q5_0: llama.cpp's 5-bit blocks (ggml quantize_row_q5_0_ref and dequantize_row_q5_0), bytes
 * as there.
 *
 * Blocks of 32 columns: v = the signed value of largest magnitude, d = v / -16, code =
 * min(31, (int8)(x * (1 / d) + 16.5)), d kept as f16; x_hat = (code - 16) * f16(d).
 * A u32 holds the fifth bits, bit j of code j; byte j of 16 the
 * low bits of code j (low) and of code j + 16 (high). 22 bytes a block: 20 payload, 2 metadata; d
 * first. Rows must be whole blocks. No parameters.
 *
 * Departures: a d that would be infinite is the largest half; where 1 / d overflows codes are 16.
 */
#include "methods/parts/llama.h"

extern const struct kv_codec kv_codec_q5_0;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, KV_BLOCK_Q5_0, &kv_codec_q5_0, err);
}

const struct kv_codec kv_codec_q5_0 = {.name = "q5_0",
                                       .summary = "llama.cpp's 5-bit blocks of 32",
                                       .paper = "ggml (llama.cpp), quantize_row_q5_0_ref",
                                       .create = create,
                                       .encode = kv_llama_encode,
                                       .encode_atoms = kv_llama_encode_atoms,
                                       .decode = kv_llama_decode};
