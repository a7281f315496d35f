/* The attention sweep against the definition: scalar, double, one row at a time, no tiles. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/rng.h"
#include "harness/base/status.h"
#include "methods/sweep/sweep.h"

struct scene {
    struct kv_kernels kernels;
    struct kv_geometry geometry;
    uint32_t lines, rows, spans;
    float *keys, *values, *exact, *queries, *sinks;   /* exact [tokens][key_dim]: recorded keys */
    uint32_t *position, *from, *until, *token;
    uint8_t *coded;
    uint32_t ranges[2][2];
    struct kv_tensor tensor;
    struct kv_compare compare;
    struct kv_sweep sweep;
    float *exact_lse;
};

static void copy_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    const struct scene *scene = source;
    const size_t key_dim = scene->geometry.key_dim, value_dim = scene->geometry.value_dim;
    memcpy(keys, scene->keys + first * key_dim, n * key_dim * sizeof *keys);
    if (values) memcpy(values, scene->values + first * value_dim, n * value_dim * sizeof *values);
}

static float *normals(size_t n, uint32_t seed)
{
    float *x = malloc(n * sizeof *x);
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    for (size_t i = 0; i < n; i++) x[i] = (float)kv_rng_normal(&rng);
    return x;
}

/* Lines = recorded rows, in order, open from their token on; every token scored. */
static struct scene *make_scene(const char *isa, uint32_t tokens, uint32_t group, uint32_t key_dim,
                                uint32_t value_dim)
{
    struct scene *s = calloc(1, sizeof *s);
    struct kv_error err;
    cr_assert_eq(kv_kernels_fill(&s->kernels, isa, &err), KV_OK, "%s", err.text);
    s->geometry = (struct kv_geometry){.group = group, .kv_heads = 1, .q_heads = group,
                                       .key_dim = key_dim, .value_dim = value_dim,
                                       .tokens = tokens, .scale = 0.17};
    s->lines = tokens;
    s->rows = tokens * group;
    s->keys = normals((size_t)tokens * key_dim, 1);
    s->exact = normals((size_t)tokens * key_dim, 1);
    s->values = normals((size_t)tokens * value_dim, 2);
    s->queries = normals((size_t)s->rows * key_dim, 3);
    s->sinks = normals(s->rows, 4);
    s->position = malloc(tokens * sizeof(uint32_t));
    s->from = malloc(tokens * sizeof(uint32_t));
    s->until = malloc(tokens * sizeof(uint32_t));
    s->token = malloc(s->rows * sizeof(uint32_t));
    s->coded = calloc(tokens, 1);
    for (uint32_t j = 0; j < tokens; j++) {
        s->position[j] = s->from[j] = j;
        s->until[j] = UINT32_MAX;
    }
    for (uint32_t r = 0; r < s->rows; r++) s->token[r] = r / group;
    s->tensor = (struct kv_tensor){KV_F32, 1, tokens, key_dim, key_dim, s->exact};
    s->exact_lse = malloc(s->rows * sizeof(float));
    s->sweep = (struct kv_sweep){
        .kernels = &s->kernels, .geometry = &s->geometry,
        .lines = {s->lines, s->position, s->from, s->until, s->coded, copy_lines, s},
        .rows = {s->rows, s->queries, s->token, NULL},
        .answers = {malloc((size_t)s->rows * value_dim * sizeof(float)),
                    malloc(s->rows * sizeof(float))}};
    return s;
}

/* The strongest set that multiplies floats alone: bits of a row are the same in any company. */
static const char *floats_alone(void)
{
    const char *name = "generic";
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++) {
        struct kv_kernels kernels;
        struct kv_error err;
        const bool runs = kv_kernels_fill(&kernels, isa->name, &err) == KV_OK;
        if (runs && !kernels.ready_cell) name = isa->name;
    }
    return name;
}

static void free_scene(struct scene *s)
{
    const struct kv_compare *compare = &s->compare;
    void *const blocks[] = {s->keys, s->exact, s->values, s->queries, s->sinks, s->position,
                            s->from, s->until, s->token, s->coded, s->exact_lse,
                            s->sweep.answers.outputs, s->sweep.answers.log_sum_exp,
                            compare->divergence, compare->held_mass, compare->drift,
                            compare->span_mass};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    free(s);
}

