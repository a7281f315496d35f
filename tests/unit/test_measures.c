/* Every measure of a layer and of layers pooled: by hand, against plain loops, and at the edges. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/rng.h"
#include "metrics/measures.h"

/* 2 KV heads x group 2, values of 3, 40 scored tokens 100..139 of 160; windows 104..112 and
 * 120..136. */
enum { KV_HEADS = 2, GROUP = 2, HEADS = 4, DIM = 3, SCORED = 40, TOKENS = 160, FIRST = 100 };
enum { ROWS = HEADS * SCORED, HIDDEN = 5, PROBES = 2, WINDOW_TOKENS = 24, SPANS = 2 };

static const uint32_t windows[2][2] = {{104, 112}, {120, 136}};

struct layer {
    struct kv_geometry geometry;
    uint32_t scored[SCORED];
    float exact[ROWS * DIM], answer[ROWS * DIM];
    float divergence[ROWS], held_mass[ROWS], drift[ROWS], log_sum_exp[ROWS], sink_logits[HEADS];
    float span_exact[ROWS * SPANS], span_answer[ROWS * SPANS];
    float w_o[HIDDEN * HEADS * DIM], x2[TOKENS], nll[TOKENS];
    float gradients[PROBES + 1][HEADS * WINDOW_TOKENS * DIM];
    struct kv_gradient_view views[PROBES + 1];
    struct kv_measured in;
};

static void fill(float *values, size_t n, struct kv_rng *rng, double mean, double spread)
{
    for (size_t i = 0; i < n; i++) values[i] = (float)(mean + spread * kv_rng_normal(rng));
}

static void make_views(struct layer *layer, struct kv_rng *rng)
{
    for (int s = 0; s <= PROBES; s++) {
        fill(layer->gradients[s], HEADS * WINDOW_TOKENS * DIM, rng, 0, 1);
        layer->views[s] = (struct kv_gradient_view){
            {KV_F32, HEADS, WINDOW_TOKENS, DIM, DIM, layer->gradients[s]}, 0.25};
    }
}

static struct layer *layer_of(uint32_t seed, double noise)
{
    struct layer *layer = calloc(1, sizeof *layer);
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    layer->geometry = (struct kv_geometry){.q_heads = HEADS, .kv_heads = KV_HEADS, .group = GROUP,
                                           .key_dim = DIM, .value_dim = DIM, .tokens = TOKENS};
    for (uint32_t t = 0; t < SCORED; t++) layer->scored[t] = FIRST + t;
    fill(layer->exact, ROWS * DIM, &rng, 0, 1);
    for (int i = 0; i < ROWS * DIM; i++)
        layer->answer[i] = layer->exact[i] + (float)(noise * kv_rng_normal(&rng));
    for (int i = 0; i < ROWS; i++) layer->held_mass[i] = 1;
    for (int i = 0; i < ROWS * SPANS; i++) layer->span_exact[i] = layer->span_answer[i] = 0.125f;
    for (int t = 0; t < TOKENS; t++) {
        layer->x2[t] = 2.0f + (float)t;
        layer->nll[t] = 0.01f * (float)t;
    }
    fill(layer->w_o, HIDDEN * HEADS * DIM, &rng, 0, 0.5);
    make_views(layer, &rng);
    layer->in = (struct kv_measured){
        .geometry = &layer->geometry, .n_scored = SCORED, .scored = layer->scored,
        .exact = layer->exact, .answer = layer->answer, .divergence = layer->divergence,
        .held_mass = layer->held_mass, .drift = layer->drift, .n_spans = SPANS,
        .span_exact = layer->span_exact, .span_answer = layer->span_answer, .w_o = layer->w_o,
        .hidden = HIDDEN, .x2 = layer->x2, .n_windows = 2, .windows = windows,
        .label = layer->views, .n_fisher = PROBES, .fisher = layer->views + 1,
        .key_error2 = noise * noise, .key_norm2 = 4, .value_error2 = noise, .value_norm2 = 16};
    return layer;
}

static struct kv_layer_measures measured(const struct layer *layer)
{
    struct kv_layer_measures out;
    cr_assert_eq(kv_measure_layer(&out, &layer->in), 0);
    return out;
}

