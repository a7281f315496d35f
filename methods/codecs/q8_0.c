/* q8_0: llama.cpp's 8-bit blocks (ggml quantize_row_q8_0_ref and dequantize_row_q8_0), bytes as
 * there.
 *
 * Blocks of 32 columns: d = max |x| / 127, code = roundf(x * (1 / d)) (half away from zero), d kept
 * as f16; x_hat = code * f16(d). 34 bytes a block: 32 payload, 2 metadata; d before the codes. Rows
 * must be whole blocks. No parameters.
 *
 * Departures: a d that would be infinite is the largest half; where 1 / d overflows codes are 0. */
#include "methods/parts/llama.h"

extern const struct kv_codec kv_codec_q8_0;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, KV_BLOCK_Q8_0, &kv_codec_q8_0, err);
}

const struct kv_codec kv_codec_q8_0 = {.name = "q8_0",
                                       .summary = "llama.cpp's 8-bit blocks of 32",
                                       .paper = "ggml (llama.cpp), quantize_row_q8_0_ref",
                                       .create = create,
                                       .encode = kv_llama_encode,
                                       .encode_atoms = kv_llama_encode_atoms,
                                       .decode = kv_llama_decode};