static void run(struct scene *s)
{
    /* Scratch of exactly the stated size: the sanitizer sees anything beyond. */
    float *scratch = malloc(kv_sweep_scratch(&s->sweep) * sizeof *scratch);
    kv_sweep_run(&s->sweep, scratch);
    free(scratch);
}

/* -- the definition -------------------------------------------------------------------------- */

static double logit(const struct scene *s, uint32_t row, const float *key)
{
    const uint32_t dim = s->geometry.key_dim;
    double sum = 0;
    for (uint32_t c = 0; c < dim; c++)
        sum += (double)s->queries[(size_t)row * dim + c] * (double)key[c];
    sum *= s->geometry.scale;
    return s->geometry.softcap > 0 ? s->geometry.softcap * tanh(sum / s->geometry.softcap) : sum;
}

static int sees(const struct scene *s, uint32_t row, uint32_t line)
{
    const uint32_t t = s->token[row], position = s->position[line], window = s->geometry.window;
    return s->from[line] <= t && t < s->until[line] && position <= t &&
           (!window || position + window > t);
}

static double sink_of(const struct scene *s, uint32_t row)
{
    return s->sweep.rows.sink_logit ? (double)s->sweep.rows.sink_logit[row] : -INFINITY;
}

/* Weights [lines] of a row (0 where not visible), from the lines' keys; returns log-sum-exp. */
static double weigh(const struct scene *s, uint32_t row, double *weights)
{
    double sum = exp(sink_of(s, row));
    for (uint32_t j = 0; j < s->lines; j++) {
        weights[j] = 0;
        if (!sees(s, row, j)) continue;
        weights[j] = exp(logit(s, row, s->keys + (size_t)j * s->geometry.key_dim));
        sum += weights[j];
    }
    for (uint32_t j = 0; j < s->lines; j++) weights[j] = sum > 0 ? weights[j] / sum : 0;
    return log(sum);
}

/* log-sum-exp of exact attention: recorded keys of every position in the causal window. */
static double exact_log_sum_exp(const struct scene *s, uint32_t row)
{
    const uint32_t t = s->token[row], window = s->geometry.window;
    double sum = exp(sink_of(s, row));
    for (uint32_t p = window && window <= t ? t - window + 1 : 0; p <= t; p++)
        sum += exp(logit(s, row, s->exact + (size_t)p * s->geometry.key_dim));
    return log(sum);
}

/* fmax would do, but the aarch64 gcc 12 crashes on its reductions. */
static double larger(double a, double b) { return b <= a ? a : b; }

static double largest_norm(const float *x, size_t rows, uint32_t dim)
{
    double largest = 0;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (uint32_t c = 0; c < dim; c++) sum += (double)x[r * dim + c] * (double)x[r * dim + c];
        largest = sum > largest ? sum : largest;
    }
    return sqrt(largest);
}

static double bound_of(const struct scene *s)
{
    const uint32_t key_dim = s->geometry.key_dim, value_dim = s->geometry.value_dim;
    double value_max = 0;
    for (size_t i = 0; i < (size_t)s->lines * value_dim; i++)
        value_max = larger(value_max, fabs((double)s->values[i]));
    return kv_sweep_bound(&s->geometry, s->lines, largest_norm(s->queries, s->rows, key_dim),
                          largest_norm(s->keys, s->lines, key_dim), value_max);
}

/* Worst |output - definition|; log-sum-exp is held to the same bound per unit of value. */
static double check_answers(const struct scene *s)
{
    const uint32_t dim = s->geometry.value_dim;
    const double bound = bound_of(s);
    double *weights = malloc(s->lines * sizeof *weights), worst = 0;
    for (uint32_t r = 0; r < s->rows; r++) {
        const double lse = weigh(s, r, weights), answered = (double)s->sweep.answers.log_sum_exp[r];
        if (isinf(lse)) cr_assert(isinf(answered) && answered < 0, "row %u: %g", r, answered);
        else cr_assert_float_eq(answered, lse, bound, "row %u: %.9g, not %.9g", r, answered, lse);
        for (uint32_t c = 0; c < dim; c++) {
            double sum = 0;
            for (uint32_t j = 0; j < s->lines; j++)
                sum += weights[j] * (double)s->values[(size_t)j * dim + c];
            worst = larger(worst,
                         fabs(sum - (double)s->sweep.answers.outputs[(size_t)r * dim + c]));
        }
    }
    free(weights);
    cr_assert_leq(worst, bound);
    return worst;
}

