/* TurboQuant against its theorems and against tables computed apart (long double Lloyd iterations
 * to 1e-12 for the codebooks, 60 000 rows for the errors). */
#include "tests/methods/codec_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codebook.h"
#include "methods/parts/rotation.h"

struct table {
    uint32_t d, bits;
    double half[8];
    double error;
};

/* Positive centroids in units of 1 / sqrt(d); mean square error on a unit vector. */
static const struct table tables[] = {
    {64, 1, {.801007}, .358387},
    {64, 2, {.452119, 1.499975}, .114526},
    {64, 3, {.243753, .750658, 1.329343, 2.111311}, .033391},
    {64, 4, {.127352, .384718, .650494, .931894, 1.239404, 1.590849, 2.023310, 2.646370}, .009132},
    {128, 1, {.799444}, .360889},
    {128, 2, {.452453, 1.505193}, .116000},
    {128, 3, {.244425, .753330, 1.336599, 2.131471}, .033966},
    {128, 4, {.127873, .386381, .653619, .937097, 1.247770, 1.604343, 2.045925, 2.688859}, .009315},
    {256, 1, {.798664}, .362136},
    {256, 2, {.452618, 1.507805}, .116740},
    {256, 3, {.244760, .754667, 1.340247, 2.141669}, .034256},
    {256,
     4,
     {.128134, .387214, .655187, .939714, 1.251989, 1.611168, 2.057411, 2.710567},
     .009408}};

Test(turboquant, codebooks_are_lloyd_max)
{
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        const struct table *want = &tables[t];
        struct kv_codebook book;
        kv_codebook_fill(&book, want->d, want->bits);
        cr_assert_eq(book.n, 1u << want->bits);
        for (uint32_t i = 0; i < book.n / 2; i++) {
            cr_expect_float_eq(book.centroids[book.n / 2 + i], want->half[i], 1e-5);
            cr_expect_eq(book.centroids[book.n / 2 - 1 - i], -book.centroids[book.n / 2 + i]);
        }
        for (uint32_t i = 0; i + 1 < book.n; i++)
            cr_expect_eq(book.thresholds[i], (book.centroids[i] + book.centroids[i + 1]) / 2);
        cr_expect_float_eq(kv_codebook_error(&book, want->d), want->error, 1e-6);
    }
}

