/* What holds for every codec: bytes, column ranges, many atoms at once, hostile rows, the same bits
 * on every instruction set; the default codec; the modifiers of a stage. */
#include "tests/methods/codec_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/half.h"

/* Every codec and the chains that matter. */
static const char *const specs[] = {"f32",
                                    "f16",
                                    "bf16",
                                    "int",
                                    "int:bits=1",
                                    "int:bits=3:group_size=7",
                                    "int:bits=8:group_size=32",
                                    "int:bits=3:axis=channel:group_size=5",
                                    "int:bits=2:axis=channel:group_size=32",
                                    "int:grid=symmetric",
                                    "int:bits=2:grid=symmetric:axis=channel:group_size=5",
                                    "int:bits=3:residual_length=7",
                                    "fp8",
                                    "fp8:format=e5m2:scale=token",
                                    "fp8:scale=head",
                                    "mxfp4",
                                    "mxfp4:group_size=16:rule=ceil",
                                    "nvfp4",
                                    "nvfp4:scale=none",
                                    "sign",
                                    "ternary:group_size=12",
                                    "kivi",
                                    "kivi:bits=3:group_size=8:residual_length=16",
                                    "q8_0",
                                    "q5_1",
                                    "q5_0",
                                    "q4_1",
                                    "q4_0",
                                    "iq4_nl",
                                    "turboquant",
                                    "turboquant:bits=1",
                                    "turboquant:bits=5:norm=matched",
                                    "turboquant:bits=3:norm=unbiased:rotation=haar",
                                    "turboquant:bits=2:norm=least-squares",
                                    "turboquant:bits=1:mode=prod",
                                    "turboquant:bits=3:mode=prod:sketch=orthogonal",
                                    "turboquant:bits=2.5",
                                    "turboquant:bits=3.5:mode=prod",
                                    "svd:rank=5",
                                    "svd:rank=3+int:bits=3",
                                    "svd:rank=5+kivi:bits=2",
                                    "svd:rank=4+turboquant:bits=2.5",
                                    "hadamard+int",
                                    "hadamard+kivi",
                                    "center+int:bits=2",
                                    "center+hadamard+turboquant:bits=2.5",
                                    "int:rotate=hadamard:center=mean",
                                    "int:bits=2:outliers=0.1",
                                    "outliers:share=0.5+kivi",
                                    "center+outliers+turboquant:bits=2.5",
                                    "svd:rank=5:rotate=hadamard+int:center=mean"};
static const uint32_t dims[] = {5, 33, 64, 80, 96, 128};
enum { SPECS = sizeof specs / sizeof *specs, DIMS = sizeof dims / sizeof *dims, MAX_ROWS = 96 };

static bool whole_blocks_only(const char *spec)
{
    return spec[0] == 'q' || strcmp(spec, "iq4_nl") == 0;
}

/* ---- sizes ---- */

struct sizes {
    const char *spec;
    uint32_t dim;
    enum kv_side side;
    uint32_t block, payload, metadata, recent, flush;
    bool at_once;
};