static void run_and_check(struct scene *s)
{
    run(s);
    check_answers(s);
    free_scene(s);
}

/* -- answers --------------------------------------------------------------------------------- */

Test(sweep, causal_answers_match_the_definition_in_generic)
{
    run_and_check(make_scene("generic", 330, 2, 64, 64));
}

Test(sweep, causal_answers_match_the_definition_in_the_best_set)
{
    run_and_check(make_scene("auto", 700, 3, 64, 64));
}

Test(sweep, the_bound_is_real_but_not_absurd)
{
    struct scene *s = make_scene("auto", 600, 1, 128, 128);
    run(s);
    const double worst = check_answers(s);
    cr_expect_lt(bound_of(s), 1e4 * worst, "bound %g, worst %g", bound_of(s), worst);
    free_scene(s);
}

Test(sweep, odd_and_unequal_dims)
{
    run_and_check(make_scene("auto", 150, 3, 80, 96));
    run_and_check(make_scene("auto", 90, 1, 96, 80));
    run_and_check(make_scene("auto", 70, 1, 33, 17));
    run_and_check(make_scene("generic", 70, 1, 33, 17));
}

Test(sweep, one_token_and_many_rows)
{
    run_and_check(make_scene("auto", 1, 1, 64, 64));
    run_and_check(make_scene("auto", 2, 131, 64, 64));
}

Test(sweep, a_window_hides_older_positions)
{
    struct scene *s = make_scene("auto", 620, 1, 64, 64);
    s->geometry.window = 37;
    run_and_check(s);
}

Test(sweep, softcap_bends_logits)
{
    struct scene *s = make_scene("auto", 300, 2, 64, 64);
    s->geometry.softcap = 1.5;
    run_and_check(s);
}

Test(sweep, sink_logits_enter_the_denominator)
{
    struct scene *s = make_scene("auto", 300, 2, 64, 64);
    s->sweep.rows.sink_logit = s->sinks;
    for (uint32_t r = 0; r < s->rows; r += 5) s->sinks[r] = 30;   /* a sink above every logit */
    run_and_check(s);
}

Test(sweep, lines_open_and_close_in_any_order)
{
    struct scene *s = make_scene("auto", 600, 2, 64, 64);
    struct kv_rng rng = kv_rng_stream(9, 0, 0, 0);
    for (uint32_t j = 0; j < s->lines; j++) {
        s->position[j] = (j * 7) % 600;
        s->from[j] = s->position[j] + kv_rng_below(&rng, 50);
        s->until[j] = s->from[j] + kv_rng_below(&rng, 300);
    }
    run_and_check(s);
}

Test(sweep, a_row_that_sees_nothing_answers_zero)
{
    struct scene *s = make_scene("auto", 20, 2, 64, 64);
    for (uint32_t j = 0; j < s->lines; j++) s->from[j] = 12;
    s->sweep.rows.sink_logit = s->sinks;
    for (uint32_t r = 0; r < s->rows; r++) s->sinks[r] = r % 2 ? 0.625f : -INFINITY;
    run(s);
    cr_expect(s->sweep.answers.log_sum_exp[4] == -INFINITY);
    cr_expect_eq(s->sweep.answers.log_sum_exp[5], 0.625f);
    for (uint32_t c = 0; c < 64; c++) cr_expect_eq(s->sweep.answers.outputs[4 * 64 + c], 0.0f);
    check_answers(s);
    free_scene(s);
}

Test(sweep, large_logits_stay_finite)
{
    struct scene *s = make_scene("auto", 300, 1, 64, 64);
    for (size_t i = 0; i < 300 * 64; i++) s->keys[i] *= 100;
    run(s);
    for (size_t i = 0; i < 300 * 64; i++) cr_assert(isfinite(s->sweep.answers.outputs[i]));
    check_answers(s);
    free_scene(s);
}

