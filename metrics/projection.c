/* Outputs through W_o; see projection.h.
 *
 * 256 tokens x 576 x 576 are 85 million products a layer, by far the dearest measure. Eight
 * tokens go side by side, one per vector lane, and two rows of W_o share each load: no sum is
 * reassociated, so any machine gives the same doubles. Pairs of doubles are a vector type that
 * gcc and clang have everywhere and every 64-bit CPU has a register for; wider ones gain nothing
 * that a run would notice. */
#include "metrics/projection.h"

#include <math.h>
#include <stdlib.h>

#include "harness/base/status.h"

typedef double pair __attribute__((vector_size(2 * sizeof(double))));
enum { LANES = 8 };
struct lanes { pair a, b, c, d; };   /* not an array: gcc 12 would keep it in memory */

static inline void add_product(struct lanes *sum, const struct lanes *column, double weight)
{
    sum->a += column->a * weight;
    sum->b += column->b * weight;
    sum->c += column->c * weight;
    sum->d += column->d * weight;
}

static inline void add_square(struct lanes *total, const struct lanes *sum)
{
    total->a += sum->a * sum->a;
    total->b += sum->b * sum->b;
    total->c += sum->c * sum->c;
    total->d += sum->d * sum->d;
}

static const struct lanes zeros;

/* total += squares of two rows of W_o times the columns; eight sums at a time fill the
 * registers. */
static void add_two_rows(const float *w_o, const struct lanes *columns, size_t width,
                         struct lanes *total)
{
    struct lanes first = zeros, second = zeros;
    for (size_t c = 0; c < width; c++) {
        add_product(&first, columns + c, w_o[c]);
        add_product(&second, columns + c, w_o[width + c]);
    }
    add_square(total, &first);
    add_square(total, &second);
}

static void project_tokens(const struct kv_measured *in, const struct lanes *columns, size_t width,
                           struct lanes *total)
{
    uint32_t row = 0;
    for (; row + 2 <= in->hidden; row += 2)
        add_two_rows(in->w_o + row * width, columns, width, total);
    for (; row < in->hidden; row++) {
        struct lanes sum = zeros;
        for (size_t c = 0; c < width; c++) add_product(&sum, columns + c, in->w_o[row * width + c]);
        add_square(total, &sum);
    }
}

static double *lane_of(struct lanes *lanes, uint32_t lane) { return (double *)lanes + lane; }

/* Column (query head, channel) of tokens first .. first + 7, a token per lane; past the end 0. */
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
                const double exact = there ? in->exact[at + i] : 0;
                const double delta = there && deltas ? in->answer[at + i] - exact : 0;
                *lane_of(columns + head * g->value_dim + i, lane) = deltas ? delta : exact;
            }
        }
}

int kv_project_squares(const struct kv_measured *in, bool deltas, double *squares)
{
    const size_t width = (size_t)in->geometry->q_heads * in->geometry->value_dim;
    struct lanes *columns = aligned_alloc(sizeof *columns, width * sizeof *columns);
    if (!columns) return KV_EMEMORY;
    for (uint32_t first = 0; first < in->n_scored; first += LANES) {
        struct lanes total = zeros;
        gather_columns(in, deltas, first, columns);
        project_tokens(in, columns, width, &total);
        for (uint32_t lane = 0; lane < LANES && first + lane < in->n_scored; lane++)
            squares[first + lane] = *lane_of(&total, lane);
    }
    free(columns);
    return KV_OK;
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
