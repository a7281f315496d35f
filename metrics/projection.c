/* Outputs through W_o; see projection.h.
 *
 * 256 tokens x 576 x 576 are 85 million products a layer, by far the dearest measure. Thirty-two
 * tokens go side by side, one per vector lane, and rows of W_o share each load: no sum is
 * reassociated, so any machine gives the same numbers. Products of BLOCK columns are summed in
 * floats, at twice the speed of doubles, and those sums in doubles: each is wrong by at most
 * (BLOCK + 2) 2^-24 of the sum of |w x| (the differences are rounded to floats, too), and since
 * such errors have either sign, the squares of a layer add up to nine digits. CHUNK rows meet a
 * block of columns before the next block comes: 24 KiB of columns, weights and sums stay in L1.
 *
 * Vectors of four floats are a type that gcc and clang have everywhere and every 64-bit CPU has a
 * register for. Where AVX is there, the same products and sums go eight lanes at a time, and four
 * vectors share a weight: to spread one over a register takes a quarter of the time of their
 * products. AVX-512 has room for all lanes of four rows. */
#include "metrics/projection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"

enum { LANES = 32, ROWS = 4, BLOCK = 64, CHUNK = 32 };

_Static_assert(CHUNK % ROWS == 0, "whole sets of rows");

/* sums [ROWS][LANES] += rows of W_o, some of which may be the same, times columns [n][LANES],
 * n <= BLOCK. */
typedef void add_rows(const float *const rows[ROWS], const float *columns, size_t n, double *sums);

static inline void widen(double *sums, const void *lanes, int n)
{
    const float *terms = lanes;
    for (int lane = 0; lane < n; lane++) sums[lane] += (double)terms[lane];
}

typedef float quad __attribute__((vector_size(4 * sizeof(float))));
enum { QUADS = 16 }; /* lanes of four */
struct quads {
    quad a, b, c, d;
}; /* not an array: gcc 12 would keep it in memory */

static const struct quads no_quads;

#define ADD_PRODUCT(sum, column, weight)                                                           \
    ((sum).a += (column)->a * (weight), (sum).b += (column)->b * (weight),                         \
     (sum).c += (column)->c * (weight), (sum).d += (column)->d * (weight))

/* Eight vectors of sums fill half of the registers. */
static void add_two_rows(const float *row, const float *next, const float *columns, size_t n,
                         double *sums)
{
    struct quads first = no_quads, second = no_quads;
    for (size_t c = 0; c < n; c++) {
        const struct quads *column = (const struct quads *)(const void *)(columns + c * LANES);
        ADD_PRODUCT(first, column, row[c]);
        ADD_PRODUCT(second, column, next[c]);
    }
    widen(sums, &first, QUADS);
    widen(sums + LANES, &second, QUADS);
}

static void add_rows_plain(const float *const rows[ROWS], const float *columns, size_t n, double *sums)
{
    for (int r = 0; r < ROWS; r += 2)
        for (int lane = 0; lane < LANES; lane += QUADS)
            add_two_rows(rows[r], rows[r + 1], columns + lane, n, sums + r * LANES + lane);
}

#ifdef __x86_64__
typedef float octet __attribute__((vector_size(8 * sizeof(float))));
struct octets {
    octet a, b, c, d;
};

static const struct octets no_octets;

__attribute__((target("avx"))) static void add_two_rows_wide(const float *row, const float *next,
                                                             const struct octets *column, size_t n,
                                                             double *sums)
{
    struct octets first = no_octets, second = no_octets;
    for (size_t c = 0; c < n; c++, column++) {
        ADD_PRODUCT(first, column, row[c]);
        ADD_PRODUCT(second, column, next[c]);
    }
    widen(sums, &first, LANES);
    widen(sums + LANES, &second, LANES);
}

static void add_rows_wide(const float *const rows[ROWS], const float *columns, size_t n,
                          double *sums)
{
    const struct octets *lanes = (const struct octets *)(const void *)columns;
    for (int r = 0; r < ROWS; r += 2)
        add_two_rows_wide(rows[r], rows[r + 1], lanes, n, sums + r * LANES);
}

typedef float sixteen __attribute__((vector_size(16 * sizeof(float))));
struct sixteens {
    sixteen a, b;
};

static const struct sixteens no_sixteens;

#define ADD_PAIR(sum, column, weight)                                                              \
    ((sum).a += (column)->a * (weight), (sum).b += (column)->b * (weight))