/* Answers to rows first .. first + n - 1 given alone have the bits that they have among all. */
static void check_company(const struct scene *s, uint32_t first, uint32_t n)
{
    const size_t dims[2] = {s->geometry.key_dim, s->geometry.value_dim};
    float *outputs = malloc(n * dims[1] * sizeof *outputs), *lse = malloc(n * sizeof *lse);
    struct kv_sweep some = s->sweep;
    some.rows = (struct kv_rows){n, s->queries + first * dims[0], s->token + first, NULL};
    some.answers = (struct kv_answers){outputs, lse};
    float *scratch = malloc(kv_sweep_scratch(&some) * sizeof *scratch);
    kv_sweep_run(&some, scratch);
    cr_assert_arr_eq(outputs, s->sweep.answers.outputs + first * dims[1], n * dims[1] * sizeof *outputs);
    cr_assert_arr_eq(lse, s->sweep.answers.log_sum_exp + first, n * sizeof *lse);
    free(scratch);
    free(outputs);
    free(lse);
}

/* Blocks and chunks leave no trace. */
Test(sweep, a_row_does_not_depend_on_its_neighbours)
{
    struct scene *s = make_scene(floats_alone(), 700, 2, 64, 80);
    run(s);
    for (uint32_t r = 0; r < s->rows; r += 41) check_company(s, r, 1);
    free_scene(s);
}

/* A set may multiply few rows and many in different formats; from 32 on they are many. */
Test(sweep, many_rows_do_not_depend_on_their_neighbours)
{
    struct scene *s = make_scene("auto", 700, 2, 64, 80);
    run(s);
    for (uint32_t r = 0; r + 107 < s->rows; r += 41) check_company(s, r, 32 + r % 75);
    free_scene(s);
}

/* More rows than one chunk of states holds (4096). */
Test(sweep, many_chunks_of_rows)
{
    run_and_check(make_scene("auto", 270, 31, 16, 8));
}

/* -- weights --------------------------------------------------------------------------------- */

Test(sweep, weights_and_their_column_sums)
{
    struct scene *s = make_scene("auto", 310, 2, 64, 64);
    s->sweep.rows.sink_logit = s->sinks;
    for (uint32_t j = 0; j < s->lines; j += 9) s->until[j] = 200;
    run(s);
    double *sums = calloc(s->lines, sizeof *sums), *expected = calloc(s->lines, sizeof *expected);
    double *row = malloc(s->lines * sizeof *row);
    float *weights = malloc((size_t)s->rows * s->lines * sizeof *weights);
    float *scratch = malloc(kv_sweep_scratch(&s->sweep) * sizeof *scratch);
    kv_sweep_weights(&s->sweep, sums, weights, scratch);
    for (uint32_t r = 0; r < s->rows; r++) {
        weigh(s, r, row);
        for (uint32_t j = 0; j < s->lines; j++) {
            expected[j] += row[j];
            cr_assert_float_eq((double)weights[(size_t)r * s->lines + j], row[j], 4e-6);
        }
    }
    for (uint32_t j = 0; j < s->lines; j++) cr_assert_float_eq(sums[j], expected[j], 1e-5);
    free(sums);
    free(expected);
    free(row);
    free(weights);
    free(scratch);
    free_scene(s);
}

/* Kept logits spare a product and change no bit. */
Test(sweep, weights_of_kept_logits)
{
    struct scene *s = make_scene("auto", 530, 2, 64, 64);
    double *sums[2];
    s->geometry.softcap = 4;
    for (int kept = 0; kept < 2; kept++) {
        const uint32_t stride = kv_kept_stride(s->lines);
        s->sweep.kept = (struct kv_kept){calloc(s->rows, stride * sizeof(float)), kept ? s->rows : 0, stride, 0};
        sums[kept] = calloc(s->lines, sizeof(double));
        float *scratch = malloc(kv_sweep_scratch(&s->sweep) * sizeof *scratch);
        kv_sweep_run(&s->sweep, scratch);
        kv_sweep_weights(&s->sweep, sums[kept], NULL, scratch);
        free(scratch);
        free(s->sweep.kept.logits);
    }
    cr_assert_arr_eq(sums[0], sums[1], s->lines * sizeof(double));
    free(sums[0]);
    free(sums[1]);
    free_scene(s);
}