static const struct sizes sizes[] = {
    {"f32", 33, KV_KEYS, 1, 132, 0, 0, 1, true},
    {"f16", 33, KV_KEYS, 1, 66, 0, 0, 1, true},
    {"bf16", 33, KV_VALUES, 1, 66, 0, 0, 1, true},
    {"int", 64, KV_KEYS, 1, 32, 4, 0, 1, true},
    {"int:bits=8", 128, KV_KEYS, 1, 128, 8, 0, 1, true},
    {"int:bits=3:group_size=32", 33, KV_KEYS, 1, 13, 8, 0, 1, true},
    {"int:group_size=1000", 96, KV_KEYS, 1, 48, 4, 0, 1, true},
    {"int:bits=2:axis=channel:group_size=32", 5, KV_KEYS, 32, 40, 20, 0, 32, false},
    {"int:grid=symmetric", 80, KV_KEYS, 1, 40, 4, 0, 1, true},
    {"int:residual_length=20", 64, KV_KEYS, 1, 32, 4, 20, 1, false},
    {"int:axis=channel:residual_length=128", 5, KV_KEYS, 64, 160, 20, 0, 128, false},
    {"fp8", 33, KV_KEYS, 1, 33, 0, 0, 1, true},
    {"fp8:scale=token", 33, KV_KEYS, 1, 33, 4, 0, 1, true},
    {"mxfp4", 80, KV_KEYS, 1, 40, 3, 0, 1, true},
    {"mxfp4", 33, KV_KEYS, 1, 17, 2, 0, 1, true},
    {"nvfp4", 96, KV_KEYS, 1, 48, 6, 0, 1, true},
    {"sign", 96, KV_KEYS, 1, 12, 4, 0, 1, true},
    {"ternary", 64, KV_KEYS, 1, 13, 2, 0, 1, true},
    {"kivi", 128, KV_KEYS, 32, 1024, 512, 0, 128, false},
    {"kivi", 128, KV_VALUES, 1, 32, 16, 128, 1, false},
    {"kivi:bits=4:residual_length=32", 33, KV_VALUES, 1, 17, 8, 32, 1, false},
    {"q8_0", 96, KV_KEYS, 1, 96, 6, 0, 1, true},
    {"q4_0", 96, KV_KEYS, 1, 48, 6, 0, 1, true},
    {"iq4_nl", 96, KV_KEYS, 1, 48, 6, 0, 1, true},
    {"q4_1", 96, KV_KEYS, 1, 48, 12, 0, 1, true},
    {"q5_0", 96, KV_KEYS, 1, 60, 6, 0, 1, true},
    {"q5_1", 96, KV_KEYS, 1, 60, 12, 0, 1, true},
    {"turboquant", 64, KV_KEYS, 1, 32, 2, 0, 1, true},
    {"turboquant:bits=3", 33, KV_KEYS, 1, 13, 2, 0, 1, true},
    {"turboquant:bits=3:mode=prod", 33, KV_KEYS, 1, 9 + 5, 4, 0, 1, true},
    {"turboquant:bits=1:mode=prod", 128, KV_KEYS, 1, 16, 4, 0, 1, true},
    {"turboquant:bits=2.5", 128, KV_KEYS, 1, 12 + 24, 4, 0, 1, true},
    {"turboquant:bits=3.5", 80, KV_KEYS, 1, 20 + 15, 4, 0, 1, true},
    {"turboquant:bits=2.5:mode=prod", 80, KV_KEYS, 1, 5 + 3 + 8 + 8, 8, 0, 1, true},
    {"svd:rank=7", 64, KV_KEYS, 1, 14, 0, 0, 1, true},
    {"svd:rank=7+int", 64, KV_KEYS, 1, 4, 4, 0, 1, true},
    {"svd:rank=7+kivi:bits=3", 64, KV_KEYS, 32, 84, 28, 0, 128, false},
    {"hadamard+int", 64, KV_KEYS, 1, 32, 4, 0, 1, true},
    {"int:outliers=0.01", 64, KV_KEYS, 1, 34, 6, 0, 1, true},
    {"int:outliers=0.02", 128, KV_KEYS, 1, 64 + 6, 8 + 6, 0, 1, true},
    {"outliers:share=0.5+kivi", 5, KV_KEYS, 32, 40 + 3 * 64, 20 + 3 * 64, 0, 128, false},
    {"center", 64, KV_KEYS, 1, 128, 0, 0, 1, true}};

