#include "methods/parts/eigen.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/sums.h"

void kv_add_squares(double *matrix, const float *rows, size_t n, size_t stride, uint32_t dim)
{
    for (size_t i = 0; i < n; i++, rows += stride)
        for (uint32_t r = 0; r < dim; r++)
            for (uint32_t c = 0; c < dim; c++)
                matrix[(size_t)r * dim + c] += (double)rows[r] * rows[c];
}

/* sqrt(a^2 + b^2) without overflow; hypot of the C library differs between machines. */
static double length(double a, double b)
{
    const double x = fabs(a), y = fabs(b), large = x > y ? x : y, small = x > y ? y : x;
    if (large == 0) return 0;
    return large * sqrt(1.0 + (small / large) * (small / large));
}

static void add(double *out, const double *x, double factor, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) out[i] += factor * x[i];
}

/* Makes v (n entries) the unit vector u of the reflection I - 2 u u^T that sends v to *image
 * e_last; all zero, no reflection, when v is zero. */
static void reflector(double *v, uint32_t n, double *image)
{
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) largest = fmax(largest, fabs(v[i]));
    *image = 0;
    if (largest == 0) return;
    for (uint32_t i = 0; i < n; i++) v[i] /= largest;
    const double size = sqrt(kv_dot(v, v, n)), sign = v[n - 1] > 0 ? -1.0 : 1.0;
    *image = sign * size * largest;
    v[n - 1] -= sign * size;
    const double inverse = 1.0 / sqrt(kv_dot(v, v, n));
    for (uint32_t i = 0; i < n; i++) v[i] *= inverse;
}

/* a (leading n x n block, rows `stride` apart) becomes (I - 2uu^T) a (I - 2uu^T):
 * a - u w^T - w u^T with p = a u, w = 2 (p - (u.p) u). */
static void reflect_both(double *a, uint32_t stride, const double *u, uint32_t n, double *w)
{
    for (uint32_t r = 0; r < n; r++) w[r] = kv_dot(a + (size_t)r * stride, u, n);
    const double along = kv_dot(u, w, n);
    for (uint32_t r = 0; r < n; r++) w[r] = 2.0 * (w[r] - along * u[r]);
    for (uint32_t r = 0; r < n; r++) {
        add(a + (size_t)r * stride, w, -u[r], n);
        add(a + (size_t)r * stride, u, -w[r], n);
    }
}

/* matrix = Q T Q^T: T in diagonal[n] and below[1 .. n-1] (below[i] couples i - 1 and i). Row i
 * keeps the reflector that cleared it in its first i entries. */
static void reduce(double *matrix, uint32_t n, double *diagonal, double *below, double *work)
{
    below[0] = 0;
    for (uint32_t i = n; i-- > 1;) {
        double *row = matrix + (size_t)i * n;
        diagonal[i] = row[i];
        reflector(row, i, &below[i]);
        reflect_both(matrix, n, row, i, work);
    }
    diagonal[0] = matrix[0];
}

/* Overwrites the reflectors by vectors [k][.] = column k of Q, that is Q^T: the QL steps then turn
 * pairs of rows, which lie together in memory. Q = H_{n-1} ... H_1, built from the smallest. */
static void gather_vectors(double *matrix, uint32_t n, double *u)
{
    matrix[0] = 1;
    for (uint32_t i = 1; i < n; i++) {
        double *row = matrix + (size_t)i * n;
        memcpy(u, row, i * sizeof *u);
        memset(row, 0, i * sizeof *row);
        row[i] = 1;
        for (uint32_t k = 0; k < i; k++) {
            double *vector = matrix + (size_t)k * n;
            add(vector, u, -2.0 * kv_dot(vector, u, i), i);
            vector[i] = 0;
        }
    }
}

static void turn(double *a, double *b, double cosine, double sine, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double x = a[i], y = b[i];
        a[i] = cosine * x - sine * y;
        b[i] = sine * x + cosine * y;
    }
}