/* Kept as weights they spare an exponential, too, and are a rounding more away. */
static void check_kept_weights(const char *isa)
{
    struct scene *s = make_scene(isa, 530, 2, 64, 64);
    s->sweep.rows.sink_logit = s->sinks;
    for (uint32_t j = 0; j < s->lines; j += 9) s->until[j] = 400;
    for (size_t i = 0; i < (size_t)s->rows * 64; i++) s->queries[i] *= 1 + (float)(i / 64 % 7); /* shifts move on */
    float *outputs = s->sweep.answers.outputs, *weights[2];
    double *sums[2];
    s->sweep.answers.outputs = NULL;
    const uint32_t stride = kv_kept_stride(s->lines);
    const size_t shifts = (size_t)kv_kept_tiles(s->lines) * s->rows, all = (size_t)s->rows * s->lines;
    for (int kept = 0; kept < 2; kept++) {
        s->sweep.kept = (struct kv_kept){malloc(s->rows * stride * sizeof(float)), kept ? s->rows : 0, stride, 0,
                                         kept ? malloc(shifts * sizeof(float)) : NULL};
        sums[kept] = calloc(s->lines, sizeof(double));
        weights[kept] = malloc(all * sizeof(float));
        float *scratch = malloc(kv_sweep_scratch(&s->sweep) * sizeof *scratch);
        kv_sweep_run(&s->sweep, scratch);
        kv_sweep_weights(&s->sweep, sums[kept], weights[kept], scratch);
        free(scratch);
        free(s->sweep.kept.logits);
        free(s->sweep.kept.shifts);
    }
    for (size_t i = 0; i < all; i++)
        cr_assert_float_eq(weights[0][i], weights[1][i], 6e-6 * (double)weights[0][i] + 1e-17, "%g %g", /* arguments: 42 */
                           (double)weights[0][i], (double)weights[1][i]);
    for (uint32_t j = 0; j < s->lines; j++) cr_assert_float_eq(sums[0][j], sums[1][j], 4e-6 * sums[0][j]);
    for (int kept = 0; kept < 2; kept++) free(sums[kept]), free(weights[kept]);
    s->sweep.answers.outputs = outputs;
    free_scene(s);
}

Test(sweep, kept_weights)
{
    check_kept_weights("generic");
    check_kept_weights(floats_alone());
    check_kept_weights("auto");
}

/* -- comparison ------------------------------------------------------------------------------ */

static void make_comparison(struct scene *s)
{
    s->ranges[0][0] = 10;
    s->ranges[0][1] = 25;
    s->ranges[1][0] = 250;
    s->ranges[1][1] = 300;
    s->compare = (struct kv_compare){
        &s->tensor, 0, s->exact_lse, {2, (const uint32_t(*)[2])s->ranges},
        malloc(s->rows * sizeof(float)), malloc(s->rows * sizeof(float)),
        malloc(s->rows * sizeof(float)), malloc(2 * (size_t)s->rows * sizeof(float))};
    s->sweep.compare = &s->compare;
    for (uint32_t r = 0; r < s->rows; r++) s->exact_lse[r] = (float)exact_log_sum_exp(s, r);
}

