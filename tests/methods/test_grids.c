/* The grids of int, kivi and llama.cpp: worked by hand, against ggml's bytes, and by their error.
 */
#include "tests/methods/codec_fixture.h"

#include <math.h>
#include <string.h>

static void expect_bytes(struct fixture *f, const float *rows, const uint8_t *want, size_t n)
{
    uint8_t atom[256] = {0};
    cr_assert_eq(kv_atom_bytes(f->code), n);
    f->code->type->encode(f->code, rows, atom);
    for (size_t i = 0; i < n; i++)
        cr_expect_eq(atom[i], want[i], "byte %zu: %#x, expected %#x", i, atom[i], want[i]);
}

static void expect_rows(struct fixture *f, const float *rows, const float *want, uint32_t n)
{
    float out[256];
    round_trip(f, rows, n, out);
    for (uint32_t i = 0; i < n * f->code->dim; i++)
        cr_expect_eq(out[i], want[i], "value %u: %.9g, expected %.9g", i, out[i], want[i]);
}

/* max - min = 3, scale 1, minimum -1; (0.5 + 1) / 1 = 1.5 goes to the even code 2. */
Test(grids, int_by_hand)
{
    struct fixture f;
    const float row[] = {-1, 0.5f, 2, 0.1f}, back[] = {-1, 1, 2, 0};
    const uint8_t atom[] = {0x78, 0x00, 0x3c, 0x00, 0xbc};
    open_codec(&f, "int:bits=2", 4, KV_KEYS);
    expect_bytes(&f, row, atom, sizeof atom);
    expect_rows(&f, row, back, 1);
    close_codec(&f);
}

/* 1 / 15 is kept as the half 0x2c44 = 0.066650390625 and used so: 0.3 is 4.501 steps, not 4.5
 * (which would go to the even 4), and 0.7 is 10.503, not 10.5. */
Test(grids, int_uses_the_scale_that_it_keeps)
{
    struct fixture f;
    const float row[] = {0, 1, 0.3f, 0.7f}, step = 0.066650390625f;
    const float back[] = {0, 15 * step, 5 * step, 11 * step};
    const uint8_t atom[] = {0xf0, 0xb5, 0x44, 0x2c, 0x00, 0x00};
    open_codec(&f, "int:bits=4", 4, KV_KEYS);
    expect_bytes(&f, row, atom, sizeof atom);
    expect_rows(&f, row, back, 1);
    close_codec(&f);
}

/* Groups {0, 3} {7, 7} {5}: constant groups have scale 0 and code 0. Bits run on over groups. */
Test(grids, int_short_and_constant_groups)
{
    struct fixture f;
    const float row[] = {0, 3, 7, 7, 5};
    const uint8_t atom[] = {0x0c, 0x00, 0x00, 0x3c, 0x00, 0x00, 0x00,
                            0x00, 0x00, 0x47, 0x00, 0x00, 0x00, 0x45};
    open_codec(&f, "int:bits=2:group_size=2", 5, KV_KEYS);
    expect_bytes(&f, row, atom, sizeof atom);
    expect_rows(&f, row, row, 1);
    close_codec(&f);
}

/* Two tokens of two channels: channel 0 is {0, 3} (scale 1, minimum 0), channel 1 {10, 16} (2, 10).
 */
static const float two_tokens[] = {0, 10, 3, 16};
static const uint8_t by_channel[] = {0xf0, 0x00, 0x3c, 0x00, 0x00, 0x00, 0x40, 0x00, 0x49};

Test(grids, int_along_channels)
{
    struct fixture f;
    open_codec(&f, "int:bits=2:axis=channel:group_size=2", 2, KV_VALUES);
    expect_bytes(&f, two_tokens, by_channel, sizeof by_channel);
    expect_rows(&f, two_tokens, two_tokens, 2);
    close_codec(&f);
}

