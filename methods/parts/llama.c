#include "methods/parts/llama.h"

#include <string.h>

struct llama_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    enum kv_block_format format;
    struct kv_block_shape shape;
    uint32_t blocks; /* of a row */
};

int kv_llama_create(struct kv_code **out, const struct kv_setup *setup, enum kv_block_format format,
                    const struct kv_codec *codec, struct kv_error *err)
{
    const uint32_t dim = setup->dim;
    if (dim % KV_BLOCK)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rows of %u are not whole blocks of %d",
                       codec->name, dim, KV_BLOCK);
    struct llama_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "%s: no memory", codec->name);
    self->kernels = setup->kernels;
    self->format = format;
    self->shape = kv_block_shape(format);
    self->blocks = dim / KV_BLOCK;
    const uint32_t halves = self->shape.minimum ? 2 : 1;
    self->code = (struct kv_code){.type = codec,
                                  .dim = dim,
                                  .block = 1,
                                  .payload_bytes = self->blocks * (self->shape.bytes - 2 * halves),
                                  .metadata_bytes = self->blocks * 2 * halves,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

/* Atoms are blocks without gaps: rows, however many, are one call, here and below. */
void kv_llama_encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms,
                           uint8_t *atoms)
{
    const struct llama_code *self = (const struct llama_code *)code;
    self->kernels->encode_blocks(self->format, rows, (size_t)n_atoms * self->blocks, atoms);
}

void kv_llama_encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    kv_llama_encode_atoms(code, rows, 1, atom);
}

/* Some columns of a row: blocks that are wanted whole go where they belong. */
static void decode_row(const struct llama_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    for (uint32_t c = first; c < first + n;) {
        float block[KV_BLOCK];
        const uint32_t in_block = c % KV_BLOCK, left = first + n - c;
        const uint32_t run = KV_BLOCK - in_block < left ? KV_BLOCK - in_block : left;
        float *to = run == KV_BLOCK ? out + (c - first) : block;
        self->kernels->decode_blocks(self->format, atom + c / KV_BLOCK * self->shape.bytes, 1, to);
        if (run < KV_BLOCK) memcpy(out + (c - first), block + in_block, run * sizeof *out);
        c += run;
    }
}

void kv_llama_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                     uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct llama_code *self = (const struct llama_code *)code;
    if (n_columns == code->dim) {
        self->kernels->decode_blocks(self->format, atoms, (size_t)n_atoms * self->blocks, out);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row(self, atoms + a * kv_atom_bytes(code), first_column, n_columns,
                   out + (size_t)a * n_columns);
}