static void check_row_comparison(const struct scene *s, uint32_t r, double *weights)
{
    const double lse = weigh(s, r, weights), exact = exact_log_sum_exp(s, r);
    const size_t dim = s->geometry.key_dim;
    double divergence = exact - lse, held = 0, drift = 0, mass[2] = {0};
    for (uint32_t j = 0; j < s->lines; j++) {
        if (!sees(s, r, j)) continue;
        const double before = logit(s, r, s->exact + s->position[j] * dim);
        divergence += weights[j] * (logit(s, r, s->keys + j * dim) - before);
        held += exp(before - exact);
        if (s->coded[j]) drift += weights[j] - exp(before - exact);
        for (int k = 0; k < 2; k++)
            if (s->position[j] >= s->ranges[k][0] && s->position[j] < s->ranges[k][1])
                mass[k] += weights[j];
    }
    cr_assert_float_eq((double)s->compare.divergence[r], divergence, 5e-6, "row %u: %g, not %g", r,
                       (double)s->compare.divergence[r], divergence);
    cr_assert_float_eq((double)s->compare.held_mass[r], held, 5e-6, "row %u", r);
    cr_assert_float_eq((double)s->compare.drift[r], drift, 5e-6, "row %u", r);
    for (int k = 0; k < 2; k++)
        cr_assert_float_eq((double)s->compare.span_mass[2 * r + (uint32_t)k], mass[k], 5e-6);
}

static void check_comparison(struct scene *s)
{
    double *weights = malloc(s->lines * sizeof *weights);
    make_comparison(s);
    run(s);
    check_answers(s);
    for (uint32_t r = 0; r < s->rows; r++) check_row_comparison(s, r, weights);
    free(weights);
    free_scene(s);
}

static void disturb_keys(struct scene *s, float size)
{
    struct kv_rng rng = kv_rng_stream(11, 0, 0, 0);
    for (size_t i = 0; i < (size_t)s->lines * s->geometry.key_dim; i++)
        s->keys[i] += size * (float)kv_rng_normal(&rng);
    for (uint32_t j = 0; j < s->lines; j++) s->coded[j] = j % 4 != 0;
}

Test(sweep, comparison_of_disturbed_keys)
{
    struct scene *s = make_scene("auto", 400, 2, 64, 64);
    disturb_keys(s, 0.3f);
    check_comparison(s);
}

Test(sweep, comparison_with_eviction_window_cap_and_sinks)
{
    struct scene *s = make_scene("auto", 400, 2, 80, 64);
    disturb_keys(s, 0.1f);
    for (uint32_t j = 0; j < s->lines; j += 3) s->until[j] = s->from[j] + 60;
    s->geometry.window = 190;
    s->geometry.softcap = 4;
    s->sweep.rows.sink_logit = s->sinks;
    check_comparison(s);
}

static float *keep_exact(struct scene *s)
{
    const uint32_t stride = kv_kept_stride(s->lines);
    float *held = s->keys, *outputs = s->sweep.answers.outputs;
    float *logits = calloc(s->rows, stride * sizeof *logits);
    s->keys = s->exact, s->sweep.compare = NULL, s->sweep.answers.outputs = NULL;
    s->sweep.kept = (struct kv_kept){logits, s->rows, stride, 0};
    run(s);
    s->keys = held, s->sweep.compare = &s->compare, s->sweep.answers.outputs = outputs;
    s->sweep.kept = (struct kv_kept){0};
    return logits;
}

/* Exact logits that were kept, of all rows or of some, are those that the comparison would compute. */
Test(sweep, comparison_with_kept_logits)
{
    struct scene *s = make_scene("auto", 400, 2, 80, 64);
    const size_t bytes = s->rows * sizeof(float);
    float *expected[3] = {malloc(bytes), malloc(bytes), malloc(bytes)};
    disturb_keys(s, 0.1f);
    make_comparison(s);
    for (uint32_t r = 0; r < s->rows; r++) s->exact_lse[r] = (float)exact_log_sum_exp(s, r);
    float *kept = keep_exact(s);
    for (uint32_t j = 0; j < s->lines; j += 3) s->until[j] = s->from[j] + 60;
    const float *const arrays[3] = {s->compare.divergence, s->compare.held_mass, s->compare.drift};
    const uint32_t some[4][2] = {{0, 0}, {0, 200}, {3 * KV_SWEEP_BLOCK, s->rows}, {0, s->rows}}; /* from .. to */
    const uint32_t stride = kv_kept_stride(s->lines);
    for (int take = 0; take < 4; take++) {
        const uint32_t first = some[take][0];
        s->compare.exact = (struct kv_kept){kept + (size_t)first * stride, some[take][1] - first, stride, first};
        run(s);
        for (int a = 0; a < 3 && take == 0; a++) memcpy(expected[a], arrays[a], bytes);
        for (int a = 0; a < 3; a++) cr_assert_arr_eq(arrays[a], expected[a], bytes);
    }
    for (int a = 0; a < 3; a++) free(expected[a]);
    free(kept);
    free_scene(s);
}