static struct kv_pooled pooled(const struct kv_layer_measures *layers, uint32_t n,
                               const struct layer *first)
{
    struct kv_pooled out;
    const struct kv_pool_input in = {.n_layers = n, .layers = layers, .n_windows = 2,
                                     .windows = windows, .scored = first->scored,
                                     .nll = first->nll, .tokens = TOKENS, .seed = 11};
    cr_assert_eq(kv_pool_measures(&out, &in), 0);
    return out;
}

static double delta(const struct layer *layer, uint32_t head, uint32_t t, uint32_t i)
{
    const size_t row = ((head / GROUP) * SCORED + t) * GROUP + head % GROUP;
    return (double)layer->answer[row * DIM + i] - layer->exact[row * DIM + i];
}

static double expect_close(double found, double expected)
{
    cr_expect_float_eq(found, expected, 1e-12 * fabs(expected), "%.17g %.17g", found, expected);
    return expected;
}

Test(measures, identity_is_exactly_zero_everywhere)
{
    struct layer *layer = layer_of(1, 0);
    struct kv_layer_measures out = measured(layer);
    const struct kv_pooled all = pooled(&out, 1, layer);
    const double zeros[] = {
        all.output_error, all.output_error_low, all.output_error_high, all.residual_error,
        all.wo_error, all.attention_kl, all.mass_drift, all.lost_mass, all.error_p50, all.error_p95,
        all.error_p99, all.error_max, all.key_error, all.value_error, all.dkl, all.dkl_low,
        all.dkl_high, all.dkl_p99, all.dkl_max, all.dkl_seq, all.dnll1, all.bin_error[7]};
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) cr_expect_eq(zeros[i], 0.0, "%zu", i);
    cr_expect_eq(all.span_retention, 1.0);
    cr_expect_str_eq(all.validity, "ok");
    kv_layer_measures_free(&out);
    free(layer);
}

Test(measures, worked_by_hand)
{
    /* Two heads of their own, one value, two tokens: exact 3, 4 | 0, 12; deltas 0.5, -1 | 0, 0. */
    const struct kv_geometry geometry = {.q_heads = 2, .kv_heads = 2, .group = 1, .value_dim = 1};
    const float exact[] = {3, 4, 0, 12}, answer[] = {3.5f, 3.0f, 0, 12};
    const float w_o[] = {2, 0.5f}, x2[] = {9, 1, 4};
    const struct kv_measured in = {.geometry = &geometry, .n_scored = 2,
                                   .scored = (uint32_t[]){1, 2}, .exact = exact, .answer = answer,
                                   .w_o = w_o, .hidden = 1, .x2 = x2,
                                   .key_error2 = 1, .key_norm2 = 16};
    struct kv_layer_measures out;
    cr_assert_eq(kv_measure_layer(&out, &in), 0);
    expect_close(out.output_error, sqrt(1.25 / 169));
    expect_close(out.head_error[0], sqrt(1.25 / 25));
    cr_expect_eq(out.head_error[1], 0.0);
    expect_close(out.error_max, 0.25);                      /* 1 / 4; the others 1/6, 0 (of 0), 0 */
    expect_close(out.error_p50, 0.5 / 6);
    expect_close(out.residual_error, (1.0 / 1 + 4.0 / 4) / 2);
    expect_close(out.wo_error, sqrt((1.0 + 4.0) / (36.0 + 14.0 * 14.0)));
    expect_close(out.token_delta2[1], 1.0);
    cr_expect_eq(out.key_error, 0.25);
    cr_expect(isnan(out.value_error));
    kv_layer_measures_free(&out);
}

