/* Eigenvectors, svd and the codecs that turn rows around an inner one. */
#include "tests/methods/codec_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "methods/lags.h"
#include "methods/parts/eigen.h"

enum { MAX = 128, N = 256 };

static void random_symmetric(double *matrix, uint32_t n, uint32_t rank)
{
    struct kv_rng rng = kv_rng_stream(4, n, rank, 0);
    memset(matrix, 0, (size_t)n * n * sizeof *matrix);
    for (uint32_t k = 0; k < rank; k++) {
        double v[MAX];
        for (uint32_t i = 0; i < n; i++) v[i] = kv_rng_normal(&rng);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                matrix[(size_t)i * n + j] += v[i] * v[j] * (k % 3 ? 1 : -1);
    }
}

/* A v = lambda v, orthonormal, descending, signs fixed. */
static void check_eigen(const double *matrix, uint32_t n)
{
    double *v = malloc((size_t)n * n * sizeof *v), values[MAX], size = 0;
    struct kv_kernels kernels;
    struct kv_error err;
    memcpy(v, matrix, (size_t)n * n * sizeof *v);
    cr_assert_eq(kv_kernels_fill(&kernels, "auto", &err), KV_OK);
    cr_assert_eq(kv_eigen_symmetric(&kernels, v, n, values, &err), KV_OK);
    for (uint32_t i = 0; i < n * n; i++)
        if (fabs(matrix[i]) > size) size = fabs(matrix[i]);
    for (uint32_t k = 0; k < n; k++) {
        const double *vector = v + (size_t)k * n;
        uint32_t largest = 0;
        if (k) cr_assert(values[k] <= values[k - 1]);
        for (uint32_t i = 0; i < n; i++) {
            double sum = 0, product = 0;
            for (uint32_t j = 0; j < n; j++) {
                sum += matrix[(size_t)i * n + j] * vector[j];
                product += v[(size_t)i * n + j] * vector[j];
            }
            cr_assert_float_eq(sum, values[k] * vector[i], 1e-12 * n * (size + 1));
            cr_assert_float_eq(product, i == k, 1e-12);
            if (fabs(vector[i]) > fabs(vector[largest])) largest = i;
        }
        cr_assert_gt(vector[largest], 0);
    }
    free(v);
}

Test(low_rank, eigenvectors)
{
    static const uint32_t widths[] = {1, 2, 3, 5, 33, 64, 128};
    double *matrix = malloc(MAX * MAX * sizeof *matrix);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (uint32_t rank = 0; rank <= widths[w]; rank += widths[w] / 3 + 1) {
            random_symmetric(matrix, widths[w], rank);
            check_eigen(matrix, widths[w]);
        }
    free(matrix);
}

/* Equal values, huge and tiny ones side by side, a matrix that is diagonal already. */
Test(low_rank, eigenvectors_of_awkward_matrices)
{
    double matrix[36];
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++)
                matrix[i * 6 + j] = kind == 0   ? i == j
                                    : kind == 1 ? 1.0
                                    : kind == 2 ? (i == j ? pow(10, 3 * i - 9) : 0.0)
                                                : pow(10, -(double)(i + j));
        check_eigen(matrix, 6);
    }
}

/* One spike among equal entries, as a sink of 65504 makes it: every other direction is all but
 * empty, and no coupling of two of them is ever small beside their own diagonals. */
Test(low_rank, eigenvectors_of_a_spike_among_equal_rows)
{
    enum { DIM = 64, ROWS = 96 };
    double *matrix = calloc(DIM * DIM, sizeof *matrix);
    for (int i = 0; i < ROWS; i++)
        for (int r = 0; r < DIM; r++)
            for (int c = 0; c < DIM; c++)
                matrix[r * DIM + c] +=
                    (i == 0 && r == 2 ? -65504.0 : 0.25) * (i == 0 && c == 2 ? -65504.0 : 0.25);
    check_eigen(matrix, DIM);
    free(matrix);
}

static double relative_error(const float *a, const float *b, size_t n)
{
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)a[i] - b[i], 2);
        square += pow(b[i], 2);
    }
    return error / square;
}

