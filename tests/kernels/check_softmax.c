/* Checks of softmaxes that move from columns to columns, alone and beside another. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tests/kernels/checkkern.h"

enum { SOFT_ROWS = 37, SOFT_COLUMNS = 256, SOFT_STRIDE = SOFT_COLUMNS + 5 };

/* Where a shift moves to from `old`, by a row's largest logit. */
static float moved(const struct kv_kernels *set, float old, float here)
{
    const float slack = strcmp(set->isa, "generic") ? KV_SOFT_SLACK : 0;
    return here > old + slack ? here : old;
}

/* One row of `after` and its softmax, beside the entries that say what they are. unit: a power of two. */
static const char *judge_softened(const struct kv_kernels *set, const float *before, const float *after,
                                  size_t n, float old, float unit, const float state[3])
{
    const float largest = moved(set, old, set->max(before, n) * unit);
    if (state[0] != largest) return complain("largest %.9g, not %.9g", (double)state[0], (double)largest);
    const double factor = old > -INFINITY ? exp((double)(old - largest)) : 0;
    if (fabs((double)state[1] - factor) > 4 * FLT_EPSILON * factor + 0x1p-60)
        return complain("factor %.9g, not %.9g", (double)state[1], factor);
    if (old == largest && state[1] != 1.0f) return complain("a row that stays shrinks");
    float expected[SOFT_COLUMNS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) expected[i] = largest > -INFINITY ? before[i] * unit : 0;
    if (largest > -INFINITY) sum = set->exp_sum(expected, n, 1.0f, largest);
    if (state[2] != sum) return complain("sum %.9g, not %.9g", (double)state[2], (double)sum);
    return memcmp(expected, after, n * sizeof *after) ? complain("not the weights of exp_sum") : NULL;
}

/* Rows of logits and their softmaxes before an entry, and after it. */
struct soft_rows {
    struct guarded x, largest, factors, added;
    struct kv_softmax softmax;
    float before[SOFT_ROWS * SOFT_STRIDE], olds[SOFT_ROWS];
};

static void soft_make(struct soft_rows *made, enum input_kind kind, uint32_t rows, uint32_t n, uint32_t seed)
{
    static const float olds[] = {-INFINITY, -3.5f, 0.0f, 4.25f, 70000.0f};
    made->x = guarded_make(4 * ((rows - 1) * (size_t)SOFT_STRIDE + n), 0);
    made->largest = guarded_make(4 * rows, 0), made->factors = guarded_make(4 * rows, 4);
    made->added = guarded_make(4 * rows, 0);
    made->softmax = (struct kv_softmax){floats_of(&made->largest), floats_of(&made->factors), floats_of(&made->added),
                                        n / 16 % 2 ? 1.0f : 0.5f};
    fill_floats(floats_of(&made->x), made->x.bytes / 4, kind, rows + n + seed);
    memcpy(made->before, made->x.data, made->x.bytes);
    for (uint32_t r = 0; r < rows; r++) made->softmax.largest[r] = made->olds[r] = olds[(r + n / 16 + seed) % 5];
}

static bool soft_intact(const struct soft_rows *made)
{
    return guarded_intact(&made->x) && guarded_intact(&made->largest) && guarded_intact(&made->factors) &&
           guarded_intact(&made->added);
}

static void soft_free(struct soft_rows *made)
{
    guarded_free(&made->x), guarded_free(&made->largest), guarded_free(&made->factors), guarded_free(&made->added);
}

static const char *check_soften_once(const struct kv_kernels *set, enum input_kind kind,
                                     uint32_t rows, uint32_t n)
{
    static struct soft_rows x;
    soft_make(&x, kind, rows, n, 0);
    const float *logits = floats_of(&x.x);
    set->soften(floats_of(&x.x), rows, SOFT_STRIDE, n, &x.softmax);
    const char *why = soft_intact(&x) ? NULL : complain("wrote outside");
    for (uint32_t r = 0; r < rows && !why; r++) {
        const size_t at = (size_t)r * SOFT_STRIDE;
        const float state[3] = {x.softmax.largest[r], x.softmax.factors[r], x.softmax.added[r]};
        why = judge_softened(set, x.before + at, logits + at, n, x.olds[r], x.softmax.unit, state);
        if (!why && r + 1 < rows && memcmp(x.before + at + n, logits + at + n, 4 * (SOFT_STRIDE - n)))
            why = complain("wrote between rows");
    }
    soft_free(&x);
    return why;
}

/* Weights and sums are, to the bit, those of the set's own exp_sum. */
const char *check_soften(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < ALL_KINDS && !why; kind++)
        for (uint32_t rows = 1; rows <= SOFT_ROWS && !why; rows += rows < 5 ? 1 : 4)
            for (uint32_t n = 16; n <= SOFT_COLUMNS && !why; n += 16)
                if (is_due()) why = check_soften_once(set, (enum input_kind)kind, rows, n);
    return why;
}