Test(codecs, bytes_and_tiers)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct sizes *want = &sizes[i];
        struct fixture f;
        open_codec(&f, want->spec, want->dim, want->side);
        const struct kv_code *code = f.code;
        cr_expect_eq(code->dim, want->dim);
        cr_expect_eq(code->block, want->block, "%s", want->spec);
        cr_expect_eq(code->payload_bytes, want->payload, "%s: %u", want->spec, code->payload_bytes);
        cr_expect_eq(code->metadata_bytes, want->metadata, "%s: %u", want->spec,
                     code->metadata_bytes);
        cr_expect_eq(code->tiers.recent, want->recent, "%s", want->spec);
        cr_expect_eq(code->tiers.flush, want->flush, "%s", want->spec);
        cr_expect_eq(code->tiers.coded_at_once, want->at_once, "%s", want->spec);
        cr_expect_eq(code->tiers.flush % code->block, 0, "%s", want->spec);
        close_codec(&f);
    }
}

struct charge {
    const char *spec;
    uint32_t dim, bytes;
};

Test(codecs, what_a_fit_is_charged)
{
    static const struct charge charges[] = {{"turboquant", 80, 0},
                                            {"turboquant:bits=2.5", 80, 10},
                                            {"turboquant:bits=2.5", 33, 5},
                                            {"svd:rank=7", 33, 462},
                                            {"center", 33, 66},
                                            {"center+svd:rank=2+center+int", 33, 66 + 132 + 4},
                                            {"hadamard+turboquant:bits=3.5", 33, 5},
                                            {"hadamard+int", 33, 0}};
    float rows[16 * 80];
    fill_normal(rows, 16 * 80, 3);
    for (size_t i = 0; i < sizeof charges / sizeof *charges; i++) {
        struct fixture f;
        open_codec(&f, charges[i].spec, charges[i].dim, KV_KEYS);
        cr_expect_eq(kv_pool_used(f.pool, KV_BASIS_ONLINE), 0);
        fit_codec(&f, rows, 16);
        cr_expect_eq(kv_pool_used(f.pool, KV_BASIS_ONLINE), charges[i].bytes, "%s",
                     charges[i].spec);
        cr_expect_eq(kv_pool_used(f.pool, KV_PAYLOAD), 0);
        close_codec(&f);
    }
}

/* Only what needs the prompt asks for it: the cache gathers every prompt row for a fit. */
Test(codecs, only_what_needs_the_prompt_has_a_fit)
{
    static const char *const without[] = {"int", "turboquant", "turboquant:bits=3:mode=prod",
                                          "hadamard+int", "int:rotate=hadamard"};
    static const char *const with[] = {"turboquant:bits=3.5", "svd", "center+int",
                                       "hadamard+turboquant:bits=2.5", "int:center=mean"};
    for (size_t i = 0; i < 5; i++) {
        struct fixture f;
        open_codec(&f, without[i], 64, KV_KEYS);
        cr_expect_null(f.code->type->fit, "%s", without[i]);
        close_codec(&f);
        open_codec(&f, with[i], 64, KV_KEYS);
        cr_expect_not_null(f.code->type->fit, "%s", with[i]);
        close_codec(&f);
    }
}

/* ---- decoding by parts ---- */

/* Bits, not values, but for the sign of a zero. */
static bool same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

static void check_ranges(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                         const float *whole, const char *spec)
{
    const uint32_t dim = code->dim, rows = n_atoms * code->block;
    float *part = malloc((size_t)rows * dim * sizeof *part);
    const uint32_t ranges[][2] = {{0, 1}, {dim - 1, 1}, {1, dim - 1}, {dim / 3, dim / 2}, {3, 2}};
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
        const uint32_t first = ranges[r][0], n = ranges[r][1];
        code->type->decode(code, atoms, n_atoms, first, n, part);
        for (uint32_t i = 0; i < rows; i++)
            cr_assert(same(part + (size_t)i * n, whole + (size_t)i * dim + first, n),
                      "%s, dim %u: columns %u + %u of row %u", spec, dim, first, n, i);
    }
    free(part);
}

