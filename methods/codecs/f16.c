/* f16: rows rounded to IEEE binary16, nearest even; 2 bytes a value. Exact on a float16 trace; a
 * value beyond 65504 is stored as 65504: a plain cast would give infinity, and no answer at all.
 * The default store of the cache. */
#include "methods/codec.h"

extern const struct kv_codec kv_codec_f16;

struct half_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct half_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "f16: no memory");
    self->kernels = setup->kernels;
    self->code = (struct kv_code){.type = &kv_codec_f16,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = 2 * setup->dim,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

/* Atoms are an even number of bytes, and rows of atoms begin aligned: halves may be read in place.
 */
static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    const struct half_code *self = (const struct half_code *)code;
    self->kernels->narrow_finite(rows, (uint16_t *)(void *)atom, code->dim);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct half_code *self = (const struct half_code *)code;
    const uint16_t *in = (const uint16_t *)(const void *)atoms + first_column;
    if (n_columns == code->dim) {
        self->kernels->widen_half(in, out, (size_t)n_atoms * n_columns);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        self->kernels->widen_half(in + (size_t)a * code->dim, out + (size_t)a * n_columns,
                                  n_columns);
}

const struct kv_codec kv_codec_f16 = {.name = "f16",
                                      .summary = "IEEE half precision, 16 bits a value",
                                      .paper = "IEEE 754-2019 binary16",
                                      .traits = KV_EXACT_F16,
                                      .create = create,
                                      .encode = encode,
                                      .decode = decode};
