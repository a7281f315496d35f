/* q4_0: llama.cpp's 4-bit blocks (ggml quantize_row_q4_0_ref and dequantize_row_q4_0), bytes as
 * there.
 *
 * Blocks of 32 columns: v = the signed value of largest magnitude, d = v / -8, code =
 * min(15, (int8)(x * (1 / d) + 8.5)), d kept as f16; x_hat = (code - 8) * f16(d). Byte j of 16
 * holds code j (low) and code j + 16 (high). 18 bytes a block: 16 payload, 2 metadata; d first.
 * Rows must be whole blocks. No parameters.
 *
 * Departures: a d that would be infinite is the largest half; where 1 / d overflows codes are 8. */
#include <math.h>

#include "methods/codec.h"
#include "methods/parts/codes.h"

extern const struct kv_codec kv_codec_q4_0;

enum { BLOCK = 32, HALF = 16, BYTES = 18 };

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->dim % BLOCK)
        return kv_fail(err, KV_EUNSUPPORTED, "q4_0: rows of %u are not whole blocks of %d",
                       setup->dim, BLOCK);
    struct kv_code *code = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *code);
    if (!code) return kv_fail(err, KV_EMEMORY, "q4_0: no memory");
    *code = (struct kv_code){.type = &kv_codec_q4_0,
                             .dim = setup->dim,
                             .block = 1,
                             .payload_bytes = setup->dim / 2,
                             .metadata_bytes = setup->dim / BLOCK * 2,
                             .tiers = {.flush = 1, .coded_at_once = true}};
    *out = code;
    return KV_OK;
}

static uint8_t code_of(float scaled)
{
    const int8_t code = (int8_t)(scaled + 8.5f);
    return (uint8_t)(code < 15 ? code : 15);
}

static void encode_block(const float *x, uint8_t *at)
{
    float amax = 0, extreme = 0;
    for (int i = 0; i < BLOCK; i++)
        if (amax < fabsf(x[i])) amax = fabsf(x[i]), extreme = x[i];
    const float d = extreme / -8.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    const float usable = isfinite(inverse) ? inverse : 0.0f;
    kv_keep_half(at, d);
    for (int i = 0; i < HALF; i++)
        at[2 + i] = (uint8_t)(code_of(x[i] * usable) | code_of(x[i + HALF] * usable) << 4);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    for (uint32_t b = 0; b < code->dim / BLOCK; b++)
        encode_block(rows + b * BLOCK, atom + b * BYTES);
}

static void decode_block(const uint8_t *at, float *out)
{
    const float d = kv_kept_half(at);
    for (int i = 0; i < HALF; i++) {
        out[i] = (float)((at[2 + i] & 15) - 8) * d;
        out[i + HALF] = (float)((at[2 + i] >> 4) - 8) * d;
    }
}

static void decode_row(const uint8_t *atom, uint32_t first, uint32_t n, float *out)
{
    float block[BLOCK];
    for (uint32_t c = first; c < first + n;) {
        const uint32_t in_block = c % BLOCK, left = first + n - c;
        const uint32_t run = BLOCK - in_block < left ? BLOCK - in_block : left;
        decode_block(atom + c / BLOCK * BYTES, block);
        memcpy(out + (c - first), block + in_block, run * sizeof *out);
        c += run;
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row(atoms + a * kv_atom_bytes(code), first_column, n_columns,
                   out + (size_t)a * n_columns);
}

const struct kv_codec kv_codec_q4_0 = {.name = "q4_0",
                                       .summary = "llama.cpp's 4-bit blocks of 32",
                                       .paper = "ggml (llama.cpp), quantize_row_q4_0_ref",
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
