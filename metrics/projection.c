/* Outputs through W_o; see projection.h.
 *
 * 256 tokens x 576 x 576 are 85 million products a layer, by far the dearest measure. Eight tokens go
 * side by side, one per vector lane, and a few rows of W_o share each load: no sum is reassociated, so
 * any lane count gives the same doubles. Vector types and per-function targets are compiler extensions
 * that are otherwise kept to methods/kernels; here they save 0.2 s a run and change no bit. */
#include "metrics/projection.h"

#include <math.h>
#include <stdlib.h>

#include "harness/base/status.h"

enum { LANES = 8 };
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

/* total += squares of `rows` (constant where inlined) consecutive rows of W_o times columns. */
static inline __attribute__((always_inline)) void
add_squares(const float *w_o, uint32_t rows, const lanes *columns, uint32_t width, lanes *total)
{
    lanes sum[LANES] = {{0}};
    for (uint32_t c = 0; c < width; c++)
        for (uint32_t row = 0; row < rows; row++)
            sum[row] += columns[c] * (double)w_o[(size_t)row * width + c];
    for (uint32_t row = 0; row < rows; row++) *total += sum[row] * sum[row];
}

static inline __attribute__((always_inline)) void
project_block(const struct kv_measured *in, uint32_t rows, const lanes *columns, uint32_t width,
              lanes *total)
{
    uint32_t row = 0;
    for (; row + rows <= in->hidden; row += rows)
        add_squares(in->w_o + (size_t)row * width, rows, columns, width, total);
    for (; row < in->hidden; row++)
        add_squares(in->w_o + (size_t)row * width, 1, columns, width, total);
}

/* Rows at a time: as many accumulators of 8 doubles as the registers hold. */
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void
project_avx512(const struct kv_measured *in, const lanes *columns, uint32_t width, lanes *total)
{
    project_block(in, 8, columns, width, total);
}

__attribute__((target("avx2"))) static void
project_avx2(const struct kv_measured *in, const lanes *columns, uint32_t width, lanes *total)
{
    project_block(in, 4, columns, width, total);
}
#endif

static void project_plain(const struct kv_measured *in, const lanes *columns, uint32_t width,
                          lanes *total)
{
    project_block(in, 2, columns, width, total);
}

typedef void project(const struct kv_measured *, const lanes *, uint32_t, lanes *);

static project *fastest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return project_avx512;
    if (__builtin_cpu_supports("avx2")) return project_avx2;
#endif
    return project_plain;
}

/* Column (query head, channel) of tokens first .. first + 7, a token per lane; past the end 0. */
static void gather_columns(const struct kv_measured *in, bool deltas, uint32_t first, lanes *columns)
{
    const struct kv_geometry *g = in->geometry;
    for (uint32_t head = 0; head < g->q_heads; head++)
        for (uint32_t lane = 0; lane < LANES; lane++) {
            const size_t token = (size_t)(head / g->group) * in->n_scored + first + lane;
            const size_t at = (token * g->group + head % g->group) * g->value_dim;
            const bool there = first + lane < in->n_scored;
            for (uint32_t i = 0; i < g->value_dim; i++) {
                const double exact = there ? in->exact[at + i] : 0;
                const double delta = there ? in->answer[at + i] - exact : 0;
                columns[head * g->value_dim + i][lane] = deltas ? delta : exact;
            }
        }
}

int kv_project_squares(const struct kv_measured *in, bool deltas, double *squares)
{
    const uint32_t width = in->geometry->q_heads * in->geometry->value_dim;
    lanes *columns = aligned_alloc(sizeof *columns, width * sizeof *columns);
    if (!columns) return KV_EMEMORY;
    project *const project_tokens = fastest();
    for (uint32_t first = 0; first < in->n_scored; first += LANES) {
        lanes total = {0};
        gather_columns(in, deltas, first, columns);
        project_tokens(in, columns, width, &total);
        for (uint32_t lane = 0; lane < LANES && first + lane < in->n_scored; lane++)
            squares[first + lane] = total[lane];
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