/* Keys as above; values by token: {0, 10} has scale 10 / 3 as a half, 0x42ab = 3.333984375. */
Test(grids, kivi_by_hand)
{
    struct fixture f;
    const float back[] = {0, 3 * 3.333984375f};
    const uint8_t by_token[] = {0x0c, 0xab, 0x42, 0x00, 0x00};
    open_codec(&f, "kivi:bits=2:group_size=2:residual_length=4", 2, KV_KEYS);
    expect_bytes(&f, two_tokens, by_channel, sizeof by_channel);
    close_codec(&f);
    open_codec(&f, "kivi:bits=2:group_size=2:residual_length=4", 2, KV_VALUES);
    expect_bytes(&f, two_tokens, by_token, sizeof by_token);
    expect_rows(&f, two_tokens, back, 1);
    close_codec(&f);
}

/* Made by gguf 0.19.0 (Python, llama.cpp's): quantize(row, GGMLQuantizationType.Q8_0 or Q4_0) of
 *   A[i] = ((37 i) mod 64 - 29) / 8, negated where 3 divides i; B[i] = ((7 i i) mod 101 - 50) / 3.
 */
static void ggml_rows(float rows[2][32])
{
    for (int i = 0; i < 32; i++) {
        rows[0][i] = (float)((i * 37) % 64 - 29) * 0.125f * (i % 3 ? 1.0f : -1.0f);
        rows[1][i] = (float)((i * i * 7) % 101 - 50) / 3.0f;
    }
}

static const uint8_t q8_0[2][34] = {
    {0x49, 0x28, 0x6c, 0x1e, 0xb9, 0xbd, 0xde, 0x69, 0xfc, 0x9f, 0x29, 0x3c,
     0x4e, 0xea, 0x8c, 0x0f, 0xaa, 0xcc, 0xcf, 0x5a, 0x0b, 0x7f, 0x1a, 0x4b,
     0x40, 0xdb, 0x9b, 0x00, 0x9b, 0xdb, 0xc0, 0x4b, 0x1a, 0x70},
    {0x33, 0x30, 0x81, 0x93, 0xc8, 0x21, 0x9d, 0x3d, 0x00, 0xe7, 0xf1, 0x1e,
     0x70, 0xe4, 0x7c, 0x38, 0x17, 0x19, 0x40, 0x89, 0xf6, 0x86, 0x3a, 0x12,
     0x0d, 0x2b, 0x6d, 0xd2, 0x5b, 0x08, 0xd7, 0xcb, 0xe2, 0x1c}};
static const uint8_t q4_0[2][18] = {{0x40, 0xb8, 0xb1, 0x26, 0x7c, 0x0c, 0x6a, 0x31, 0x48, 0xae,
                                     0xe5, 0x84, 0xe3, 0xa9, 0xcf, 0x37, 0x6d, 0x1b},
                                    {0x2b, 0x40, 0xc0, 0x01, 0x74, 0x0a, 0xc2, 0x9c, 0x98, 0xb6,
                                     0xf7, 0x5a, 0xef, 0x86, 0x5f, 0x5c, 0x69, 0xaa}};

Test(grids, ggml_bytes)
{
    struct fixture f;
    float rows[2][32];
    ggml_rows(rows);
    for (int r = 0; r < 2; r++) {
        open_codec(&f, "q8_0", 32, KV_KEYS);
        expect_bytes(&f, rows[r], q8_0[r], sizeof q8_0[r]);
        close_codec(&f);
        open_codec(&f, "q4_0", 32, KV_KEYS);
        expect_bytes(&f, rows[r], q4_0[r], sizeof q4_0[r]);
        close_codec(&f);
    }
}