/* Only the error is known of these. */
Test(turboquant, codebook_errors_elsewhere)
{
    static const struct {
        uint32_t d;
        double error[5];
    } known[] = {{32, {.353357, .1116, .032261, .008774}},
                 {64, {.358387, .114526, .033391, .009132, .002399}},
                 {80, {.359389, .115115, .033620, .009204}},
                 {96, {.360056, .115508, .033773, .009253}},
                 {128, {.360889, .116000, .033966, .009315, .002451}},
                 {256, {0, 0, 0, 0, .002478}},
                 {1536, {.363173, .117358, .034499, .009485}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (uint32_t b = 1; b <= 5; b++) {
            struct kv_codebook book;
            kv_codebook_fill(&book, known[i].d, b);
            if (known[i].error[b - 1] > 0)
                cr_expect_float_eq(kv_codebook_error(&book, known[i].d), known[i].error[b - 1],
                                   3e-5);
        }
}

/* d = 3 is uniform on [-1, 1]: equal cells, error 1 / n^2 of the variance. Beyond Newton's reach
 * there is no table that is out of order. */
Test(turboquant, codebooks_of_every_size)
{
    static const uint32_t widths[] = {1, 2, 3, 4, 5, 7, 16, 33, 1000, 4096, 65536};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (uint32_t b = 1; b <= KV_CODEBOOK_BITS; b++) {
            struct kv_codebook book;
            kv_codebook_fill(&book, widths[w], b);
            for (uint32_t i = 1; i < book.n; i++)
                cr_assert(book.centroids[i] > book.centroids[i - 1]);
            cr_expect(kv_codebook_error(&book, widths[w]) < 2.7207 * pow(4, -(double)b));
        }
    struct kv_codebook uniform;
    kv_codebook_fill(&uniform, 3, 4);
    for (uint32_t i = 0; i < 16; i++)
        cr_expect_float_eq(uniform.centroids[i], (2.0 * i - 15) / 16 * sqrt(3), 1e-9);
    cr_expect_float_eq(kv_codebook_error(&uniform, 3), 1.0 / 256, 1e-9);
}

Test(turboquant, rotations_keep_lengths_and_are_undone)
{
    static const struct {
        uint32_t n;
        enum kv_rotation_kind kind;
    } shapes[] = {{1, KV_ROTATE_HADAMARD}, {128, KV_ROTATE_HADAMARD}, {1, KV_ROTATE_HAAR},
                  {5, KV_ROTATE_HAAR},     {80, KV_ROTATE_HAAR},      {128, KV_ROTATE_HAAR}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct fixture f;
        float x[128], y[128], z[128];
        double before = 0, after = 0;
        open_codec(&f, "f32", 1, KV_KEYS);
        const struct kv_setup setup = {.kernels = &f.kernels, .pool = f.pool};
        struct kv_rotation rotation;
        cr_assert_eq(kv_rotation_create(&rotation, &setup, shapes[s].n, shapes[s].kind,
                                        kv_rng_stream(3, 1, 2, 3), &f.err),
                     KV_OK);
        fill_normal(x, shapes[s].n, 9);
        kv_rotation_apply(&rotation, x, y);
        kv_rotation_undo(&rotation, y, z);
        for (uint32_t i = 0; i < shapes[s].n; i++) {
            cr_expect_float_eq(z[i], x[i], 2e-6);
            before += x[i] * x[i], after += y[i] * y[i];
        }
        cr_expect_float_eq(after / before, 1, 1e-5);
        close_codec(&f);
    }
}

struct target {
    const char *spec;
    double nmse, within;
};

/* Theorem 1 (D_mse), the norm variants, and 2.5 bits; rows of 128 columns. */
Test(turboquant, error_on_normal_rows)
{
    static const struct target targets[] = {{"turboquant:bits=1", .3610, .01},
                                            {"turboquant:bits=2", .1160, .01},
                                            {"turboquant:bits=3", .0340, .01},
                                            {"turboquant:bits=4", .00932, .01},
                                            {"turboquant:bits=5", .00245, .01},
                                            {"turboquant:bits=1:norm=matched", .4013, .01},
                                            {"turboquant:bits=2:norm=matched", .1189, .01},
                                            {"turboquant:bits=3:norm=matched", .0338, .01},
                                            {"turboquant:bits=4:norm=matched", .00917, .01},
                                            {"turboquant:bits=1:norm=unbiased", .5676, .01},
                                            {"turboquant:bits=2:norm=unbiased", .1307, .01},
                                            {"turboquant:bits=3:norm=unbiased", .0347, .01},
                                            {"turboquant:bits=4:norm=unbiased", .00923, .01},
                                            {"turboquant:bits=1:norm=least-squares", .3606, .01},
                                            {"turboquant:bits=2:norm=least-squares", .1153, .01},
                                            {"turboquant:bits=3:norm=least-squares", .03355, .01},
                                            {"turboquant:bits=4:norm=least-squares", .009155, .01},
                                            {"turboquant:bits=2.5", .0947, .01}};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const double found = nmse(targets[i].spec, 128, KV_KEYS, 6000);
        cr_log_info("%s: %.4g, expected %.4g", targets[i].spec, found, targets[i].nmse);
        cr_expect(fabs(found / targets[i].nmse - 1) < targets[i].within, "%s: %.5g, expected %.5g",
                  targets[i].spec, found, targets[i].nmse);
    }
}

Test(turboquant, haar_and_hadamard_err_alike)
{
    for (int bits = 1; bits <= 4; bits++) {
        char haar[64], hadamard[64];
        snprintf(haar, sizeof haar, "turboquant:bits=%d:rotation=haar", bits);
        snprintf(hadamard, sizeof hadamard, "turboquant:bits=%d:rotation=hadamard", bits);
        cr_expect_float_eq(nmse(haar, 128, KV_KEYS, 6000) / nmse(hadamard, 128, KV_KEYS, 6000), 1,
                           .01);
    }
}

/* Widths without a Hadamard transform; the error is that of the width's own codebook. */
Test(turboquant, other_widths)
{
    static const struct {
        uint32_t d;
        double error;
    } known[] = {{33, 0}, {80, .033620}, {96, .033773}};
    for (size_t i = 0; i < 3; i++) {
        struct kv_codebook book;
        kv_codebook_fill(&book, known[i].d, 3);
        const double want =
            known[i].error > 0 ? known[i].error : kv_codebook_error(&book, known[i].d);
        cr_expect_float_eq(nmse("turboquant:bits=3", known[i].d, KV_KEYS, 8000) / want, 1, .01);
    }
}

/* How <y, x_hat> relates to <y, x> over random unit x, y: the mean square error times d, and the
 * slope of the regression through the origin, which y near x decides. */
struct relation {
    double error, slope;
};

enum { DIM = 128, N_PROBES = 512, PROBES_A_ROW = 16 };

/* Random unit vectors. */
static void make_probes(float *probes)
{
    fill_normal(probes, (size_t)N_PROBES * DIM, 2);
    for (int p = 0; p < N_PROBES; p++) {
        double size = 0;
        for (int c = 0; c < DIM; c++) size += pow(probes[p * DIM + c], 2);
        for (int c = 0; c < DIM; c++) probes[p * DIM + c] /= (float)sqrt(size);
    }
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (int c = 0; c < DIM; c++) sum += (double)a[c] * b[c];
    return sum;
}

static struct relation relate(const char *spec, const float *rows, const float *probes, uint32_t n)
{
    struct fixture f;
    struct relation relation = {0};
    float *decoded = malloc((size_t)n * DIM * sizeof *decoded);
    double along = 0, square = 0;
    open_codec(&f, spec, DIM, KV_KEYS);
    round_trip(&f, rows, n, decoded);
    for (uint32_t i = 0; i < n; i++) {
        const float *x = rows + (size_t)i * DIM, *x_hat = decoded + (size_t)i * DIM;
        const double size = dot(x, x);
        along += dot(x, x_hat), square += size;
        for (uint32_t k = 0; k < PROBES_A_ROW; k++) {
            const float *y = probes + (i * PROBES_A_ROW + k) % N_PROBES * DIM;
            const double off = dot(y, x_hat) - dot(y, x);
            relation.error += off * off / size * DIM / n / PROBES_A_ROW;
        }
    }
    relation.slope = along / square;
    close_codec(&f);
    free(decoded);
    return relation;
}

struct inner {
    const char *spec;
    double error, slope;
};

/* Theorem 2 (D_prod d: 1.56 .565 .181 .0532), the orthogonal sketch, and the bias 1 - D of
 * mode=mse. */
Test(turboquant, inner_products)
{
    enum { N = 4000 };
    float *rows = malloc(N * DIM * sizeof *rows), *probes = malloc(N_PROBES * DIM * sizeof *probes);
    fill_normal(rows, N * DIM, 1);
    make_probes(probes);
    static const struct inner inners[] = {
        {"turboquant:bits=1:mode=prod", 1.564, 1},
        {"turboquant:bits=2:mode=prod", .565, 1},
        {"turboquant:bits=3:mode=prod", .181, 1},
        {"turboquant:bits=4:mode=prod", .0532, 1},
        {"turboquant:bits=5:mode=prod", .0146, 1},
        {"turboquant:bits=1:mode=prod:sketch=orthogonal", .567, 1},
        {"turboquant:bits=2:mode=prod:sketch=orthogonal", .205, 1},
        {"turboquant:bits=3:mode=prod:sketch=orthogonal", .0658, 1},
        {"turboquant:bits=4:mode=prod:sketch=orthogonal", .0192, 1},
        {"turboquant:bits=2:norm=unbiased", .1307, 1},
        {"turboquant:bits=1", .3615, 1 - .3609},
        {"turboquant:bits=2", .1161, 1 - .1160},
        {"turboquant:bits=3", .0340, 1 - .0340},
        {"turboquant:bits=4", .0093, 1 - .0093}};
    for (size_t i = 0; i < sizeof inners / sizeof *inners; i++) {
        const struct relation found = relate(inners[i].spec, rows, probes, N);
        cr_log_info("%s: error %.4g, expected %.4g, slope %.4f", inners[i].spec, found.error,
                    inners[i].error, found.slope);
        cr_expect(fabs(found.error / inners[i].error - 1) < .03, "%s: error %.5g, expected %.5g",
                  inners[i].spec, found.error, inners[i].error);
        cr_expect_float_eq(found.slope, inners[i].slope, .01, "%s: slope %.4f", inners[i].spec,
                           found.slope);
    }
    free(rows);
    free(probes);
}

/* Four loud channels of sixteen get the finer codebook; the rest no longer pay for their length. */
Test(turboquant, outlying_channels_are_found)
{
    enum { WIDTH = 16, N = 2000 };
    struct fixture f;
    float *rows = malloc(N * WIDTH * sizeof *rows), *out = malloc(N * WIDTH * sizeof *out);
    double fitted[2] = {0}, unfitted[2] = {0};
    fill_normal(rows, N * WIDTH, 6);
    for (int i = 0; i < N * WIDTH; i++) rows[i] *= i % 4 == 3 ? 20.0f : 1.0f;
    for (int fit = 0; fit < 2; fit++) {
        open_codec(&f, "turboquant:bits=2.5", WIDTH, KV_KEYS);
        if (fit) fit_codec(&f, rows, N);
        round_trip(&f, rows, N, out);
        for (int i = 0; i < N * WIDTH; i++)
            (fit ? fitted : unfitted)[i % 4 == 3] += pow((double)out[i] - rows[i], 2);
        close_codec(&f);
    }
    cr_expect_lt(fitted[0] / (N * 12), .15);
    cr_expect_gt(unfitted[0], 20 * fitted[0]);
    cr_expect_lt(fitted[1] / (N * 4 * 400), .04);
    free(rows);
    free(out);
}

Test(turboquant, another_seed_gives_other_codes)
{
    struct fixture f;
    float row[64];
    uint8_t a[64], b[64];
    open_codec(&f, "turboquant", 64, KV_KEYS);
    fill_normal(row, 64, 8);
    f.code->type->encode(f.code, row, a);
    const struct kv_setup other = {
        .geometry = &f.geometry, .kernels = &f.kernels, .pool = f.pool, .seed = 6};
    struct kv_code *code;
    cr_assert_eq(kv_create_code(&code, f.specs.specs[0].caches[0].codec, &other, 64, &f.err),
                 KV_OK);
    code->type->encode(code, row, b);
    cr_expect_neq(memcmp(a, b, 32), 0);
    close_codec(&f);
}
