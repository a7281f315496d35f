/* sign: one bit a value, the floor that every 1-bit method is measured against.
 *
 * Groups of group_size channels of one token: scale = f16(mean |x|), the best single magnitude;
 * code = x > 0; x_hat = +-scale. On normal values the error is 1 - 2 / pi = .363 of their square.
 * Bytes of a row: ceil(dim / 8) + 2 a group. With rotate=hadamard this is the sign of the rotated
 * row.
 *
 * Departures: none, it is nobody's paper. 0 counts as negative. */
#include "methods/parts/codes.h"
#include "methods/codec.h"

extern const struct kv_codec kv_codec_sign;

struct config {
    uint32_t group_size;
};

static const struct kv_param params[] = {{"group_size", KV_PARAM_U32,
                                          offsetof(struct config, group_size), 64, 1, 4096, NULL,
                                          "channels that share a magnitude (at most a row)"},
                                         {0}};

struct sign_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    uint32_t group;
    uint8_t *codes; /* [dim + 7] */
};

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    static const float zero = 0;
    struct sign_code *self = (struct sign_code *)code;
    uint8_t *metadata = atom + code->payload_bytes;
    for (uint32_t first = 0; first < code->dim; first += self->group, metadata += 2) {
        const uint32_t left = code->dim - first, n = left < self->group ? left : self->group;
        kv_keep_half(metadata, (float)(self->kernels->sum_magnitudes(rows + first, n) / n));
    }
    self->kernels->bucket(rows, code->dim, &zero, 1, self->codes);
    self->kernels->pack_bits(self->codes, code->dim, 1, atom);
}

static void decode_row(const struct sign_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    static const float signs[2] = {-1, 1};
    const uint8_t *codes = kv_unpack_some(self->kernels, atom, first, n, 1, self->codes);
    const struct kv_grouped row = {self->kernels, signs, self->group,
                                   &self->code,   atom,  kv_half_scale};
    kv_look_up_groups(&row, codes, first, n, out);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row((const struct sign_code *)code, atoms + a * kv_atom_bytes(code), first_column,
                   n_columns, out + (size_t)a * n_columns);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct sign_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "sign: no memory");
    self->kernels = setup->kernels;
    self->group = config->group_size < setup->dim ? config->group_size : setup->dim;
    self->codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim + 7);
    if (!self->codes) return kv_fail(err, KV_EMEMORY, "sign: no memory for a row");
    self->code = (struct kv_code){.type = &kv_codec_sign,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = kv_packed_bytes(setup->dim, 1),
                                  .metadata_bytes = 2 * kv_groups(setup->dim, self->group),
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_sign = {.name = "sign",
                                       .summary = "signs and a mean magnitude a group: a floor",
                                       .paper = "-",
                                       .params = params,
                                       .config_size = sizeof(struct config),
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
