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
 * Departures: blocks below 1e-15, whose codes ggml leaves as they happen to lie in memory, and
 * those with an infinity have code 8 and d = 0; a d that is no number is 0, one beyond the largest
 * half is that. */
#include "methods/parts/llama.h"

extern const struct kv_codec kv_codec_iq4_nl;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_llama_create(out, setup, KV_BLOCK_IQ4_NL, &kv_codec_iq4_nl, err);
}

const struct kv_codec kv_codec_iq4_nl = {.name = "iq4_nl",
                                         .summary =
                                             "llama.cpp's 4-bit blocks of 32 on a fixed table",
                                         .paper = "ggml (llama.cpp), quantize_row_iq4_nl_ref",
                                         .create = create,
                                         .encode = kv_llama_encode,
                                         .encode_atoms = kv_llama_encode_atoms,
                                         .decode = kv_llama_decode};