static void check_parts(const char *spec, uint32_t dim, enum kv_side side)
{
    struct fixture f;
    open_codec(&f, spec, dim, side);
    const uint32_t block = f.code->block, n_atoms = 3, rows = n_atoms * block;
    float *in = malloc((size_t)rows * dim * sizeof *in),
          *whole = malloc((size_t)rows * dim * sizeof *whole);
    float *single = malloc((size_t)block * dim * sizeof *single);
    fill_normal(in, (size_t)rows * dim, 2);
    fit_codec(&f, in, rows);
    const size_t bytes = kv_atom_bytes(f.code);
    uint8_t *atoms = malloc(n_atoms * bytes); /* exact: a sanitizer sees every byte too many */
    for (uint32_t a = 0; a < n_atoms; a++)
        f.code->type->encode(f.code, in + (size_t)a * block * dim, atoms + a * bytes);
    f.code->type->decode(f.code, atoms, n_atoms, 0, dim, whole);
    for (uint32_t a = 0; a < n_atoms; a++) {
        f.code->type->decode(f.code, atoms + a * bytes, 1, 0, dim, single);
        cr_assert(same(single, whole + (size_t)a * block * dim, (size_t)block * dim), "%s", spec);
    }
    check_ranges(f.code, atoms, n_atoms, whole, spec);
    free(in), free(whole), free(single), free(atoms);
    close_codec(&f);
}

Test(codecs, column_ranges_and_many_atoms)
{
    for (int s = 0; s < SPECS; s++)
        for (int d = 0; d < DIMS; d++)
            for (int side = 0; side < 2; side++)
                if (!whole_blocks_only(specs[s]) || dims[d] % 32 == 0)
                    check_parts(specs[s], dims[d], (enum kv_side)side);
}

/* ---- hostile rows ---- */

static float hostile(int kind, uint32_t i, float huge)
{
    switch (kind) {
    case 0:
        return 0.0f;
    case 1:
        return 3.25f;
    case 2:
        return i % 2 ? huge : -huge;
    case 3:
        return i % 3 ? 1e-40f : -3e-42f;
    case 4:
        return i == 1 ? huge : 0.0f;
    case 5:
        return i == 2 ? -1e-8f : 1e-7f * (float)i;
    case 6:
        return -0.0f;
    default:
        return i % 5 ? 1e-6f : huge;
    }
}

/* Chains turn rows in floats: for them huge is what a half can hold. */
static void check_hostile(const char *spec, uint32_t dim, bool fit)
{
    struct fixture f;
    open_codec(&f, spec, dim, KV_KEYS);
    const bool chain = f.code->type->traits & KV_LEAVES_ROWS;
    const uint32_t n = f.code->block * 8;
    const size_t size = (size_t)n * dim;
    float *in = malloc(size * sizeof *in), *out = malloc(size * sizeof *out);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < dim; c++)
            in[(size_t)i * dim + c] = hostile((int)(i % 8), c, chain ? 65504.0f : 3e38f);
    if (fit) fit_codec(&f, in, n);
    round_trip(&f, in, n, out);
    for (size_t i = 0; i < size; i++)
        cr_assert(isfinite(out[i]), "%s, dim %u: row %zu is not finite", spec, dim, i / dim);
    for (uint32_t c = 0; f.code->block == 1 && !fit && c < dim; c++)
        cr_assert_eq(out[c], 0.0f, "%s, dim %u: a zero row gives %g", spec, dim, out[c]);
    free(in), free(out);
    close_codec(&f);
}

Test(codecs, hostile_rows_stay_finite)
{
    for (int s = 0; s < SPECS; s++)
        for (int d = 0; d < DIMS; d++)
            for (int fit = 0; fit < 2; fit++)
                if (!whole_blocks_only(specs[s]) || dims[d] % 32 == 0)
                    check_hostile(specs[s], dims[d], fit);
}

/* ---- the same bits everywhere ---- */

