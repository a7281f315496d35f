#include "methods/parts/eigen.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/sums.h"

/* sqrt(a^2 + b^2) without overflow; hypot of the C library differs between machines. */
static double length(double a, double b)
{
    const double x = fabs(a), y = fabs(b), large = x > y ? x : y, small = x > y ? y : x;
    if (large == 0) return 0;
    return large * sqrt(1.0 + (small / large) * (small / large));
}

/* Rows whose products with a vector are taken at once: the additions of one wait for each other. */
enum { TOGETHER = 4 };

/* out[k] = kv_dot(row k, x), in its order; n_rows <= TOGETHER rows, `stride` apart. */
static void dot_rows(const double *rows, size_t stride, uint32_t n_rows, const double *x, uint32_t n, double *out)
{
    double sums[TOGETHER][4] = {{0}};
    const double *row[TOGETHER];
    uint32_t i = 0;
    for (uint32_t k = 0; k < TOGETHER; k++) row[k] = rows + (k < n_rows ? k : 0) * stride;
    for (; i + 4 <= n; i += 4)
        for (uint32_t k = 0; k < TOGETHER; k++)
            for (uint32_t l = 0; l < 4; l++) sums[k][l] += row[k][i + l] * x[i + l];
    for (; i < n; i++)
        for (uint32_t k = 0; k < TOGETHER; k++) sums[k][0] += row[k][i] * x[i];
    for (uint32_t k = 0; k < n_rows; k++) out[k] = (sums[k][0] + sums[k][1]) + (sums[k][2] + sums[k][3]);
}

static uint32_t some_of(uint32_t left) { return left < TOGETHER ? left : TOGETHER; }

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

/* The reflection I - 2 u u^T of both sides of a symmetric a is a - u w^T - w u^T, with p = a u and u's partner
 * w = 2 (p - (u.p) u). Makes p, which is given in w, into it. */
static void make_partner(const double *u, double *w, uint32_t n)
{
    const double along = kv_dot(u, w, n);
    for (uint32_t r = 0; r < n; r++) w[r] = 2.0 * (w[r] - along * u[r]);
}

/* a's rows first .. first + n_rows - 1, n entries of each. */
static void reflect_rows(double *a, uint32_t stride, const double *u, const double *w, uint32_t first, uint32_t n_rows,
                         uint32_t n)
{
    for (uint32_t r = first; r < first + n_rows; r++) {
        double *row = a + (size_t)r * stride;
        const double less_w = -u[r], less_u = -w[r];
        for (uint32_t c = 0; c < n; c++) row[c] = row[c] + less_w * w[c] + less_u * u[c];
    }
}

/* matrix = Q T Q^T: T in diagonal[n] and below[1 .. n-1] (below[i] couples i - 1 and i). Row i keeps the
 * reflector u that cleared it in its first i entries. A reflection of the rows before i and their products
 * with the next reflector, which is made of the last of them, are one pass over the matrix. work: [2][n] */
static void reduce(double *matrix, uint32_t n, double *diagonal, double *below, double *work)
{
    double *w = work, *next = work + n;
    below[0] = 0;
    for (uint32_t i = n; i-- > 1;) {
        double *row = matrix + (size_t)i * n;
        if (i + 1 < n) reflect_rows(matrix, n, row + n, w, i, 1, i + 1);
        diagonal[i] = row[i];
        reflector(row, i, &below[i]);
        for (uint32_t r = 0; r < i; r += TOGETHER) {
            if (i + 1 < n) reflect_rows(matrix, n, row + n, w, r, some_of(i - r), i + 1);
            dot_rows(matrix + (size_t)r * n, n, some_of(i - r), row, i, next + r);
        }
        make_partner(row, next, i);
        double *swapped = w;
        w = next, next = swapped;
    }
    if (n > 1) reflect_rows(matrix, n, matrix + n, w, 0, 1, 1);
    diagonal[0] = matrix[0];
}

/* v - 2 (u.v) u for each of n_rows <= TOGETHER rows. */
static void reflect_vectors(double *vectors, size_t stride, uint32_t n_rows, const double *u, uint32_t n)
{
    double along[TOGETHER];
    dot_rows(vectors, stride, n_rows, u, n, along);
    for (uint32_t k = 0; k < n_rows; k++, vectors += stride) {
        const double factor = -2.0 * along[k];
        for (uint32_t c = 0; c < n; c++) vectors[c] += factor * u[c];
    }
}

