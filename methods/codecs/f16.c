/* f16: rows rounded to IEEE binary16, nearest even; 2 bytes a value. Exact on a float16 trace; a
 * value beyond 65504 is stored as 65504: a plain cast would give infinity, and no answer at all.
 * The default store of the cache. */
#include "methods/parts/words.h"

extern const struct kv_codec kv_codec_f16;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_words_create(out, setup, &kv_codec_f16, err);
}

static void encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms)
{
    const struct kv_words *self = (const struct kv_words *)code;
    self->kernels->narrow_finite(rows, (uint16_t *)(void *)atoms, (size_t)n_atoms * code->dim);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    encode_atoms(code, rows, 1, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct kv_words *self = (const struct kv_words *)code;
    kv_words_decode(code, self->kernels->widen_half, atoms, n_atoms, first_column, n_columns, out);
}

const struct kv_codec kv_codec_f16 = {.name = "f16",
                                      .summary = "IEEE half precision, 16 bits a value",
                                      .paper = "IEEE 754-2019 binary16",
                                      .traits = KV_EXACT_F16,
                                      .create = create,
                                      .encode = encode,
                                      .encode_atoms = encode_atoms,
                                      .decode = decode};
