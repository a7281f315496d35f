/* f16: rows rounded to IEEE binary16, nearest even; 2 bytes a value. Exact on a float16 trace; a
 * value beyond 65504 is stored as 65504: a plain cast would give infinity, and no answer at all.
 * The default store of the cache. */
#include <string.h>

#include "methods/codec.h"

extern const struct kv_codec kv_codec_f16;

struct half_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    float *row; /* [dim] scratch: saturated */
};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct half_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "f16: no memory");
    self->kernels = setup->kernels;
    self->row = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim * sizeof *self->row);
    if (!self->row) return kv_fail(err, KV_EMEMORY, "f16: no memory");
    self->code = (struct kv_code){.type = &kv_codec_f16,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = 2 * setup->dim,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

/* Whether some value would be infinite; magnitudes compare as integers do. */
static bool leaves_halves(const float *x, uint32_t n)
{
    int32_t beyond = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        beyond |= (bits & 0x7fffffff) > 0x477fe000;   /* 65504 */
    }
    return beyond != 0;
}

/* Atoms are an even number of bytes, and rows of atoms begin aligned: halves may be read in place.
 */
static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    const struct half_code *self = (const struct half_code *)code;
    const float *from = rows;
    if (leaves_halves(rows, code->dim)) {
        for (uint32_t c = 0; c < code->dim; c++)
            self->row[c] =
                rows[c] > 65504.0f ? 65504.0f : rows[c] < -65504.0f ? -65504.0f : rows[c];
        from = self->row;
    }
    self->kernels->narrow_half(from, (uint16_t *)(void *)atom, code->dim);
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