/* Overwrites the reflectors by vectors [k][.] = column k of Q, that is Q^T: the QL steps then turn
 * pairs of rows, which lie together in memory. Q = H_{n-1} ... H_1: row k, at first that of the unit matrix,
 * meets the reflectors of the rows after it, which are still there. own: [TOGETHER][n] those of rows that
 * are on their way. */
static void gather_vectors(double *matrix, uint32_t n, double *own)
{
    for (uint32_t k = 0; k < n; k += TOGETHER) {
        const uint32_t some = some_of(n - k);
        double *vectors = matrix + (size_t)k * n;
        memcpy(own, vectors, (size_t)some * n * sizeof *own);
        memset(vectors, 0, (size_t)some * n * sizeof *vectors);
        for (uint32_t j = 0; j < some; j++) {
            if (j) reflect_vectors(vectors, n, j, own + (size_t)j * n, k + j);
            vectors[(size_t)j * n + k + j] = 1;
        }
        for (uint32_t i = k + some; i < n; i++) reflect_vectors(vectors, n, some, matrix + (size_t)i * n, i);
    }
}

/* Turns that the vectors have not met yet: they hang on no vector, and go over some columns of all rows at a
 * time, which stay in the cache, side by side: rows of a few columns as they lie would share its sets. */
enum { TURNS = 8192, COLUMNS = 32 };
struct turns {
    const struct kv_kernels *kernels;
    double *vectors, *columns; /* [n][n]; [n][COLUMNS] */
    uint32_t n, n_turns;
    struct kv_pair_turn turns[TURNS];
};

static void meet_turns(struct turns *t)
{
    for (uint32_t c = 0; c < t->n; c += COLUMNS) {
        const uint32_t some = t->n - c < COLUMNS ? t->n - c : COLUMNS;
        for (uint32_t r = 0; r < t->n; r++)
            memcpy(t->columns + (size_t)r * some, t->vectors + (size_t)r * t->n + c, some * sizeof(double));
        t->kernels->turn_rows(t->turns, t->n_turns, t->columns, some, some);
        for (uint32_t r = 0; r < t->n; r++)
            memcpy(t->vectors + (size_t)r * t->n + c, t->columns + (size_t)r * some, some * sizeof(double));
    }
    t->n_turns = 0;
}

static void add_turn(struct turns *t, uint32_t row, double cosine, double sine)
{
    if (t->n_turns == TURNS) meet_turns(t);
    t->turns[t->n_turns++] = (struct kv_pair_turn){cosine, sine, row};
}

/* One implicit QL sweep from m down to l; e[i] couples i and i + 1 here. */
static void sweep(double *d, double *e, struct turns *turns, uint32_t l, uint32_t m)
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
        add_turn(turns, i, cosine, sine);
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

static int diagonalise(double *d, double *e, struct turns *turns, struct kv_error *err)
{
    const uint32_t n = turns->n;
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
            sweep(d, e, turns, l, m);
        }
    meet_turns(turns);
    return KV_OK;
}

double kv_sign_of_largest(const double *vector, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[at])) at = i;
    return vector[at] < 0 ? -1.0 : 1.0;
}

static void swap(double *a, double *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double x = a[i];
        a[i] = b[i], b[i] = x;
    }
}

static void sort(double *values, double *vectors, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        uint32_t best = k;
        for (uint32_t j = k + 1; j < n; j++)
            if (values[j] > values[best]) best = j;
        const double value = values[k];
        values[k] = values[best], values[best] = value;
        if (best != k) swap(vectors + (size_t)k * n, vectors + (size_t)best * n, n);
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

int kv_eigen_symmetric(const struct kv_kernels *kernels, double *matrix, uint32_t n, double *values,
                       struct kv_error *err)
{
    if (is_solved(matrix, n)) {
        for (uint32_t r = 0; r < n; r++)
            values[r] = matrix[(size_t)r * (n + 1)], matrix[(size_t)r * (n + 1)] = 1.0;
        return KV_OK;
    }
    double *below = malloc((1 + TOGETHER + COLUMNS) * (size_t)n * sizeof *below), *work = below + n;
    struct turns *turns = malloc(sizeof *turns);
    int status = below && turns ? KV_OK : kv_fail(err, KV_EMEMORY, "eigenvectors: no memory for %u", n);
    if (status == KV_OK) {
        reduce(matrix, n, values, below, work);
        gather_vectors(matrix, n, work);
        turns->kernels = kernels, turns->vectors = matrix, turns->columns = work + TOGETHER * (size_t)n;
        turns->n = n, turns->n_turns = 0;
        status = diagonalise(values, below, turns, err);
    }
    free(turns);
    free(below);
    if (status == KV_OK) sort(values, matrix, n);
    return status;
}