__attribute__((target("avx512f"))) static void add_rows_widest(const float *const rows[ROWS],
                                                               const float *columns, size_t n,
                                                               double *sums)
{
    const struct sixteens *column = (const struct sixteens *)(const void *)columns;
    struct sixteens first = no_sixteens, second = no_sixteens, third = no_sixteens,
                    fourth = no_sixteens;
    for (size_t c = 0; c < n; c++, column++) {
        ADD_PAIR(first, column, rows[0][c]);
        ADD_PAIR(second, column, rows[1][c]);
        ADD_PAIR(third, column, rows[2][c]);
        ADD_PAIR(fourth, column, rows[3][c]);
    }
    widen(sums, &first, LANES);
    widen(sums + LANES, &second, LANES);
    widen(sums + 2 * LANES, &third, LANES);
    widen(sums + 3 * LANES, &fourth, LANES);
}
#endif

static add_rows *choose_add_rows(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) return add_rows_widest;
    if (__builtin_cpu_supports("avx")) return add_rows_wide;
#endif
    return add_rows_plain;
}

/* sums [n][LANES] of n <= CHUNK rows of W_o times the columns; room for CHUNK. */
static void project_rows(const float *w_o, uint32_t n, const float *columns, size_t width, add_rows *add,
                         double *sums)
{
    memset(sums, 0, CHUNK * LANES * sizeof *sums);
    for (size_t c = 0; c < width; c += BLOCK)
        for (uint32_t row = 0; row < n; row += ROWS) {
            const float *rows[ROWS];
            for (uint32_t r = 0; r < ROWS; r++) rows[r] = w_o + (row + r < n ? row + r : n - 1) * width + c;
            add(rows, columns + c * LANES, width - c < BLOCK ? width - c : BLOCK, sums + row * LANES);
        }
}

/* total [LANES] = squares of all rows of W_o times the columns. */
static void project_tokens(const struct kv_measured *in, const float *columns, size_t width,
                           double total[LANES])
{
    add_rows *const add = choose_add_rows();
    double sums[CHUNK * LANES];
    for (int lane = 0; lane < LANES; lane++) total[lane] = 0;
    for (uint32_t row = 0; row < in->hidden; row += CHUNK) {
        const uint32_t n = in->hidden - row < CHUNK ? in->hidden - row : CHUNK;
        project_rows(in->w_o + row * width, n, columns, width, add, sums);
        for (uint32_t r = 0; r < n; r++)
            for (int lane = 0; lane < LANES; lane++)
                total[lane] += sums[r * LANES + lane] * sums[r * LANES + lane];
    }
}

static size_t columns_of(const struct kv_measured *in)
{
    return (size_t)in->geometry->q_heads * in->geometry->value_dim;
}

/* Column (query head, channel) of tokens first .. first + LANES - 1, a token per lane; past the end
 * 0. */
static void gather_columns(const struct kv_measured *in, bool deltas, uint32_t first,
                           float *columns)
{
    const struct kv_geometry *g = in->geometry;
    for (uint32_t head = 0; head < g->q_heads; head++)
        for (uint32_t lane = 0; lane < LANES; lane++) {
            const size_t token = (size_t)(head / g->group) * in->n_scored + first + lane;
            const size_t at = (token * g->group + head % g->group) * g->value_dim;
            const bool there = first + lane < in->n_scored;
            for (uint32_t i = 0; i < g->value_dim; i++) {
                const float exact = there ? in->exact[at + i] : 0;
                const float delta = there && deltas ? in->answer[at + i] - exact : 0;
                columns[((size_t)head * g->value_dim + i) * LANES + lane] = deltas ? delta : exact;
            }
        }
}

static void project_block(const struct kv_measured *in, bool deltas, uint32_t first, float *columns,
                          double *squares)
{
    double total[LANES];
    gather_columns(in, deltas, first, columns);
    project_tokens(in, columns, columns_of(in), total);
    for (uint32_t lane = 0; lane < LANES && first + lane < in->n_scored; lane++)
        squares[first + lane] = total[lane];
}

/* Blocks of tokens are tasks: threads of the caller's that have nothing left to do take some. */
int kv_project_squares(const struct kv_measured *in, bool deltas, double *squares)
{
    const size_t width = columns_of(in);
    bool failed = false;
#pragma omp taskloop shared(failed)
    for (uint32_t first = 0; first < in->n_scored; first += LANES) {
        float *columns = aligned_alloc(LANES * sizeof *columns, width * LANES * sizeof *columns);
        if (columns)
            project_block(in, deltas, first, columns, squares);
        else {
#pragma omp atomic write
            failed = true;
        }
        free(columns);
    }
    return failed ? KV_EMEMORY : KV_OK;
}

double kv_projected_energy(const struct kv_measured *in)
{
    if (!in->w_o) return 0;
    double *squares = malloc((in->n_scored + 1) * sizeof *squares), sum = NAN;
    if (squares && kv_project_squares(in, false, squares) == KV_OK) {
        sum = 0;
        for (uint32_t t = 0; t < in->n_scored; t++) sum += squares[t];
    }
    free(squares);
    return sum;
}
