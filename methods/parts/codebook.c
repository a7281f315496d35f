#include "methods/parts/codebook.h"

#include <math.h>

enum { POINTS = 4, PANELS_PER_UNIT = 8, MAX_ITERATIONS = 60 };

/* Gauss-Legendre, 8 points: positive half. */
static const double nodes[POINTS] = {0.1834346424956498, 0.5255324099163290, 0.7966664774136267,
                                     0.9602898564975363};
static const double weights[POINTS] = {0.3626837833783620, 0.3137066458778873, 0.2223810344533745,
                                       0.1012285362903763};

/* Everything is in units of 1 / sqrt(d): z = x sqrt(d), so that a coordinate has variance 1. */
static double density(double z, uint32_t d)
{
    const double base = z * z < d ? 1.0 - z * z / d : 0.0;
    double power = (d - 3) % 2 ? sqrt(base) : 1.0, square = base;
    for (uint32_t k = (d - 3) / 2; k; k /= 2, square *= square)
        if (k & 1) power *= square;
    return power;
}

/* A tail weighs nothing beyond 12 standard deviations. */
static double far_end(double from, uint32_t d)
{
    return fmin(sqrt(d), from + 12.0);
}

struct moments {
    double mass, first, second;
};

static struct moments integrate(double a, double b, uint32_t d)
{
    struct moments sum = {0};
    const int panels = 1 + (int)((b - a) * PANELS_PER_UNIT);
    const double half = (b - a) / panels / 2.0;
    for (int p = 0; p < panels; p++)
        for (int i = 0; i < 2 * POINTS; i++) {
            const double node = i < POINTS ? nodes[i] : -nodes[i - POINTS];
            const double z = a + (2 * p + 1) * half + node * half;
            const double weight = weights[i % POINTS] * half * density(z, d);
            sum.mass += weight, sum.first += weight * z, sum.second += weight * z * z;
        }
    return sum;
}

/* How far centroid c of cell [a, b] is from the cell's mean, and how that mean moves with the ends.
 */
struct residual {
    double off, by_a, by_b;
};

static struct residual measure(double a, double b, double c, uint32_t d)
{
    const struct moments cell = integrate(a, b, d);
    const double mean = cell.first / cell.mass;
    return (struct residual){.off = c - mean,
                             .by_a = density(a, d) * (mean - a) / cell.mass,
                             .by_b = density(b, d) * (b - mean) / cell.mass};
}

/* One Newton step on the positive half c[0 .. n-1] (tridiagonal, Thomas); returns the largest move.
 */
static double newton(double *c, uint32_t n, uint32_t d)
{
    double above[1 << KV_CODEBOOK_BITS], right[1 << KV_CODEBOOK_BITS], move = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double a = i ? (c[i - 1] + c[i]) / 2 : 0.0;
        const double b = i + 1 < n ? (c[i] + c[i + 1]) / 2 : far_end(a, d);
        const struct residual r = measure(a, b, c[i], d);
        const double by_a = i ? r.by_a / 2 : 0.0, by_b = i + 1 < n ? r.by_b / 2 : 0.0;
        const double pivot = 1.0 - by_a - by_b + by_a * (i ? above[i - 1] : 0.0);
        above[i] = -by_b / pivot;
        right[i] = (r.off + by_a * (i ? right[i - 1] : 0.0)) / pivot;
    }
    for (uint32_t i = n; i--;) {
        if (i + 1 < n) right[i] -= above[i] * right[i + 1];
        move = fmax(move, fabs(right[i]));
    }
    for (uint32_t i = 0; i < n; i++) c[i] -= right[i];
    return move;
}

/* Cells of equal share of the integral of f^(1/3) are nearly optimal (Panter and Dite); f^(1/3) of
 * this family is the density of a wider one, and a coarse sum is enough for Newton to start from.
 */
static void first_guess(double *c, uint32_t n, uint32_t d)
{
    const double end = far_end(0.0, d), step = end / 4096;
    double total = 0, sum = 0;
    for (int i = 0; i < 4096; i++) total += density((i + 0.5) * step / sqrt(3.0), d);
    uint32_t found = 0;
    for (int i = 0; i < 4096 && found < n; i++) {
        sum += density((i + 0.5) * step / sqrt(3.0), d);
        while (found < n && sum >= total * (2 * found + 1) / (2 * n)) c[found++] = (i + 0.5) * step;
    }
}

/* Should Newton ever leave the order of a table, Lloyd's own step brings it nearer, always. */
static void lloyd(double *c, uint32_t n, uint32_t d)
{
    double a = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double b = i + 1 < n ? (c[i] + c[i + 1]) / 2 : far_end(a, d);
        const struct moments cell = integrate(a, b, d);
        c[i] = cell.first / cell.mass;
        a = b;
    }
}

static int is_table(const double *c, uint32_t n, uint32_t d)
{
    for (uint32_t i = 0; i < n; i++)
        if (!(c[i] > (i ? c[i - 1] : 0.0)) || !(c[i] < sqrt(d))) return 0;
    return 1;
}

static void solve(double *c, uint32_t n, uint32_t d)
{
    double before[1 << KV_CODEBOOK_BITS];
    first_guess(c, n, d);
    for (int k = 0; k < 4; k++) lloyd(c, n, d);
    for (int k = 0; k < MAX_ITERATIONS; k++) {
        for (uint32_t i = 0; i < n; i++) before[i] = c[i];
        const double move = newton(c, n, d);
        if (!is_table(c, n, d)) {
            for (uint32_t i = 0; i < n; i++) c[i] = before[i];
            lloyd(c, n, d);
        } else if (move < 1e-13) {
            return;
        }
    }
}

void kv_codebook_fill(struct kv_codebook *book, uint32_t d, uint32_t bits)
{
    double half[1 << KV_CODEBOOK_BITS];
    const uint32_t n = 1u << bits;
    if (d < 3) d = 3;
    book->n = n;
    solve(half, n / 2, d);
    for (uint32_t i = 0; i < n / 2; i++) {
        book->centroids[n / 2 + i] = half[i];
        book->centroids[n / 2 - 1 - i] = -half[i];
    }
    for (uint32_t i = 0; i + 1 < n; i++)
        book->thresholds[i] = (book->centroids[i] + book->centroids[i + 1]) / 2;
}

double kv_codebook_error(const struct kv_codebook *book, uint32_t d)
{
    double error = 0, mass = 0, a = 0;
    if (d < 3) d = 3;
    for (uint32_t i = book->n / 2; i < book->n; i++) {
        const double c = book->centroids[i];
        const double b = i + 1 < book->n ? book->thresholds[i] : far_end(a, d);
        const struct moments cell = integrate(a, b, d);
        error += cell.second - 2 * c * cell.first + c * c * cell.mass;
        mass += cell.mass;
        a = b;
    }
    return error / mass;
}
