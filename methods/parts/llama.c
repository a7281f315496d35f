#include "methods/parts/llama.h"

#include <math.h>

#include "methods/parts/codes.h"

enum { BLOCK = KV_LLAMA_BLOCK, HALF = BLOCK / 2 };

struct llama_code {
    struct kv_code code;
    const struct kv_llama_format *format;
    const struct kv_kernels *kernels;
    uint32_t block_bytes;
};

float kv_llama_inverse(float d)
{
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    return isfinite(inverse) ? inverse : 0.0f;
}

float kv_llama_extreme(const struct kv_kernels *kernels, const float *x)
{
    float min, max;
    kernels->min_max(x, BLOCK, &min, &max);
    if (max > -min) return max;
    if (max < -min) return min;
    for (int i = 0; max > 0 && i < BLOCK; i++) /* both signs have it */
        if (fabsf(x[i]) >= max) return x[i];
    return 0;
}

/* The kernel min_max gives +0 where ggml keeps the sign of the first zero. */
void kv_llama_range(const struct kv_kernels *kernels, const float *x, uint32_t bits, float *d,
                    float *m)
{
    const float top = (float)((1u << bits) - 1);
    float low, high;
    kernels->min_max(x, BLOCK, &low, &high);
    for (int i = 0; low == 0 && i < BLOCK; i++)
        if (x[i] == 0) {
            low = x[i];
            break;
        }
    *d = (high - low) / top;
    if (!isfinite(*d)) *d = high / top - low / top;
    *m = low;
}

void kv_llama_truncate(const float *restrict x, float m, float d, float shift, uint32_t bits,
                       uint8_t *restrict codes)
{
    const float inverse = kv_llama_inverse(d), top = (float)((1u << bits) - 1);
    for (int i = 0; i < BLOCK; i++) {
        const float code = (x[i] - m) * inverse + shift;
        codes[i] = (uint8_t)(int)(code < top ? code : top);
    }
}

int kv_llama_create(struct kv_code **out, const struct kv_setup *setup,
                    const struct kv_llama_format *format, struct kv_error *err)
{
    const uint32_t dim = setup->dim, halves = format->minimum ? 2 : 1;
    if (dim % BLOCK)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rows of %u are not whole blocks of %d",
                       format->codec->name, dim, BLOCK);
    struct llama_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "%s: no memory", format->codec->name);
    self->format = format;
    self->kernels = setup->kernels;
    self->block_bytes = kv_packed_bytes(BLOCK, format->bits) + 2 * halves;
    self->code = (struct kv_code){.type = format->codec,
                                  .dim = dim,
                                  .block = 1,
                                  .payload_bytes = kv_packed_bytes(dim, format->bits),
                                  .metadata_bytes = dim / BLOCK * 2 * halves,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

/* Where ggml has the bits: fifth bits in a word, then nibbles. */
static void pack(const uint8_t *restrict codes, uint32_t bits, uint8_t *restrict at)
{
    if (bits == 8) {
        memcpy(at, codes, BLOCK);
        return;
    }
    if (bits == 5) {
        for (int byte = 0; byte < 4; byte++) {
            uint32_t fifths = 0;
            for (int j = 0; j < 8; j++) fifths |= (uint32_t)codes[8 * byte + j] >> 4 << j;
            *at++ = (uint8_t)fifths;
        }
    }
    for (int j = 0; j < HALF; j++) at[j] = (uint8_t)((codes[j] & 15) | codes[j + HALF] << 4);
}

static void unpack(const struct kv_kernels *kernels, const uint8_t *restrict at, uint32_t bits,
                   uint8_t *restrict codes)
{
    const uint8_t *nibbles = bits == 5 ? at + 4 : at;
    uint8_t fifths[BLOCK];
    for (int j = 0; j < HALF; j++) {
        codes[j] = nibbles[j] & 15;
        codes[j + HALF] = nibbles[j] >> 4;
    }
    if (bits != 5) return;
    kernels->unpack_bits(at, BLOCK, 1, fifths);
    for (int j = 0; j < BLOCK; j++) codes[j] = (uint8_t)(codes[j] | fifths[j] << 4);
}

static void encode_block(const struct llama_code *self, const float *x, uint8_t *at)
{
    const struct kv_llama_format *format = self->format;
    uint8_t codes[BLOCK];
    float d, m = 0;
    format->quantize(self->kernels, x, codes, &d, &m);
    kv_keep_half(at, d);
    if (format->minimum) kv_keep_half(at + 2, m);
    pack(codes, format->bits, at + (format->minimum ? 4 : 2));
}

void kv_llama_encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    const struct llama_code *self = (const struct llama_code *)code;
    for (uint32_t b = 0; b < code->dim / BLOCK; b++)
        encode_block(self, rows + b * BLOCK, atom + b * self->block_bytes);
}

static void decode_bytes(const uint8_t *restrict codes, float d, float *restrict out)
{
    for (int j = 0; j < BLOCK; j++) out[j] = (float)(int8_t)codes[j] * d;
}

static void decode_block(const struct llama_code *self, const uint8_t *at, float *out)
{
    const struct kv_llama_format *format = self->format;
    const uint8_t *packed = at + (format->minimum ? 4 : 2);
    const float d = kv_kept_half(at);
    uint8_t codes[BLOCK];
    if (format->bits == 8) {
        decode_bytes(packed, d, out);
        return;
    }
    unpack(self->kernels, packed, format->bits, codes);
    if (format->levels)
        self->kernels->lookup(codes, BLOCK, format->levels, d, out);
    else   /* lowest is a small integer and d a half: products and sum are exact */
        self->kernels->grid_decode(codes, BLOCK,
                                   format->minimum ? kv_kept_half(at + 2) : format->lowest * d, d, out);
}

static void decode_row(const struct llama_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    float block[BLOCK];
    for (uint32_t c = first; c < first + n;) {
        const uint32_t in_block = c % BLOCK, left = first + n - c;
        const uint32_t run = BLOCK - in_block < left ? BLOCK - in_block : left;
        const uint8_t *at = atom + c / BLOCK * self->block_bytes;
        decode_block(self, at, run == BLOCK ? out + (c - first) : block);
        if (run < BLOCK) memcpy(out + (c - first), block + in_block, run * sizeof *out);
        c += run;
    }
}

void kv_llama_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                     uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct llama_code *self = (const struct llama_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row(self, atoms + a * kv_atom_bytes(code), first_column, n_columns,
                   out + (size_t)a * n_columns);
}
