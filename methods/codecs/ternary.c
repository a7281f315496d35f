/* ternary: three levels a value, a floor between sign and 2 bits.
 *
 * Groups of group_size channels of one token: r = f16(root mean square). Lloyd and Max's three
 * levels for normal values: -1, 0, 1 times 1.224006 r, thresholds +-0.612003 r; error .1902 of
 * their square, entropy 1.536 bits. Five values a byte (3^5 = 243), the first the least digit: 1.6
 * bits. Bytes of a row: ceil(dim / 5) + 2 a group.
 *
 * Departures: none, it is nobody's paper. A value on a threshold takes the lower level. */
#include <math.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/levels.h"

extern const struct kv_codec kv_codec_ternary;

/* One group's digits. */
static void encode_group(const struct kv_levels *self, const float *x, uint32_t n, uint8_t *at,
                         uint8_t *codes)
{
    const float square = self->kernels->sum_squares(x, n) / (float)n;
    const float r = kv_keep_half(at, sqrtf(square));
    const float thresholds[2] = {-0.612003f * r, 0.612003f * r};
    self->kernels->bucket(x, n, thresholds, 2, codes);
}

/* Five digits, the first the least. Digit i times 3^i falls into the product's byte 4; no byte below
 * it, of at most 242 either, overflows, and the three digits that follow stay above it. */
static uint8_t join(const uint8_t *digits)
{
    const uint64_t powers = 81 | 27 << 8 | 9 << 16 | 3 << 24 | (uint64_t)1 << 32;
    uint64_t eight;
    memcpy(&eight, digits, sizeof eight);
    return (uint8_t)(eight * powers >> 32);
}

/* And back, in the low bytes. For a byte that five digits make, the products with 171 / 512, 57 /
 * 512, 19 / 512 and 203 / 16384, cut off, are what 3, 9, 27 and 81 go into it. */
static uint64_t split(uint64_t byte)
{
    const uint64_t parts = byte | (byte * 171 >> 9) << 8 | (byte * 57 >> 9) << 16 |
                           (byte * 19 >> 9) << 24 | (byte * 203 >> 14) << 32;
    return parts - 3 * (parts >> 8);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kv_levels *self = (struct kv_levels *)code;
    uint8_t *metadata = atom + code->payload_bytes;
    for (uint32_t first = 0; first < code->dim; first += self->group, metadata += 2) {
        const uint32_t left = code->dim - first;
        encode_group(self, rows + first, left < self->group ? left : self->group, metadata,
                     self->codes + first);
    }
    const uint32_t whole = code->payload_bytes - 1;
    for (uint32_t b = 0; b < whole; b++) atom[b] = join(self->codes + 5 * (size_t)b);
    uint8_t last[8] = {0};
    memcpy(last, self->codes + 5 * (size_t)whole, code->dim - 5 * whole);
    atom[whole] = join(last);
}

/* The digits of columns first .. first + n - 1, of whole bytes. */
static const uint8_t *unpack(const struct kv_levels *self, const uint8_t *atom, uint32_t first,
                             uint32_t n)
{
    uint8_t *digit = self->codes;
    for (uint32_t b = first / 5; 5 * b < first + n; b++) {
        const uint64_t digits = split(atom[b]);
        const uint32_t four = (uint32_t)digits;
        memcpy(digit, &four, sizeof four);
        digit[4] = (uint8_t)(digits >> 32);
        digit += 5;
    }
    return self->codes + first % 5;
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    static const float levels[3] = {-1.224006f, 0, 1.224006f};
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code), out += n_columns)
        kv_levels_decode(code, levels, unpack, atoms, first_column, n_columns, out);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    return kv_levels_create(out, setup, &kv_codec_ternary, (setup->dim + 4) / 5, 4, err);
}

const struct kv_codec kv_codec_ternary = {.name = "ternary",
                                          .summary =
                                              "-1, 0 or 1 and a mean magnitude a group: a floor",
                                          .paper = "-",
                                          .params = kv_levels_params,
                                          .config_size = sizeof(struct kv_levels_config),
                                          .create = create,
                                          .encode = encode,
                                          .decode = decode};