Test(measures, missing_ingredients_stay_empty)
{
    struct layer *layer = layer_of(3, 0.1);
    struct kv_measured *in = &layer->in;
    in->divergence = in->held_mass = in->drift = in->span_exact = in->w_o = in->x2 = NULL;
    in->label = in->fisher = NULL, in->n_fisher = 0, in->key_norm2 = in->value_norm2 = 0;
    struct kv_layer_measures out = measured(layer);
    const struct kv_pooled all = pooled(&out, 1, layer);
    const double empty[] = {all.residual_error, all.wo_error, all.attention_kl, all.mass_drift,
                            all.lost_mass, all.span_retention, all.key_error, all.value_error,
                            all.dkl, all.dkl_low, all.dkl_high, all.dkl_p99, all.dkl_max,
                            all.dkl_seq, all.dnll1, all.ppl_est};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) cr_expect(isnan(empty[i]), "%zu", i);
    cr_expect_str_eq(all.validity, "");
    cr_expect_gt(all.output_error, 0.05);
    kv_layer_measures_free(&out);
    free(layer);
}

static double gradient(const struct layer *layer, int s, uint32_t head, uint32_t column, uint32_t i)
{
    return layer->gradients[s][(head * WINDOW_TOKENS + column) * DIM + i];
}

/* dkl and its kin as the formula reads, with no care for cost. */
static void plain_divergence(struct layer *const *layers, uint32_t n, double *dkl, double *seq,
                             double *dnll1, double *largest)
{
    *dkl = *seq = *dnll1 = *largest = 0;
    uint32_t column = 0;
    for (int w = 0; w < 2; w++) {
        double window[PROBES] = {0};
        for (uint32_t t = windows[w][0]; t < windows[w][1]; t++, column++) {
            double dots[PROBES + 1] = {0}, squares = 0;
            for (uint32_t l = 0; l < n; l++)
                for (int s = 0; s <= PROBES; s++)
                    for (uint32_t h = 0; h < HEADS; h++)
                        for (uint32_t i = 0; i < DIM; i++)
                            dots[s] += 0.25 * delta(layers[l], h, t - FIRST, i) *
                                       gradient(layers[l], s, h, column, i);
            for (int s = 0; s < PROBES; s++)
                squares += dots[s + 1] * dots[s + 1], window[s] += dots[s + 1];
            *dkl += 0.5 * squares / PROBES / WINDOW_TOKENS;
            *largest = fmax(*largest, 0.5 * squares / PROBES);
            *dnll1 += dots[0] / WINDOW_TOKENS;
        }
        for (int s = 0; s < PROBES; s++)
            *seq += 0.5 * window[s] * window[s] / PROBES / WINDOW_TOKENS;
    }
}

Test(measures, divergence_is_the_formula)
{
    struct layer *layers[] = {layer_of(4, 0.2), layer_of(5, 0.3), layer_of(6, 0.1)};
    struct kv_layer_measures out[3];
    double dkl, seq, dnll1, largest;
    for (int l = 0; l < 3; l++) out[l] = measured(layers[l]);
    const struct kv_pooled all = pooled(out, 3, layers[0]);
    plain_divergence(layers, 3, &dkl, &seq, &dnll1, &largest);
    expect_close(all.dkl, dkl);
    expect_close(all.dkl_seq, seq);
    expect_close(all.dkl_max, largest);
    cr_expect_float_eq(all.dnll1, dnll1, 1e-12);
    /* Targets are t + 1: 105..112 and 121..136, nll = t / 100. */
    const double nll = (868.0 + 2056.0) / 100 / WINDOW_TOKENS;
    cr_expect_float_eq(log(all.ppl_est), nll + dnll1 + dkl, 1e-6);   /* nll is float */
    cr_expect(all.dkl_low < all.dkl && all.dkl < all.dkl_high && all.dkl_p99 <= all.dkl_max);
    cr_expect_str_eq(all.validity, all.dkl < 0.1 ? "ok" : "low");
    for (int l = 0; l < 3; l++) kv_layer_measures_free(out + l), free(layers[l]);
}

Test(measures, dkl_is_empty_when_a_window_token_was_not_scored)
{
    struct layer *layer = layer_of(7, 0.2);
    layer->in.n_scored = SCORED - 5;            /* 100..134: 135 is a window token */
    struct kv_layer_measures out = measured(layer);
    const struct kv_pooled all = pooled(&out, 1, layer);
    cr_expect(isnan(all.dkl) && isnan(all.dkl_high) && isnan(all.dnll1) && isnan(all.ppl_est));
    cr_expect(isnan(all.dkl_p99) && isnan(all.dkl_max) && isnan(all.dkl_seq));
    cr_expect_str_eq(all.validity, "");
    kv_layer_measures_free(&out);
    free(layer);
}