/* What a scene's sweep says, one array after the other; outputs last. */
static float *everything(const struct scene *s)
{
    const size_t rows = s->rows, all = rows * s->geometry.value_dim;
    const float *const parts[] = {s->sweep.answers.log_sum_exp, s->compare.divergence,
                                  s->compare.held_mass,         s->compare.drift,
                                  s->compare.span_mass,         s->compare.span_mass + rows};
    enum { PARTS = sizeof parts / sizeof *parts };
    float *said = malloc((PARTS * rows + all) * sizeof *said);
    for (size_t i = 0; i < PARTS; i++) memcpy(said + i * rows, parts[i], rows * sizeof *said);
    memcpy(said + PARTS * rows, s->sweep.answers.outputs, all * sizeof *said);
    return said;
}

/* Both ways a sweep can go say the same, bit for bit; `turn` takes it from one to the other. */
static void check_same(struct scene *s, void (*turn)(struct scene *s))
{
    make_comparison(s);
    run(s);
    float *one = everything(s);
    turn(s);
    run(s);
    float *other = everything(s);
    cr_assert_arr_eq(one, other, s->rows * (6 + s->geometry.value_dim) * sizeof *one);
    free(one);
    free(other);
}

/* Logits are kept of all lines: nothing is packed. */
static void keep_logits(struct scene *s)
{
    const uint32_t stride = kv_kept_stride(s->lines);
    s->sweep.kept = (struct kv_kept){calloc(s->rows, stride * sizeof(float)), s->rows, stride, 0};
}

/* Late queries after an eviction: of each tile few lines are read, of one none. */
static struct scene *make_evicted(const char *isa, uint32_t dim)
{
    struct scene *s = make_scene(isa, 900, 2, dim, dim);
    s->rows = 150, s->sweep.rows.n = s->rows;
    for (uint32_t r = 0; r < s->rows; r++) s->token[r] = 820 + r / 2;
    for (uint32_t j = 0; j < 820; j++)
        if (j % 5 != 3 || (j >= 256 && j < 512)) s->until[j] = j < 600 ? 700 : 820;
    for (uint32_t j = 600; j < 700; j++) s->until[j] = 840 + j % 40;
    return s;
}

Test(sweep, lines_that_nobody_sees_change_nothing)
{
    const char *const sets[] = {"generic", floats_alone()};
    for (int i = 0; i < 4; i++) {
        struct scene *s = make_evicted(sets[i / 2], i % 2 ? 80 : 64);
        if (i % 2) s->geometry.softcap = 4, s->sweep.rows.sink_logit = s->sinks;
        disturb_keys(s, i % 2 ? 0.1f : 0.0f);
        check_same(s, keep_logits);
        check_answers(s);
        free(s->sweep.kept.logits);
        free_scene(s);
    }
}

/* Where sums are made some terms at a time, leaving lines out moves roundings. */
Test(sweep, lines_left_out_leave_answers_within_bounds)
{
    for (int i = 0; i < 2; i++) {
        struct scene *s = make_evicted("auto", i % 2 ? 80 : 64);
        for (int kept = 0; kept < 2; kept++) {
            if (kept) keep_logits(s);
            run(s);
            check_answers(s);
        }
        free(s->sweep.kept.logits);
        free_scene(s);
    }
}

/* Exact logits of all lines, whoever reads them later. */
static void keep_exact_of_all(struct scene *s)
{
    const size_t bytes = s->lines * sizeof *s->until;
    uint32_t *until = malloc(bytes);
    memcpy(until, s->until, bytes);
    for (uint32_t j = 0; j < s->lines; j++) s->until[j] = UINT32_MAX;
    float *kept = keep_exact(s);
    s->compare.exact = (struct kv_kept){kept, s->rows, kv_kept_stride(s->lines), 0};
    memcpy(s->until, until, bytes);
    free(until);
}