static void check_isa(const char *spec, uint32_t dim, const char *isa)
{
    struct fixture a, b;
    cr_assert_eq(try_codec(&a, spec, dim, KV_KEYS, "generic"), KV_OK);
    cr_assert_eq(try_codec(&b, spec, dim, KV_KEYS, isa), KV_OK);
    const uint32_t block = a.code->block, n = MAX_ROWS / block * block;
    float *in = malloc((size_t)n * dim * sizeof *in),
          *out = malloc((size_t)n * dim * sizeof *out * 2);
    fill_normal(in, (size_t)n * dim, 4);
    fit_codec(&a, in, n);
    fit_codec(&b, in, n);
    const size_t bytes = kv_atom_bytes(a.code);
    cr_assert_eq(bytes, kv_atom_bytes(b.code));
    uint8_t *atoms = malloc(2 * bytes);
    for (uint32_t i = 0; i < n; i += block) {
        a.code->type->encode(a.code, in + (size_t)i * dim, atoms);
        b.code->type->encode(b.code, in + (size_t)i * dim, atoms + bytes);
        cr_assert_eq(memcmp(atoms, atoms + bytes, bytes), 0, "%s, dim %u, %s: codes differ", spec,
                     dim, isa);
        a.code->type->decode(a.code, atoms, 1, 0, dim, out);
        b.code->type->decode(b.code, atoms, 1, 0, dim, out + (size_t)n * dim);
        cr_assert(same(out, out + (size_t)n * dim, (size_t)block * dim),
                  "%s, dim %u, %s: rows differ", spec, dim, isa);
    }
    free(in), free(out), free(atoms);
    close_codec(&a);
    close_codec(&b);
}

/* Rows with a zero one, a huge one and a tiny one among them. */
static void check_at_once(const char *spec, uint32_t dim)
{
    struct fixture f;
    open_codec(&f, spec, dim, KV_KEYS);
    const uint32_t block = f.code->block, n_atoms = MAX_ROWS / block;
    float *in = malloc((size_t)n_atoms * block * dim * sizeof *in);
    fill_normal(in, (size_t)n_atoms * block * dim, 5);
    fit_codec(&f, in, n_atoms * block);
    for (uint32_t c = 0; n_atoms * block > 4 && c < dim; c++)
        in[c + dim] = 0, in[c + 3 * dim] *= 0x1p70f, in[c + 4 * dim] *= 0x1p-70f;
    const size_t bytes = kv_atom_bytes(f.code);
    uint8_t *each = malloc(n_atoms * bytes), *at_once = malloc(n_atoms * bytes);
    for (uint32_t a = 0; a < n_atoms; a++)
        f.code->type->encode(f.code, in + (size_t)a * block * dim, each + a * bytes);
    for (uint32_t n = 1; n <= n_atoms; n += 5) {
        kv_encode_atoms(f.code, in, n, at_once);
        cr_assert_eq(memcmp(each, at_once, n * bytes), 0, "%s, dim %u: %u atoms at once", spec, dim, n);
    }
    free(in), free(each), free(at_once);
    close_codec(&f);
}

Test(codecs, atoms_at_once_are_those_of_one_after_the_other)
{
    for (int s = 0; s < SPECS; s++)
        for (int d = 0; d < DIMS; d++)
            if (!whole_blocks_only(specs[s]) || dims[d] % 32 == 0) check_at_once(specs[s], dims[d]);
}

Test(codecs, every_instruction_set_gives_the_same_bits)
{
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++)
        for (int s = 0; isa->built && isa->runs && s < SPECS; s++)
            for (int d = 0; d < DIMS; d++)
                if (!whole_blocks_only(specs[s]) || dims[d] % 32 == 0)
                    check_isa(specs[s], dims[d], isa->name);
}

/* ---- exact types, the default, what is refused ---- */

static void check_exact(const char *spec, float (*widen)(uint16_t))
{
    struct fixture f;
    float in[64], out[64];
    open_codec(&f, spec, 64, KV_KEYS);
    for (uint32_t bits = 0; bits < 0x10000; bits += 64) {
        for (uint32_t i = 0; i < 64; i++) in[i] = widen((uint16_t)(bits + i));
        if (!isfinite(in[0]) || !isfinite(in[63])) continue;
        round_trip(&f, in, 1, out);
        cr_assert_eq(memcmp(in, out, sizeof in), 0, "%s at %#x", spec, bits);
    }
    close_codec(&f);
}