/* A sum s of n = HEADS * DIM products is wrong by at most e = (n + 2) 2^-24 sum |w x|, its square
 * by 2 |s| e + e^2; half of the relative error of a sum of squares is that of its root. */
Test(measures, projection_is_the_plain_product)
{
    const double per_term = (HEADS * DIM + 2) * 0x1p-24;
    struct layer *layer = layer_of(8, 0.5);
    double sum = 0, shares = 0, exact_sum = 0, slack = 0, shares_slack = 0, exact_slack = 0;
    struct kv_layer_measures out = measured(layer);
    for (uint32_t t = 0; t < SCORED; t++)
        for (int row = 0; row < HIDDEN; row++) {
            double moved = 0, exact = 0, moved_error = 0, exact_error = 0;
            for (uint32_t c = 0; c < HEADS * DIM; c++) {
                const uint32_t head = c / DIM, i = c % DIM;
                const size_t at = ((head / GROUP) * SCORED + t) * GROUP + head % GROUP;
                const double w = layer->w_o[row * HEADS * DIM + (int)c];
                const double x = layer->exact[at * DIM + i], d = delta(layer, head, t, i);
                moved += w * d, moved_error += per_term * fabs(w * d);
                exact += w * x, exact_error += per_term * fabs(w * x);
            }
            const double wrong = moved_error * (2 * fabs(moved) + moved_error);
            sum += moved * moved, exact_sum += exact * exact;
            shares += moved * moved / layer->x2[FIRST + t];
            slack += wrong, shares_slack += wrong / layer->x2[FIRST + t];
            exact_slack += exact_error * (2 * fabs(exact) + exact_error);
        }
    const double wo_slack = 0.5 * (slack / sum + exact_slack / exact_sum);
    cr_expect_float_eq(out.wo_error / sqrt(sum / exact_sum), 1, wo_slack);
    cr_expect_float_eq(out.residual_error, shares / SCORED, shares_slack / SCORED);
    cr_expect_float_eq(kv_projected_energy(&layer->in), exact_sum, exact_slack);
    kv_layer_measures_free(&out);

    layer->in.exact_projected2 = 4 * exact_sum, layer->in.attn_post_norm = true;
    out = measured(layer);
    cr_expect_float_eq(out.wo_error / sqrt(sum / exact_sum), 0.5, wo_slack);
    cr_expect(isnan(out.residual_error));
    kv_layer_measures_free(&out);
    free(layer);
}

Test(measures, lost_mass_is_what_keys_had_and_were_not_read)
{
    struct layer *layer = layer_of(9, 0.1);
    for (int row = 0; row < ROWS; row++) layer->held_mass[row] = 0.375f;
    struct kv_layer_measures out = measured(layer);
    expect_close(out.lost_mass, 0.625);
    kv_layer_measures_free(&out);

    /* A sink with a quarter of the mass: sink - lse = ln 1/4. */
    layer->geometry.sink_logits = layer->sink_logits;
    for (int h = 0; h < HEADS; h++) layer->sink_logits[h] = 2;
    for (int row = 0; row < ROWS; row++) layer->log_sum_exp[row] = 2 + 1.3862943611198906f;
    out = measured(layer);
    cr_expect(isnan(out.lost_mass), "the log-sum-exp was not given");
    kv_layer_measures_free(&out);
    layer->in.exact_log_sum_exp = layer->log_sum_exp;
    out = measured(layer);
    cr_expect_float_eq(out.lost_mass, 0.375, 1e-7);
    kv_layer_measures_free(&out);
    layer->in.reads_all = true;
    out = measured(layer);
    cr_expect_eq(out.lost_mass, 0.0);
    kv_layer_measures_free(&out);
    free(layer);
}