Test(sweep, lines_left_out_leave_comparisons_as_they_are)
{
    for (int i = 0; i < 4; i++) {
        struct scene *s = make_evicted("auto", i % 2 ? 80 : 64);
        if (i % 2) s->geometry.softcap = 4, s->sweep.rows.sink_logit = s->sinks;
        disturb_keys(s, 0.1f);
        make_comparison(s);
        if (i / 2) keep_exact_of_all(s);
        run(s);
        check_answers(s);
        double *weights = malloc(s->lines * sizeof *weights);
        for (uint32_t r = 0; r < s->rows; r++) check_row_comparison(s, r, weights);
        free(weights);
        free(s->compare.exact.logits);
        free_scene(s);
    }
}

/* The same numbers somewhere else: nobody knows that they are the rows'. */
static void copy_queries(struct scene *s)
{
    const size_t bytes = (size_t)s->rows * s->geometry.key_dim * sizeof(float);
    float *copy = malloc(bytes);
    s->compare.queries = memcpy(copy, s->queries, bytes);
}

/* Exact lines before, among and after others: their exact logits are the answer's. */
Test(sweep, logits_of_recorded_keys_are_exact_ones)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct scene *s = i ? make_scene("auto", 900, 1, 64, 64) : make_evicted("auto", 64);
        if (i) s->sweep.rows.sink_logit = s->sinks;
        for (uint32_t j = 300; j < 400 && i == 1; j++)
            s->coded[j] = 1, s->keys[64 * j + j % 64] += 0.2f;
        for (uint32_t j = 700; j < 701 && i == 2; j++) s->keys[64 * j] += 0.2f;
        check_same(s, copy_queries);
        free((void *)(uintptr_t)s->compare.queries);
        free_scene(s);
    }
}

Test(sweep, comparison_in_generic)
{
    struct scene *s = make_scene("generic", 300, 1, 64, 64);
    disturb_keys(s, 0.2f);
    check_comparison(s);
}

/* Divergence is second order in the disturbance: far below the ulp of log-sum-exp. */
Test(sweep, small_divergences_are_not_lost)
{
    struct scene *s = make_scene("auto", 400, 1, 64, 64);
    disturb_keys(s, 1e-3f);
    make_comparison(s);
    run(s);
    double *weights = malloc(s->lines * sizeof *weights), sum = 0, expected = 0;
    for (uint32_t r = 0; r < s->rows; r++) {
        const double lse = weigh(s, r, weights);
        expected += exact_log_sum_exp(s, r) - lse;
        for (uint32_t j = 0; j <= r; j++)
            expected += weights[j] * (logit(s, r, s->keys + (size_t)j * 64) -
                                      logit(s, r, s->exact + (size_t)j * 64));
        sum += (double)s->compare.divergence[r];
    }
    cr_expect_float_eq(sum / expected, 1, 0.1, "%g, not %g", sum / 400, expected / 400);
    free(weights);
    free_scene(s);
}

Test(sweep, exact_lines_compare_to_exactly_nothing)
{
    struct scene *s = make_scene("auto", 400, 2, 64, 64);
    s->sweep.rows.sink_logit = s->sinks;
    memset(s->coded, 1, s->lines);
    make_comparison(s);
    run(s);
    for (uint32_t r = 0; r < s->rows; r++) {
        cr_assert_eq(s->compare.divergence[r], 0.0f);
        cr_assert_eq(s->compare.drift[r], 0.0f);
    }
    free_scene(s);
}

/* -- sets ------------------------------------------------------------------------------------ */

Test(kernels, unknown_and_absent_sets_are_errors)
{
    struct kv_kernels kernels;
    struct kv_error err;
    cr_expect_eq(kv_kernels_fill(&kernels, "avx3", &err), KV_EUSAGE);
    cr_expect(strstr(err.text, "avx2"), "%s", err.text);
#if defined(__x86_64__)
    cr_expect_eq(kv_kernels_fill(&kernels, "neon", &err), KV_EENVIRONMENT);
    cr_expect(strstr(err.text, "neon"), "%s", err.text);
#endif
    cr_expect_eq(kv_kernels_fill(&kernels, "generic", &err), KV_OK);
    cr_expect_str_eq(kernels.isa, "generic");
}