/* gguf's dequantize of the same blocks, first six values. */
Test(grids, ggml_values)
{
    static const float a8[] = {3.6156005859375f,    1.00433349609375f,  -2.376922607421875f,
                               -2.243011474609375f, -1.13824462890625f, 3.515167236328125f};
    static const float b4[] = {-16.671875f, -14.587890625f, -8.3359375f,
                               4.16796875f, -12.50390625f,  8.3359375f};
    struct fixture f;
    float rows[2][32], out[32];
    ggml_rows(rows);
    open_codec(&f, "q8_0", 32, KV_KEYS);
    round_trip(&f, rows[0], 1, out);
    cr_expect_eq(memcmp(out, a8, sizeof a8), 0);
    close_codec(&f);
    open_codec(&f, "q4_0", 32, KV_KEYS);
    round_trip(&f, rows[1], 1, out);
    cr_expect_eq(memcmp(out, b4, sizeof b4), 0);
    close_codec(&f);
}

struct target {
    const char *spec;
    enum kv_side side;
    double nmse, within;
};

/* Independent normal rows of 128 columns; expected values computed apart, on 60 000 rows. They are
 * given to two or three digits, which is most of the tolerance. */
Test(grids, error_on_normal_rows)
{
    static const struct target targets[] = {
        {"bf16", KV_KEYS, 2.8e-6, .02},
        {"q8_0", KV_KEYS, 2.9e-5, .02},
        {"q5_1", KV_KEYS, .001432, .01},
        {"q5_0", KV_KEYS, .001820, .01},
        {"q4_1", KV_KEYS, .006116, .01},
        {"q4_0", KV_KEYS, .007370, .01},
        {"iq4_nl", KV_KEYS, .006188, .01},
        {"int:bits=8:grid=symmetric:group_size=32", KV_KEYS, 2.9e-5, .02},
        {"int:grid=symmetric:group_size=32", KV_KEYS, .0094, .01},
        {"int:bits=3:grid=symmetric:group_size=64", KV_KEYS, .0631, .01},
        {"int:bits=2:grid=symmetric:group_size=128", KV_KEYS, .588, .01},
        {"fp8", KV_KEYS, 7.05e-4, .01},
        {"fp8:scale=token", KV_KEYS, 6.62e-4, .01},
        {"fp8:format=e5m2", KV_KEYS, 2.79e-3, .01},
        {"mxfp4", KV_KEYS, .0132, .01},
        {"mxfp4:rule=ceil", KV_KEYS, .0133, .01},
        {"mxfp4:group_size=16:rule=ceil", KV_KEYS, .0127, .01},
        {"nvfp4", KV_KEYS, .00904, .01},
        {"sign:group_size=128", KV_KEYS, .3609, .01},
        {"ternary:group_size=128", KV_KEYS, .1881, .01},
        {"int:bits=8:group_size=32", KV_KEYS, 2.1e-5, .03},
        {"int:bits=8:group_size=64", KV_KEYS, 2.8e-5, .02},
        {"int:bits=8:group_size=128", KV_KEYS, 3.4e-5, .02},
        {"int:group_size=32", KV_KEYS, .00611, .01},
        {"int:group_size=64", KV_KEYS, .00804, .01},
        {"int:group_size=128", KV_KEYS, .00995, .01},
        {"int:bits=3:group_size=32", KV_KEYS, .0281, .01},
        {"int:bits=3:group_size=128", KV_KEYS, .0458, .01},
        {"int:bits=2:group_size=32", KV_KEYS, .154, .01},
        {"int:bits=2:group_size=64", KV_KEYS, .202, .01},
        {"int:bits=2:group_size=128", KV_KEYS, .250, .01},
        {"kivi", KV_KEYS, .154, .01},
        {"kivi", KV_VALUES, .154, .01},
        {"int:bits=2:axis=channel:group_size=64", KV_KEYS, .202, .01}};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const double found = nmse(targets[i].spec, 128, targets[i].side, 6400);
        cr_log_info("%s: %.4g, expected %.4g", targets[i].spec, found, targets[i].nmse);
        cr_expect(fabs(found / targets[i].nmse - 1) < targets[i].within, "%s: %.5g, expected %.5g",
                  targets[i].spec, found, targets[i].nmse);
    }
}