static double error_of(const char *spec, uint32_t dim, const float *rows)
{
    struct fixture f;
    float *out = malloc((size_t)N * dim * sizeof *out);
    open_codec(&f, spec, dim, KV_KEYS);
    fit_codec(&f, rows, N);
    round_trip(&f, rows, N, out);
    const double error = relative_error(out, rows, (size_t)N * dim);
    close_codec(&f);
    free(out);
    return error;
}

/* Full rank is a rotation: what is left is the rounding of basis and latents to halves. */
Test(low_rank, full_rank_is_the_identity)
{
    static const uint32_t widths[] = {5, 33, 64, 96};
    for (size_t w = 0; w < 4; w++) {
        char spec[64];
        float *rows = malloc((size_t)N * widths[w] * sizeof *rows);
        fill_normal(rows, (size_t)N * widths[w], 1);
        snprintf(spec, sizeof spec, "svd:rank=%u+f32", widths[w]);
        cr_expect_lt(error_of(spec, widths[w], rows), 2e-7);
        snprintf(spec, sizeof spec, "svd:rank=%u", widths[w]);
        cr_expect_lt(error_of(spec, widths[w], rows), 3e-7);
        free(rows);
    }
}

/* Rows of rank three are held by three columns; of a fourth direction its energy is lost. */
Test(low_rank, directions_of_the_prompt_are_found)
{
    enum { DIM = 40 };
    float *rows = malloc(N * DIM * sizeof *rows), direction[4][DIM], share[N * 4];
    fill_normal(&direction[0][0], 4 * DIM, 21);
    fill_normal(share, N * 4, 22);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < DIM; c++) {
            rows[i * DIM + c] = 0;
            for (int k = 0; k < 3; k++) rows[i * DIM + c] += share[i * 4 + k] * direction[k][c];
        }
    cr_expect_lt(error_of("svd:rank=3+f32", DIM, rows), 1e-6);
    cr_expect_gt(error_of("svd:rank=2+f32", DIM, rows), .05);
    free(rows);
}

/* A latent's width may be anything: odd ranks under every inner codec, error falling with bits. */
Test(low_rank, odd_ranks_under_inner_codecs)
{
    static const uint32_t ranks[] = {1, 3, 7, 33, 63};
    enum { DIM = 64 };
    float *rows = malloc(N * DIM * sizeof *rows);
    fill_normal(rows, N * DIM, 1);
    for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++) {
        char spec[96];
        double error[3];
        static const char *const inner[] = {"int:bits=8", "int:bits=4:group_size=32",
                                            "int:bits=2:group_size=5"};
        snprintf(spec, sizeof spec, "svd:rank=%u+f32", ranks[r]);
        const double floor = error_of(spec, DIM, rows);
        for (int i = 0; i < 3; i++) {
            snprintf(spec, sizeof spec, "svd:rank=%u+%s", ranks[r], inner[i]);
            error[i] = error_of(spec, DIM, rows);
        }
        cr_expect_float_eq(error[0], floor, 2e-3);
        cr_expect(error[2] >= error[0] - 1e-9 && error[2] < 1);
    }
    free(rows);
}

/* One loud channel ruins the grid of its group; spread out it costs little. A constant offset costs
 * nothing once the mean is taken off. */
Test(low_rank, turning_and_centering_help)
{
    enum { DIM = 64 };
    float *rows = malloc(N * DIM * sizeof *rows), *lifted = malloc(N * DIM * sizeof *lifted);
    fill_normal(rows, N * DIM, 1);
    for (int i = 0; i < N * DIM; i++) {
        lifted[i] = rows[i] + (i % DIM % 2 ? 30.0f : -50.0f);
        if (i % DIM == 5) rows[i] *= 25.0f;
    }
    cr_expect_lt(error_of("hadamard+int", DIM, rows), error_of("int", DIM, rows) / 2);
    cr_expect_float_eq(error_of("hadamard+int", DIM, rows),
                       error_of("int:rotate=hadamard", DIM, rows), 0);
    cr_expect_lt(error_of("center+int", DIM, lifted), error_of("int", DIM, lifted) / 50);
    cr_expect_float_eq(error_of("center+int", DIM, lifted),
                       error_of("int:center=mean", DIM, lifted), 0);
    free(rows);
    free(lifted);
}

