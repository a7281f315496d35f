/* Sums by values in strips (methods/kernels/strips.h) are, to the bit, those by rows, in every set that runs here. */
#include <criterion/criterion.h>

#include <string.h>

#include "harness/base/rng.h"
#include "harness/base/status.h"
#include "methods/kernels/strips.h"

enum { ROWS = 37, LINES = 70, STRIDE = 72, MOST = 144 };

struct sums {
    float weights[ROWS * STRIDE], factors[ROWS], values[LINES * MOST], strips[LINES * MOST];
    float by_rows[ROWS * MOST], by_strips[ROWS * MOST];
};

static void fill(float *x, size_t n, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    for (size_t i = 0; i < n; i++) x[i] = (float)kv_rng_normal(&rng);
}

static void expect_same(const struct kv_kernels *kernels, uint32_t dim, uint32_t first, uint32_t n)
{
    static struct sums s;
    fill(s.weights, ROWS * STRIDE, 1), fill(s.values, LINES * MOST, 2), fill(s.by_rows, ROWS * MOST, 3);
    memcpy(s.by_strips, s.by_rows, sizeof s.by_rows);
    for (uint32_t r = 0; r < ROWS; r++) s.factors[r] = 1 / (float)(1 + r);
    const struct kv_strips strips = kv_strips_of(kernels, ROWS, s.values, LINES, dim, s.strips);
    cr_assert_eq(strips.at, s.strips);
    kv_strips_sum(kernels, s.weights, ROWS, STRIDE, &strips, first, n, s.factors, s.by_strips);
    kernels->accumulate(s.weights, ROWS, STRIDE, s.values + (size_t)first * dim, n, dim, s.factors, s.by_rows, dim);
    cr_expect_arr_eq(s.by_strips, s.by_rows, sizeof s.by_rows, "%s: dim %u, lines %u + %u", kernels->isa, dim, first,
                     n);
}

Test(strips, sums_are_those_by_rows)
{
    static const char *const isas[] = {"generic", "avx2", "avx512", "neon"};
    static const uint32_t dims[] = {1, 15, 16, 17, 34, 64, 100, 128, MOST};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        struct kv_kernels kernels;
        struct kv_error err;
        if (kv_kernels_fill(&kernels, isas[i], &err) != KV_OK) continue;
        if (!kernels.strip) kernels.strip = 16; /* laid so, even where nothing is gained */
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            expect_same(&kernels, dims[d], 0, LINES);
            expect_same(&kernels, dims[d], 32, 33);
        }
    }
}

Test(strips, lie_one_after_the_other)
{
    struct kv_kernels kernels = {.strip = 2};
    const float values[2][5] = {{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}};
    const float expected[] = {1, 2, 6, 7, 3, 4, 8, 9, 5, 10};
    float strips[10];
    cr_expect_eq(kv_strips_of(&kernels, 96, values[0], 2, 5, strips).at, strips);
    cr_expect_arr_eq(strips, expected, sizeof expected);
    const struct kv_strips few = kv_strips_of(&kernels, 24, values[0], 2, 5, strips);
    cr_expect_eq(few.at, values[0], "few rows meet values as they are");
    cr_expect_eq(few.width, 5);
}
