/* bf16: rows rounded to bfloat16 (8 bits of significand, the exponent of binary32), nearest even;
 * 2 bytes a value. Exact on a bfloat16 trace. */
#include "methods/parts/words.h"

extern const struct kv_codec kv_codec_bf16;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_words_create(out, setup, &kv_codec_bf16, err);
}

static void encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms)
{
    const struct kv_words *self = (const struct kv_words *)code;
    self->kernels->narrow_bfloat(rows, (uint16_t *)(void *)atoms, (size_t)n_atoms * code->dim);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    encode_atoms(code, rows, 1, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct kv_words *self = (const struct kv_words *)code;
    kv_words_decode(code, self->kernels->widen_bfloat, atoms, n_atoms, first_column, n_columns,
                    out);
}

const struct kv_codec kv_codec_bf16 = {.name = "bf16",
                                       .summary = "bfloat16, 16 bits a value",
                                       .paper = "bfloat16 (Google Brain)",
                                       .traits = KV_EXACT_BF16,
                                       .create = create,
                                       .encode = encode,
                                       .encode_atoms = encode_atoms,
                                       .decode = decode};
