/* q8_0: llama.cpp's 8-bit blocks (ggml quantize_row_q8_0_ref and dequantize_row_q8_0), bytes as
 * there.
 *
 * Blocks of 32 columns: d = max |x| / 127, code = roundf(x * (1 / d)) (half away from zero), d kept
 * as f16; x_hat = code * f16(d). 34 bytes a block: 32 payload, 2 metadata; d before the codes. Rows
 * must be whole blocks. No parameters.
 *
 * Departures: a d that would be infinite is the largest half; where 1 / d overflows codes are 0. */
#include <math.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"

extern const struct kv_codec kv_codec_q8_0;

enum { BLOCK = 32, BYTES = 34 };

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->dim % BLOCK)
        return kv_fail(err, KV_EUNSUPPORTED, "q8_0: rows of %u are not whole blocks of %d",
                       setup->dim, BLOCK);
    struct kv_code *code = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *code);
    if (!code) return kv_fail(err, KV_EMEMORY, "q8_0: no memory");
    *code = (struct kv_code){.type = &kv_codec_q8_0,
                             .dim = setup->dim,
                             .block = 1,
                             .payload_bytes = setup->dim,
                             .metadata_bytes = setup->dim / BLOCK * 2,
                             .tiers = {.flush = 1, .coded_at_once = true}};
    *out = code;
    return KV_OK;
}

static void encode_block(const float *x, uint8_t *at)
{
    float amax = 0;
    for (int i = 0; i < BLOCK; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    const float d = amax / 127.0f, inverse = d > 0 ? 1.0f / d : 0.0f;
    const float usable = isfinite(inverse) ? inverse : 0.0f;
    kv_keep_half(at, d);
    for (int i = 0; i < BLOCK; i++) at[2 + i] = (uint8_t)(int8_t)roundf(x[i] * usable);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    for (uint32_t b = 0; b < code->dim / BLOCK; b++)
        encode_block(rows + b * BLOCK, atom + b * BYTES);
}

static void decode_row(const uint8_t *atom, uint32_t first, uint32_t n, float *out)
{
    for (uint32_t c = first; c < first + n;) {
        const uint8_t *at = atom + c / BLOCK * BYTES;
        const uint32_t end = (c / BLOCK + 1) * BLOCK, stop = end < first + n ? end : first + n;
        const float d = kv_kept_half(at);
        for (; c < stop; c++) out[c - first] = (float)(int8_t)at[2 + c % BLOCK] * d;
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row(atoms + a * kv_atom_bytes(code), first_column, n_columns,
                   out + (size_t)a * n_columns);
}

const struct kv_codec kv_codec_q8_0 = {.name = "q8_0",
                                       .summary = "llama.cpp's 8-bit blocks of 32",
                                       .paper = "ggml (llama.cpp), quantize_row_q8_0_ref",
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
