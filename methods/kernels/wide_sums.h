/* Sums and turns in double precision. */
#ifndef KVBENCH_METHODS_KERNELS_WIDE_SUMS_H
#define KVBENCH_METHODS_KERNELS_WIDE_SUMS_H

#include "harness/base/sums.h"

/* The 8 partial sums of the contract are 8 / WIDE vectors. */
enum { EIGHT = 8 / WIDE };

ALWAYS_INLINE void add_eight(const float *x, const float *factors, wide sums[EIGHT])
{
    UNROLLED for (int k = 0; k < EIGHT; k++)
    {
        const wide v = wide_load_floats(x + k * WIDE);
        sums[k] = factors ? wide_fused(v, wide_load_floats(factors + k * WIDE), sums[k])
                          : wide_add(v, sums[k]);
    }
}

/* Adding 0 changes no sum: none is -0. */
ALWAYS_INLINE double sum_eights(const float *x, const float *factors, size_t n)
{
    wide sums[EIGHT];
    double s[8];
    UNROLLED for (int k = 0; k < EIGHT; k++) sums[k] = wide_spread(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) add_eight(x + i, factors ? factors + i : NULL, sums);
    if (i < n) {
        float rest[2][8] = {{0}};
        memcpy(rest[0], x + i, (n - i) * sizeof *x);
        if (factors) memcpy(rest[1], factors + i, (n - i) * sizeof *x);
        add_eight(rest[0], factors ? rest[1] : NULL, sums);
    }
    UNROLLED for (int k = 0; k < EIGHT; k++) wide_store(s + k * WIDE, sums[k]);
    return kv_sum_of_eight(s);
}

static double KERNEL(sum_wide)(const float *x, const float *factors, size_t n)
{
    return factors ? sum_eights(x, factors, n) : sum_eights(x, NULL, n);
}

static void KERNEL(add_errors)(const float *x, const float *exact, size_t n, double errors[8], double squares[8])
{
    wide error[EIGHT], square[EIGHT];
    UNROLLED for (int k = 0; k < EIGHT; k++)
    {
        error[k] = wide_load(errors + k * WIDE);
        square[k] = wide_load(squares + k * WIDE);
    }
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        UNROLLED for (int k = 0; k < EIGHT; k++)
        {
            const wide wanted = wide_load_floats(exact + i + k * WIDE);
            const wide off = wide_sub(wide_load_floats(x + i + k * WIDE), wanted);
            error[k] = wide_add(error[k], wide_mul(off, off));
            square[k] = wide_fused(wanted, wanted, square[k]);   /* the product is exact */
        }
    UNROLLED for (int k = 0; k < EIGHT; k++)
    {
        wide_store(errors + k * WIDE, error[k]);
        wide_store(squares + k * WIDE, square[k]);
    }
    for (; i < n; i++) {
        const double wanted = (double)exact[i], off = (double)x[i] - wanted;
        errors[i % 8] += off * off, squares[i % 8] += wanted * wanted;
    }
}

enum { PRODUCT_ROWS = 4, PRODUCT_VECS = WIDE == 4 ? 2 : 4 };   /* sums that registers have room for */

ALWAYS_INLINE void add_product_block(const double *x, const double *y, uint32_t n, bool exact, double *sums,
                                     size_t stride)
{
    wide sum[PRODUCT_ROWS][PRODUCT_VECS];
    UNROLLED for (int r = 0; r < PRODUCT_ROWS; r++)
        UNROLLED for (int v = 0; v < PRODUCT_VECS; v++) sum[r][v] = wide_load(sums + (size_t)r * stride + v * WIDE);
    for (uint32_t i = 0; i < n; i++, x += KV_PRODUCT_LINE, y += KV_PRODUCT_LINE)
        UNROLLED for (int r = 0; r < PRODUCT_ROWS; r++)
            UNROLLED for (int v = 0; v < PRODUCT_VECS; v++)
            {
                const wide a = wide_spread(x[r]), b = wide_load(y + v * WIDE);
                sum[r][v] = exact ? wide_fused(a, b, sum[r][v]) : wide_add(sum[r][v], wide_mul(a, b));
            }
    UNROLLED for (int r = 0; r < PRODUCT_ROWS; r++)
        UNROLLED for (int v = 0; v < PRODUCT_VECS; v++) wide_store(sums + (size_t)r * stride + v * WIDE, sum[r][v]);
}

static void KERNEL(add_products)(const double *x, const double *y, uint32_t n, bool exact_products, double *sums,
                                 size_t stride)
{
    enum { COLUMNS = PRODUCT_VECS * WIDE };
    for (uint32_t r = 0; r < KV_PRODUCT_LINE; r += PRODUCT_ROWS)
        for (uint32_t c = 0; c < KV_PRODUCT_LINE; c += COLUMNS) {
            double *at = sums + r * stride + c;
            if (exact_products) add_product_block(x + r, y + c, n, true, at, stride);
            else add_product_block(x + r, y + c, n, false, at, stride);
        }
}

static void KERNEL(turn_rows)(const struct kv_pair_turn *turns, uint32_t n_turns, double *rows, size_t apart, size_t n)
{
    for (uint32_t t = 0; t < n_turns; t++) {
        double *a = rows + turns[t].row * apart, *b = a + apart;
        const double cosine = turns[t].cosine, sine = turns[t].sine;
        size_t i = 0;
        for (; i + WIDE <= n; i += WIDE) {
            const wide x = wide_load(a + i), y = wide_load(b + i), c = wide_spread(cosine), s = wide_spread(sine);
            wide_store(a + i, wide_sub(wide_mul(c, x), wide_mul(s, y)));
            wide_store(b + i, wide_add(wide_mul(s, x), wide_mul(c, y)));
        }
        for (; i < n; i++) {
            const double x = a[i], y = b[i];
            a[i] = cosine * x - sine * y;
            b[i] = sine * x + cosine * y;
        }
    }
}

#endif