/* H = [1 1; 1 -1] / sqrt 2 of each pair; 6 columns are three transforms of two. */
Test(low_rank, hadamard_by_hand)
{
    struct fixture f;
    const float row[] = {3, 1, 0, 2, -1, -1};
    float kept[6], out[6];
    uint8_t atom[24];
    open_codec(&f, "hadamard+f32", 6, KV_KEYS);
    f.code->type->encode(f.code, row, atom);
    memcpy(kept, atom, sizeof kept);
    const double r = sqrt(2);
    const double want[] = {4 / r, 2 / r, 2 / r, -2 / r, -2 / r, 0};
    for (int i = 0; i < 6; i++) cr_expect_float_eq(kept[i], want[i], 1e-6);
    f.code->type->decode(f.code, atom, 1, 0, 6, out);
    for (int i = 0; i < 6; i++) cr_expect_float_eq(out[i], row[i], 1e-6);
    close_codec(&f);
}

/* A query before the rotation, as a key met `lag` positions before it, written out. */
static void turn_query(const struct kv_geometry *geometry, const double *query, double lag,
                       double *met)
{
    const struct kv_rope *rope = &geometry->rope;
    const double factor = rope->scale * rope->scale;
    memcpy(met, query, geometry->key_dim * sizeof *met);
    for (uint32_t i = 0; i < rope->dims / 2; i++) {
        const bool half = rope->layout == KV_ROPE_HALF;
        const uint32_t x = half ? i : 2 * i, y = half ? i + rope->dims / 2 : 2 * i + 1;
        const double c = cos(lag * rope->inv_freq[i]), s = sin(lag * rope->inv_freq[i]);
        met[x] = factor * (query[x] * c - query[y] * s),
        met[y] = factor * (query[x] * s + query[y] * c);
    }
}

/* The closed form against every query at the lag of every pair, in windows too; gaps between
 * positions, a scale, a part that does not rotate. */
Test(low_rank, queries_at_all_lags)
{
    enum { DIM = 7, TOKENS = 9, FIRST = 2, SEEN = TOKENS - FIRST, QUERIES = 3 };
    static const double inv_freq[] = {1, 0.17};
    static const int32_t positions[TOKENS] = {1, 3, 4, 5, 9, 10, 11, 20, 21};
    for (int kind = 0; kind < 4; kind++) {
        const struct kv_geometry geometry = {
            .key_dim = DIM,
            .tokens = TOKENS,
            .window = kind / 2 ? 3 : 0,
            .positions = positions,
            .rope = {kind % 2 ? KV_ROPE_HALF : KV_ROPE_INTERLEAVED, 4, 1.3, inv_freq}};
        double squares[DIM * DIM] = {0}, want[DIM * DIM] = {0}, met[DIM], pairs = 0;
        struct kv_rng rng = kv_rng_stream(9, 1, 2, 3);
        for (int i = 0; i < SEEN; i++)
            for (int j = 0; j <= i; j++) pairs += !geometry.window || i - j < (int)geometry.window;
        for (int n = 0; n < QUERIES; n++) {
            double query[DIM];
            for (int c = 0; c < DIM; c++) query[c] = kv_rng_normal(&rng);
            for (int e = 0; e < DIM * DIM; e++) squares[e] += query[e / DIM] * query[e % DIM];
            for (int i = 0; i < SEEN; i++)
                for (int j = 0; j <= i; j++) {
                    if (geometry.window && i - j >= (int)geometry.window) continue;
                    turn_query(&geometry, query, positions[FIRST + i] - positions[FIRST + j], met);
                    for (int e = 0; e < DIM * DIM; e++)
                        want[e] += met[e / DIM] * met[e % DIM] / pairs;
                }
        }
        struct kv_pool *pool = kv_pool_create(0);
        cr_assert(kv_lags_average(squares, &geometry, FIRST, SEEN, pool));
        for (int e = 0; e < DIM * DIM; e++)
            cr_expect_float_eq(squares[e], want[e], 1e-12, "kind %d entry %d: %g, %g", kind, e,
                               squares[e], want[e]);
        kv_pool_destroy(pool);
    }
}
