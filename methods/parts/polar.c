#include "methods/parts/polar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEPS = 40 };

static double dot(const double *a, const double *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void turn(double *a, double *b, double cosine, double sine, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double x = a[i], y = b[i];
        a[i] = cosine * x - sine * y;
        b[i] = sine * x + cosine * y;
    }
}

/* Makes two columns of `left` orthogonal, and turns those of `right` with them; whether it had to.
 */
static bool part(double *left, double *right, uint32_t p, uint32_t q, uint32_t n)
{
    double *a = left + (size_t)p * n, *b = left + (size_t)q * n;
    const double aa = dot(a, a, n), bb = dot(b, b, n), ab = dot(a, b, n);
    if (!(fabs(ab) > 1e-15 * sqrt(aa) * sqrt(bb))) return false;
    const double zeta = (bb - aa) / (2 * ab), root = sqrt(1 + zeta * zeta);
    const double tangent = 1 / (zeta + (zeta >= 0 ? root : -root));
    const double cosine = 1 / sqrt(1 + tangent * tangent), sine = cosine * tangent;
    turn(a, b, cosine, sine, n);
    turn(right + (size_t)p * n, right + (size_t)q * n, cosine, sine, n);
    return true;
}

/* Column k becomes a unit vector that is orthogonal to the n - 1 others that are done. */
static void fill_up(double *columns, const double *lengths, double floor, uint32_t k, uint32_t n)
{
    double *x = columns + (size_t)k * n;
    for (uint32_t unit = 0; unit < n; unit++) {
        memset(x, 0, n * sizeof *x);
        x[unit] = 1;
        for (int twice = 0; twice < 2; twice++)
            for (uint32_t j = 0; j < n; j++) {
                if (j == k || (j > k && !(lengths[j] > floor))) continue;
                const double *y = columns + (size_t)j * n, along = dot(x, y, n);
                for (uint32_t c = 0; c < n; c++) x[c] -= along * y[c];
            }
        const double length = sqrt(dot(x, x, n));
        if (!(length > 0.5 / sqrt((double)n))) continue;
        for (uint32_t c = 0; c < n; c++) x[c] /= length;
        return;
    }
}

/* left, right: columns of M V and of V, each [n][n] with column k in row k; lengths [n]. */
static void make_unit(double *left, double *lengths, uint32_t n)
{
    double largest = 0;
    for (uint32_t k = 0; k < n; k++) {
        lengths[k] = sqrt(dot(left + (size_t)k * n, left + (size_t)k * n, n));
        if (lengths[k] > largest) largest = lengths[k];
    }
    const double floor = 1e-12 * largest;
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t c = 0; c < n && lengths[k] > floor; c++)
            left[(size_t)k * n + c] /= lengths[k];
    for (uint32_t k = 0; k < n; k++)
        if (!(lengths[k] > floor)) fill_up(left, lengths, floor, k, n);
}

int kv_nearest_orthogonal(double *matrix, uint32_t n, struct kv_error *err)
{
    const size_t square = (size_t)n * n;
    double *left = calloc(2 * square + n, sizeof *left), *right = left + square;
    if (!left) return kv_fail(err, KV_EMEMORY, "polar factor: no memory for %u", n);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < n; c++) left[(size_t)c * n + r] = matrix[(size_t)r * n + c];
    for (uint32_t k = 0; k < n; k++) right[(size_t)k * n + k] = 1;
    bool moved = true;
    for (int sweep = 0; sweep < SWEEPS && moved; sweep++) {
        moved = false;
        for (uint32_t p = 0; p + 1 < n; p++)
            for (uint32_t q = p + 1; q < n; q++) moved |= part(left, right, p, q, n);
    }
    make_unit(left, right + square, n);
    memset(matrix, 0, square * sizeof *matrix);
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t c = 0; c < n; c++)
                matrix[(size_t)r * n + c] += left[(size_t)k * n + r] * right[(size_t)k * n + c];
    free(left);
    return KV_OK;
}
