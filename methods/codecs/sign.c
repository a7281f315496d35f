/* sign: one bit a value, the floor that every 1-bit method is measured against.
 *
 * Groups of group_size channels of one token: scale = f16(mean |x|), the best single magnitude;
 * code = x > 0; x_hat = +-scale. On normal values the error is 1 - 2 / pi = .363 of their square.
 * Bytes of a row: ceil(dim / 8) + 2 a group. With rotate=hadamard this is the sign of the rotated
 * row.
 *
 * Departures: none, it is nobody's paper. 0 counts as negative. */
#include "methods/parts/codes.h"
#include "methods/parts/levels.h"

extern const struct kv_codec kv_codec_sign;

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kv_levels *self = (struct kv_levels *)code;
    uint8_t *metadata = atom + code->payload_bytes;
    for (uint32_t first = 0; first < code->dim; first += self->group, metadata += 2) {
        const uint32_t left = code->dim - first, n = left < self->group ? left : self->group;
        kv_keep_half(metadata, (float)(self->kernels->sum_magnitudes(rows + first, n) / n));
    }
    self->kernels->sign_bits(rows, code->dim, atom);
}

static const uint8_t *unpack(const struct kv_levels *self, const uint8_t *atom, uint32_t first,
                             uint32_t n)
{
    return kv_unpack_some(self->kernels, atom, first, n, 1, self->codes);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    static const float signs[2] = {-1, 1};
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code), out += n_columns)
        kv_levels_decode(code, signs, unpack, atoms, first_column, n_columns, out);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_levels_create(out, setup, &kv_codec_sign, kv_packed_bytes(setup->dim, 1), 7, err);
}

const struct kv_codec kv_codec_sign = {.name = "sign",
                                       .summary = "signs and a mean magnitude a group: a floor",
                                       .paper = "-",
                                       .params = kv_levels_params,
                                       .config_size = sizeof(struct kv_levels_config),
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
