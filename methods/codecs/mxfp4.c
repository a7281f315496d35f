/* mxfp4: 4-bit floats with a power of two for every 32 (OCP Microscaling Formats 1.0; Rouhani et
 * al., arXiv 2310.10537).
 *
 * Groups of group_size columns, a = max |x| of the group, E2M1 = {0 .5 1 1.5 2 3 4 6} with a sign:
 *
 *     rule=floor  e = floor(log2 a) - 2: the specification's; values above 6 * 2^e saturate
 *     rule=ceil   e = ceil(log2(a / 6)): nothing saturates
 *     code = nearest even of x / 2^e in E2M1, saturated; x_hat = value(code) * 2^e
 *
 * Bytes: ceil(dim / 2) a row, even columns in the low nibble, then 1 a group: e + 127 (E8M0). The
 * last group of a row may be short. A group of zeros has e = -127;
 * e ends at 125, where 6 * 2^e still is an f32. SGLang's fp4_e2m1 cache is
 * group_size=16:rule=ceil, often called NVFP4.
 *
 * Departures: SGLang takes what lies between two magnitudes for the larger, and not the even one.
 */
#include "methods/parts/codes.h"

extern const struct kv_codec kv_codec_mxfp4;

struct config {
    uint32_t group_size, rule;
};

static const struct kv_param params[] = {
    {"group_size", KV_PARAM_U32, offsetof(struct config, group_size), 32, 1, 4096, NULL,
     "columns that share a power of two (at most a row)"},
    {"rule", KV_PARAM_CHOICE, offsetof(struct config, rule), 0, 0, 0, "floor|ceil",
     "which power: the specification's, or one that saturates nothing"},
    {0}};

struct mxfp4_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_fp4_shape shape;
    uint8_t *codes; /* [dim + 7] */
};

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct mxfp4_code *self = (struct mxfp4_code *)code;
    self->kernels->fp4_encode(&self->shape, rows, code->dim, atom + code->payload_bytes,
                              self->codes);
    self->kernels->pack_bits(self->codes, code->dim, 4, atom);
}

static void decode_row(const struct mxfp4_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    const uint8_t *codes = kv_unpack_some(self->kernels, atom, first, n, 4, self->codes);
    self->kernels->fp4_decode(&self->shape, atom + self->code.payload_bytes, first, codes, n, out);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row((const struct mxfp4_code *)code, atoms + a * kv_atom_bytes(code), first_column,
                   n_columns, out + (size_t)a * n_columns);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct mxfp4_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "mxfp4: no memory");
    self->kernels = setup->kernels;
    self->shape.scale = config->rule ? KV_FP4_CEIL : KV_FP4_FLOOR;
    self->shape.width = config->group_size < setup->dim ? config->group_size : setup->dim;
    self->codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim + 7);
    if (!self->codes) return kv_fail(err, KV_EMEMORY, "mxfp4: no memory for a row");
    self->code = (struct kv_code){.type = &kv_codec_mxfp4,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = kv_packed_bytes(setup->dim, 4),
                                  .metadata_bytes = kv_groups(setup->dim, self->shape.width),
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_mxfp4 = {
    .name = "mxfp4",
    .summary = "4-bit floats with a power of two a group of 32",
    .paper = "OCP Microscaling Formats 1.0 (Rouhani et al., arXiv 2310.10537)",
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .encode = encode,
    .decode = decode};
