/* Outputs through W_o; see projection.h.
 *
 * 256 tokens x 576 x 576 are 85 million products a layer, by far the dearest measure. Sixteen
 * tokens go side by side, one per vector lane, and two rows of W_o share each load: no sum is
 * reassociated, so any machine gives the same numbers. Products of BLOCK columns are summed in
 * floats, at twice the speed of doubles, and those sums in doubles: each is wrong by at most
 * (BLOCK + 2) 2^-24 of the sum of |w x| (the differences are rounded to floats, too), and since
 * such errors have either sign, the squares of a layer add up to nine digits. Vectors of four
 * floats are a type that gcc and clang have everywhere and every 64-bit CPU has a register for. */
#include "metrics/projection.h"

#include <math.h>
#include <stdlib.h>

#include "harness/base/status.h"

typedef float quad __attribute__((vector_size(4 * sizeof(float))));
enum { LANES = 16, ROWS = 2, BLOCK = 64 };
struct lanes {
    quad a, b, c, d;
}; /* not an array: gcc 12 would keep it in memory */

static const struct lanes zeros;

static inline void add_product(struct lanes *sum, const struct lanes *column, float weight)
{
    sum->a += column->a * weight;
    sum->b += column->b * weight;
    sum->c += column->c * weight;
    sum->d += column->d * weight;
}

static void widen(double sums[LANES], const struct lanes *lanes)
{
    const float *terms = (const float *)lanes;
    for (int lane = 0; lane < LANES; lane++) sums[lane] += (double)terms[lane];
}

/* sums [ROWS][LANES] += two rows of W_o, which may be the same, times n <= BLOCK columns; eight
 * vectors of sums fill half of the registers. */
static void add_two_rows(const float *row, const float *next, const struct lanes *columns, size_t n,
                         double sums[ROWS][LANES])
{
    struct lanes first = zeros, second = zeros;
    for (size_t c = 0; c < n; c++) {
        add_product(&first, columns + c, row[c]);
        add_product(&second, columns + c, next[c]);
    }
    widen(sums[0], &first);
    widen(sums[1], &second);
}

/* total [LANES] = squares of all rows of W_o times the columns. */
static void project_tokens(const struct kv_measured *in, const struct lanes *columns, size_t width,
                           double total[LANES])
{
    for (int lane = 0; lane < LANES; lane++) total[lane] = 0;
    for (uint32_t row = 0; row < in->hidden; row += ROWS) {
        const uint32_t rows = in->hidden - row < ROWS ? 1 : ROWS;
        const float *w_o = in->w_o + row * width, *next = w_o + (rows - 1) * width;
        double sums[ROWS][LANES] = {{0}};
        for (size_t c = 0; c < width; c += BLOCK)
            add_two_rows(w_o + c, next + c, columns + c, width - c < BLOCK ? width - c : BLOCK,
                         sums);
        for (uint32_t r = 0; r < rows; r++)
            for (int lane = 0; lane < LANES; lane++) total[lane] += sums[r][lane] * sums[r][lane];
    }
}

static size_t columns_of(const struct kv_measured *in)
{
    return (size_t)in->geometry->q_heads * in->geometry->value_dim;
}

static float *lane_of(struct lanes *lanes, uint32_t lane)
{
    return (float *)lanes + lane;
}

/* Column (query head, channel) of tokens first .. first + LANES - 1, a token per lane; past the end
 * 0. */
static void gather_columns(const struct kv_measured *in, bool deltas, uint32_t first,
                           struct lanes *columns)
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
                *lane_of(columns + head * g->value_dim + i, lane) = deltas ? delta : exact;
            }
        }
}

static void project_block(const struct kv_measured *in, bool deltas, uint32_t first,
                          struct lanes *columns, double *squares)
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
        struct lanes *columns = aligned_alloc(sizeof *columns, width * sizeof *columns);
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
