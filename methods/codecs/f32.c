/* f32: rows kept as they are, 4 bytes a value. The exact reference of every other codec: each of
 * its errors is exactly 0. */
#include <string.h>

#include "methods/codec.h"

extern const struct kv_codec kv_codec_f32;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct kv_code *code = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *code);
    if (!code) return kv_fail(err, KV_EMEMORY, "f32: no memory");
    *code = (struct kv_code){.type = &kv_codec_f32,
                             .dim = setup->dim,
                             .block = 1,
                             .payload_bytes = 4 * setup->dim,
                             .tiers = {.flush = 1, .coded_at_once = true}};
    *out = code;
    return KV_OK;
}

static void encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms)
{
    memcpy(atoms, rows, (size_t)n_atoms * code->payload_bytes);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    encode_atoms(code, rows, 1, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        memcpy(out + (size_t)a * n_columns,
               atoms + (size_t)a * code->payload_bytes + 4 * (size_t)first_column,
               4 * (size_t)n_columns);
}

const struct kv_codec kv_codec_f32 = {.name = "f32",
                                      .summary = "rows as they are, 32 bits a value",
                                      .paper = "none: the exact reference",
                                      .traits = KV_EXACT_F16 | KV_EXACT_BF16 | KV_EXACT_F32,
                                      .create = create,
                                      .encode = encode,
                                      .encode_atoms = encode_atoms,
                                      .decode = decode};
