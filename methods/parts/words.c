#include "methods/parts/words.h"

int kv_words_create(struct kv_code **out, const struct kv_setup *setup,
                    const struct kv_codec *codec, struct kv_error *err)
{
    struct kv_words *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "%s: no memory", codec->name);
    self->kernels = setup->kernels;
    self->code = (struct kv_code){.type = codec,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = 2 * setup->dim,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

/* Atoms are an even number of bytes, and rows of atoms begin aligned: words may be read in place.
 */
void kv_words_decode(const struct kv_code *code,
                     void (*widen)(const uint16_t *in, float *out, size_t n), const uint8_t *atoms,
                     uint32_t n_atoms, uint32_t first_column, uint32_t n_columns, float *out)
{
    const uint16_t *in = (const uint16_t *)(const void *)atoms + first_column;
    if (n_columns == code->dim) {
        widen(in, out, (size_t)n_atoms * n_columns);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        widen(in + (size_t)a * code->dim, out + (size_t)a * n_columns, n_columns);
}