Test(codecs, recorded_types_come_back_exactly)
{
    check_exact("f32", kv_half_to_float);
    check_exact("f32", kv_bfloat_to_float);
    check_exact("f16", kv_half_to_float);
    check_exact("bf16", kv_bfloat_to_float);
}

/* interface.md section 2: `svd:rank=32` keeps halves, whatever the trace was recorded in. */
Test(codecs, what_stands_behind_a_chain_without_an_end_is_f16)
{
    struct fixture f;
    open_codec(&f, "", 64, KV_KEYS);
    const struct kv_setup wide = {.geometry = &(struct kv_geometry){.element_bits = 32},
                                  .kernels = &f.kernels,
                                  .pool = f.pool};
    struct kv_code *code;
    cr_assert_eq(kv_create_code(&code, NULL, &wide, 64, &f.err), KV_OK);
    cr_expect_str_eq(code->type->name, "f16");
    close_codec(&f);
}

struct refusal {
    const char *spec;
    uint32_t dim;
    enum kv_side side;
    const char *why;
};

Test(codecs, what_a_shape_does_not_allow_says_why)
{
    static const struct refusal refusals[] = {
        {"q8_0", 80, KV_KEYS, "blocks of 32"},
        {"q4_0", 33, KV_KEYS, "blocks of 32"},
        {"kivi", 64, KV_BOTH_SIDES, "span"},
        {"kivi:residual_length=100", 64, KV_KEYS, "multiple"},
        {"svd:rank=65", 64, KV_KEYS, "rank 65"},
        {"svd:rank=20+q8_0", 64, KV_KEYS, "blocks of 32"},
        {"turboquant:bits=2.25", 64, KV_KEYS, "2.25"},
        {"turboquant:rotation=hadamard", 80, KV_KEYS, "power of two"},
        {"turboquant:bits=2.5", 1, KV_KEYS, "two columns"},
        {"turboquant:mode=prod:norm=matched", 64, KV_KEYS, "unbiased"}};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *want = &refusals[i];
        struct fixture f;
        cr_expect_eq(try_codec(&f, want->spec, want->dim, want->side, "auto"), KV_EUNSUPPORTED,
                     "%s", want->spec);
        cr_expect_not_null(strstr(f.err.text, want->why), "%s: %s", want->spec, f.err.text);
        close_codec(&f);
    }
}

Test(codecs, modifiers_of_a_stage)
{
    struct fixture f;
    open_codec(&f, "kivi:sinks=4:recent=16", 64, KV_KEYS);
    cr_expect_eq(f.code->tiers.sinks, 4);
    cr_expect_eq(f.code->tiers.recent, 16);
    cr_expect_eq(f.code->tiers.flush, 128);
    close_codec(&f);
    open_codec(&f, "int:sinks=2:rotate=hadamard:center=mean", 64, KV_VALUES);
    cr_expect_str_eq(f.code->type->name, "center");
    cr_expect_eq(f.code->tiers.sinks, 2);
    close_codec(&f);
}

/* Without memory every codec says so: nothing is used half made. */
Test(codecs, memory_that_runs_out_is_an_error)
{
    for (int s = 0; s < SPECS; s++)
        for (size_t limit = 64; limit < 1u << 20; limit *= 4) {
            struct fixture f;
            const uint32_t dim = 64;
            open_codec(&f, specs[s], dim, KV_KEYS);
            const struct kv_setup setup = {.geometry = &f.geometry,
                                           .kernels = &f.kernels,
                                           .seed = 5,
                                           .pool = kv_pool_create(limit),
                                           .dim = dim};
            struct kv_code *code;
            const int status =
                kv_create_code(&code, f.specs.specs[0].caches[0].codec, &setup, dim, &f.err);
            cr_expect(status == KV_OK || status == KV_EMEMORY, "%s: %d", specs[s], status);
            kv_pool_destroy(setup.pool);
            close_codec(&f);
        }
}