/* One implicit QL sweep from m down to l; e[i] couples i and i + 1 here. */
static void sweep(double *d, double *e, double *vectors, uint32_t n, uint32_t l, uint32_t m)
{
    const double g0 = (d[l + 1] - d[l]) / (2 * e[l]), r0 = length(g0, 1);
    double g = d[m] - d[l] + e[l] / (g0 + (g0 >= 0 ? r0 : -r0));
    double sine = 1, cosine = 1, p = 0;
    for (uint32_t i = m; i-- > l;) {
        const double f = sine * e[i], b = cosine * e[i], r = length(f, g);
        e[i + 1] = r;
        if (r == 0) { /* a coupling vanished on the way: finish what was begun */
            d[i + 1] -= p, e[m] = 0;
            return;
        }
        sine = f / r, cosine = g / r;
        g = d[i + 1] - p;
        const double h = (d[i] - g) * sine + 2 * cosine * b;
        p = sine * h;
        d[i + 1] = g + p;
        g = cosine * h - b;
        turn(vectors + (size_t)i * n, vectors + (size_t)(i + 1) * n, cosine, sine, n);
    }
    d[l] -= p, e[l] = g, e[m] = 0;
}

/* Couplings that the matrix cannot tell from rounding. Beside tiny diagonals (directions that the
 * rows hardly have) no coupling is small against its neighbours, and the sweeps would not end. */
static double negligible(const double *d, const double *e, uint32_t n)
{
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) largest = fmax(largest, fabs(d[i]) + fabs(e[i]));
    return 0x1p-53 * largest;
}

static int diagonalise(double *d, double *e, double *vectors, uint32_t n, struct kv_error *err)
{
    for (uint32_t i = 1; i < n; i++) e[i - 1] = e[i];
    e[n - 1] = 0;
    const double noise = negligible(d, e, n);
    for (uint32_t l = 0; l < n; l++)
        for (int tries = 0;; tries++) {
            uint32_t m = l;
            while (m + 1 < n && fabs(e[m]) > fmax(noise, 0x1p-53 * (fabs(d[m]) + fabs(d[m + 1]))))
                m++;
            if (m == l) break;
            if (tries == 100) return kv_fail(err, KV_ECELL, "eigenvectors: no convergence");
            sweep(d, e, vectors, n, l, m);
        }
    return KV_OK;
}

double kv_sign_of_largest(const double *vector, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[at])) at = i;
    return vector[at] < 0 ? -1.0 : 1.0;
}

static void sort(double *values, double *vectors, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        uint32_t best = k;
        for (uint32_t j = k + 1; j < n; j++)
            if (values[j] > values[best]) best = j;
        const double value = values[k];
        values[k] = values[best], values[best] = value;
        if (best != k) turn(vectors + (size_t)k * n, vectors + (size_t)best * n, 0.0, 1.0, n);
        const double sign = kv_sign_of_largest(vectors + (size_t)k * n, n);
        for (uint32_t i = 0; i < n; i++) vectors[(size_t)k * n + i] *= sign;
    }
}

/* Rows of the unit matrix, times positive numbers that descend: nothing is to be done but to divide. */
static bool is_solved(const double *matrix, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < n; c++)
            if (r != c && matrix[(size_t)r * n + c] != 0.0) return false;
    for (uint32_t r = 0; r < n; r++)
        if (!(matrix[(size_t)r * n + r] > (r + 1 < n ? matrix[(size_t)(r + 1) * (n + 1)] : 0.0)))
            return false;
    return true;
}

int kv_eigen_symmetric(double *matrix, uint32_t n, double *values, struct kv_error *err)
{
    if (is_solved(matrix, n)) {
        for (uint32_t r = 0; r < n; r++)
            values[r] = matrix[(size_t)r * (n + 1)], matrix[(size_t)r * (n + 1)] = 1.0;
        return KV_OK;
    }
    double *below = malloc(2 * (size_t)n * sizeof *below), *work = below + n;
    if (!below) return kv_fail(err, KV_EMEMORY, "eigenvectors: no memory for %u", n);
    reduce(matrix, n, values, below, work);
    gather_vectors(matrix, n, work);
    const int status = diagonalise(values, below, matrix, n, err);
    free(below);
    if (status == KV_OK) sort(values, matrix, n);
    return status;
}