Test(measures, drift_is_over_queries_that_read_codes)
{
    struct layer *layer = layer_of(10, 0.1);
    for (int row = 0; row < ROWS; row++) {
        layer->drift[row] = row < ROWS / 4 ? 0.5f : NAN;
        layer->divergence[row] = row % 2 ? 0.25f : 0.75f;
    }
    struct kv_layer_measures out[2] = {measured(layer)};
    expect_close(out[0].mass_drift, 0.5);
    expect_close(out[0].attention_kl, 0.5);
    for (int row = 0; row < ROWS; row++) layer->drift[row] = NAN;
    out[1] = measured(layer);
    cr_expect(isnan(out[1].mass_drift));
    expect_close(pooled(out, 2, layer).mass_drift, 0.5);    /* where it is defined */
    out[1].attention_kl = NAN;
    cr_expect(isnan(pooled(out, 2, layer).attention_kl));   /* elsewhere one gap empties it */
    for (int l = 0; l < 2; l++) kv_layer_measures_free(out + l);
    free(layer);
}

Test(measures, spans_are_judged_on_the_heads_that_look_there)
{
    struct layer *layer = layer_of(11, 0.1);
    /* Span 0: head 2 looks (0.5) and keeps half; the others (0.01) keep all. Span 1: nobody
     * looks. */
    for (uint32_t head = 0; head < HEADS; head++)
        for (uint32_t t = 0; t < SCORED; t++) {
            const size_t row = ((head / GROUP) * SCORED + t) * GROUP + head % GROUP;
            layer->span_exact[row * SPANS] = head == 2 ? 0.5f : 0.01f;
            layer->span_answer[row * SPANS] = head == 2 ? 0.25f : 0.01f;
            layer->span_exact[row * SPANS + 1] = 0.0005f;
            layer->span_answer[row * SPANS + 1] = 0;
        }
    struct kv_layer_measures out = measured(layer);
    expect_close(out.span_retention, 0.5);
    kv_layer_measures_free(&out);
    for (int row = 0; row < ROWS; row++) layer->span_exact[row * SPANS] = 0.0005f;
    out = measured(layer);
    cr_expect(isnan(out.span_retention));
    kv_layer_measures_free(&out);
    free(layer);
}

Test(measures, zero_outputs_leave_everything_else_finite)
{
    struct layer *layer = layer_of(12, 0);
    memset(layer->exact, 0, sizeof layer->exact);
    memset(layer->answer, 0, sizeof layer->answer);
    struct kv_layer_measures out = measured(layer);
    const struct kv_pooled all = pooled(&out, 1, layer);
    cr_expect_eq(all.output_error, 0.0);
    cr_expect_eq(all.error_max, 0.0);
    cr_expect_eq(all.wo_error, 0.0);
    cr_expect_eq(all.output_error_high, 0.0);
    kv_layer_measures_free(&out);
    layer->answer[0] = 2.385f;                  /* where nothing was: undefined, not infinite */
    out = measured(layer);
    cr_expect(isnan(out.output_error));
    cr_expect_eq(out.error_max, 0.0);           /* that query is left out */
    cr_expect(isfinite(out.residual_error));
    kv_layer_measures_free(&out);
    free(layer);
}

Test(measures, layers_pool_by_their_mean)
{
    struct layer *layers[] = {layer_of(13, 0.1), layer_of(14, 0.4)};
    struct kv_layer_measures out[] = {measured(layers[0]), measured(layers[1])};
    const struct kv_pooled all = pooled(out, 2, layers[0]);
    expect_close(all.output_error, (out[0].output_error + out[1].output_error) / 2);
    expect_close(all.error_p95, (out[0].error_p95 + out[1].error_p95) / 2);
    expect_close(all.error_max, fmax(out[0].error_max, out[1].error_max));
    cr_expect(all.output_error_low < all.output_error && all.output_error < all.output_error_high);
    cr_expect(out[0].error_p50 < out[0].error_p95 && out[0].error_p99 <= out[0].error_max);
    double sum = 0;
    for (int bin = 0; bin < KV_DEPTH_BINS; bin++) sum += out[0].bin_delta2[bin];
    expect_close(round(sum * 1e9), round(out[0].delta2 * 1e9));
    for (int l = 0; l < 2; l++) kv_layer_measures_free(out + l), free(layers[l]);
}