/* Whether a sum of n terms is what was expected, which may be no number. */
static bool near_sum(float sum, double expected, double magnitude, size_t n)
{
    if (!isfinite(expected) || fabs(expected) > FLT_MAX) return !isfinite(sum);
    return fabs((double)sum - expected) <= (double)n * FLT_EPSILON * magnitude + 0x1p-100;
}

/* Sums that compare row r of both: x's weights lie in x now, y's would in `others`. */
static const char *judge_compared(const float *weights, const float *others, const float *x, const float *y,
                                  size_t n, const struct kv_beside *beside, uint32_t r)
{
    double shift = 0, size = 0, marked[2] = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const double gap = (double)(x[i] - y[i]) * (double)beside->softmax.unit;
        if (weights[i] > 0) shift += (double)weights[i] * gap, size += (double)weights[i] * fabs(gap);
        for (int k = 0; k < 2 && beside->marked; k++)
            marked[k] += (double)(k ? others : weights)[i] * (double)beside->marked[i];
    }
    if (!near_sum(beside->shifts[r], shift, size, n))
        return complain("shift %.9g, not %.9g", (double)beside->shifts[r], shift);
    for (int k = 0; k < 2 && beside->marked; k++)
        if (!near_sum(beside->marked_sums[k][r], marked[k], marked[k], n))
            return complain("marked sum %.9g, not %.9g", (double)beside->marked_sums[k][r], marked[k]);
    return NULL;
}

static const char *judge_beside(const struct kv_kernels *set, const struct soft_rows *x, const struct soft_rows *y,
                                uint32_t r, uint32_t n, const struct kv_beside *beside)
{
    const size_t at = (size_t)r * SOFT_STRIDE;
    const float states[2][3] = {{x->softmax.largest[r], x->softmax.factors[r], x->softmax.added[r]},
                                {y->softmax.largest[r], y->softmax.factors[r], y->softmax.added[r]}};
    const float *weights = floats_of(&x->x) + at;
    const float unit = x->softmax.unit;
    const char *why = judge_softened(set, x->before + at, weights, n, x->olds[r], unit, states[0]);
    float others[SOFT_COLUMNS] = {0};
    if (states[1][0] > -INFINITY) {
        for (uint32_t i = 0; i < n; i++) others[i] = y->before[at + i] * unit;
        set->exp_sum(others, n, 1.0f, states[1][0]);
    }
    if (!why) why = judge_softened(set, y->before + at, others, n, y->olds[r], unit, states[1]);
    return why ? why : judge_compared(weights, others, x->before + at, y->before + at, n, beside, r);
}

/* variant & 1: columns are marked; & 2: the rows beside are x themselves. */
static const char *check_beside_once(const struct kv_kernels *set, enum input_kind kind, uint32_t rows, uint32_t n,
                                     uint32_t variant)
{
    static struct soft_rows x, y;
    float marked[SOFT_COLUMNS], shifts[SOFT_ROWS], sums[2][SOFT_ROWS];
    soft_make(&x, kind, rows, n, 0);
    soft_make(&y, kind, rows, n, variant & 2 ? 0 : 7);
    for (uint32_t i = 0; i < n; i++) marked[i] = rows % 2 || i / 3 % 2 ? 1.0f : 0.0f;   /* all, or some */
    const struct kv_beside beside = {.logits = floats_of(variant & 2 ? &x.x : &y.x), .stride = SOFT_STRIDE,
                                     .softmax = y.softmax, .marked = variant & 1 ? marked : NULL,
                                     .shifts = shifts, .marked_sums = {sums[0], sums[1]}};
    set->soften_beside(floats_of(&x.x), rows, SOFT_STRIDE, n, &x.softmax, &beside);
    const char *why = soft_intact(&x) && soft_intact(&y) ? NULL : complain("wrote outside");
    if (!why && memcmp(y.before, y.x.data, y.x.bytes)) why = complain("rows beside changed");
    for (uint32_t r = 0; r < rows && !why; r++) why = judge_beside(set, &x, &y, r, n, &beside);
    soft_free(&x), soft_free(&y);
    return why;
}

/* Softmaxes are, to the bit, those of soften. */
const char *check_soften_beside(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < ALL_KINDS && !why; kind++)
        for (uint32_t rows = 1; rows <= SOFT_ROWS && !why; rows += rows < 5 ? 1 : 8)
            for (uint32_t i = 0; i < 4 * SOFT_COLUMNS / 16 && !why; i++)
                if (is_due()) why = check_beside_once(set, (enum input_kind)kind, rows, 16 * (i / 4 + 1), i % 4);
    return why;
}
