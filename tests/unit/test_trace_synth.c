/* Synthetic traces have the statistics that were asked for, measured on the file by plain loops. */
#include <criterion/criterion.h>
#include <math.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/hash.h"
#include "traces/portable.h"
#include "traces/synth.h"
#include "traces/trace.h"

struct subject {
    char path[128];
    struct kv_trace *trace;
    struct kv_layer *layer;
};

static struct kv_synth small(void)
{
    struct kv_synth synth;
    kv_params_defaults(kv_synth_params, &synth);
    synth.tokens = 320;
    synth.prefill = 256;
    synth.layers = 1;
    synth.q_heads = 4;
    return synth;
}

/* Writes, opens, reads layer i. */
static struct subject subject_of(const struct kv_synth *synth, uint32_t i)
{
    struct subject subject;
    struct kv_error err = {""};
    scratch(subject.path, "synth");
    cr_assert_eq(kv_trace_synth(subject.path, synth, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_trace_open(&subject.trace, subject.path, 0, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_trace_read_layer(&subject.layer, subject.trace, i, 0, &err), KV_OK, "%s",
                 err.text);
    return subject;
}

static void done(struct subject *subject)
{
    kv_layer_free(subject->layer);
    kv_trace_close(subject->trace);
    unlink(subject->path);
}

static double dot_row(const struct kv_tensor *a, uint32_t head_a, uint32_t row_a,
                      const struct kv_tensor *b, uint32_t head_b, uint32_t row_b)
{
    float x[512], y[512];
    double sum = 0;
    kv_tensor_widen(a, head_a, row_a, 1, x);
    kv_tensor_widen(b, head_b, row_b, 1, y);
    for (uint32_t i = 0; i < a->dim; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

/* The attention that the query (head, t) gives to tokens for which chosen[] says 1. */
static double mass(const struct subject *subject, uint32_t head, uint32_t t, const uint8_t *chosen)
{
    const struct kv_geometry *g = &subject->layer->info->geometry;
    const uint32_t first = g->window && t + 1 > g->window ? t + 1 - g->window : 0;
    double total = g->sink_logits ? exp((double)g->sink_logits[head]) : 0, part = 0;
    for (uint32_t j = first; j <= t; j++) {
        double logit = g->scale * dot_row(&subject->layer->q, head, t, &subject->layer->k,
                                          head / g->group, j);
        if (g->softcap > 0) logit = g->softcap * tanh(logit / g->softcap);
        total += exp(logit);
        if (chosen[j]) part += exp(logit);
    }
    return part / total;
}

/* Mean and largest deviation from `expected` of the mass over queries from..T-1, every 7th. */
static void expect_mass(const struct subject *subject, uint32_t from, const uint8_t *chosen,
                        double expected, double tolerance)
{
    double worst = 0;
    for (uint32_t head = 0; head < subject->layer->q.heads; head++)
        for (uint32_t t = from; t < subject->layer->q.tokens; t += 7) {
            const double off = fabs(mass(subject, head, t, chosen) - expected);
            worst = off > worst ? off : worst;
        }
    cr_expect_lt(worst, tolerance, "expected mass %g within %g, off by %g", expected, tolerance,
                 worst);
}

static void choose(uint8_t *chosen, uint32_t first, uint32_t end)
{
    memset(chosen + first, 1, end - first);
}

/* Tolerance: a logit of about 12 made of half-precision parts (relative error 2^-11 each, several
 * added) is off by at most 0.03, and a mass by a quarter of that. */
static const double mass_tolerance = 0.008;

Test(synth, sinks_draw_the_asked_mass)
{
    struct kv_synth synth = small();
    uint8_t chosen[320] = {0};
    synth.sink_mass = 0.45;
    choose(chosen, 0, 4);
    struct subject subject = subject_of(&synth, 0);
    expect_mass(&subject, 32, chosen, 0.45, mass_tolerance);
    done(&subject);
}

Test(synth, sinks_hold_under_softcap_and_sink_logits)
{
    struct kv_synth synth = small();
    uint8_t chosen[320] = {0};
    synth.softcap = 30;
    synth.sink_logits = 1;
    choose(chosen, 0, 4);
    struct subject subject = subject_of(&synth, 0);
    expect_mass(&subject, 32, chosen, 0.3, mass_tolerance);
    done(&subject);
}

Test(synth, bf16_masses_are_coarser_but_there)
{
    struct kv_synth synth = small();
    uint8_t chosen[320] = {0};
    synth.dtype = KV_BF16;
    choose(chosen, 0, 4);
    struct subject subject = subject_of(&synth, 0);
    expect_mass(&subject, 32, chosen, 0.3, 8 * mass_tolerance); /* 8 bits of mantissa, not 11 */
    done(&subject);
}

/* The tokens of the prompt with the largest summed attention are exactly as many as asked. */
Test(synth, heavy_hitters_draw_the_asked_mass)
{
    struct kv_synth synth = small();
    synth.sinks = 0;
    synth.heavy = 6;
    synth.heavy_mass = 0.5;
    struct subject subject = subject_of(&synth, 0);
    uint8_t chosen[320] = {0}, one[320] = {0};
    uint32_t n = 0;
    for (uint32_t j = 0; j < synth.prefill; j++) {
        double sum = 0;
        one[j] = 1;
        for (uint32_t t = synth.prefill; t < synth.tokens; t += 16)
            sum += mass(&subject, 0, t, one) / 4;
        one[j] = 0;
        /* 1/6 of 0.5 on average; others: 0.5 / 300, spread by e^1.5 sigma */
        if (sum > 0.02 && (chosen[j] = 1)) n++;
    }
    cr_expect_geq(n, 5);
    cr_expect_leq(n, 8);
    expect_mass(&subject, synth.prefill, chosen, 0.5, 0.06);
    done(&subject);
}

Test(synth, needles_are_found_from_the_question_on)
{
    struct kv_synth synth = small();
    synth.needles = 3;
    synth.needle_mass = 0.4;
    struct subject subject = subject_of(&synth, 0);
    uint8_t chosen[320] = {0};
    cr_assert_eq(subject.trace->n_spans, 1);
    cr_assert_eq(subject.trace->spans[0].n, 3);
    cr_assert_eq(subject.trace->question_start, 240);
    for (uint32_t i = 0; i < 3; i++)
        choose(chosen, subject.trace->spans[0].range[i][0], subject.trace->spans[0].range[i][1]);
    expect_mass(&subject, 240, chosen, 0.4, mass_tolerance);
    cr_expect_lt(mass(&subject, 0, 239, chosen), 0.3);
    done(&subject);
}

Test(synth, sliding_layers_slide_and_full_ones_do_not)
{
    struct kv_synth synth = small();
    uint8_t chosen[320] = {0};
    synth.layers = 3;
    synth.window = 64;
    synth.full_every = 3;
    choose(chosen, 0, 4);
    struct subject subject = subject_of(&synth, 2);
    cr_expect_eq(subject.trace->layers[0].geometry.window, 64);
    cr_expect(subject.trace->layers[1].sliding);
    cr_expect_not(subject.trace->layers[2].sliding);
    expect_mass(&subject, 100, chosen, 0.3, mass_tolerance);
    done(&subject);
}

/* Keys before the rotation, as float [tokens][dim] of head 0. */
static void unrotate(float *out, const struct subject *subject)
{
    const struct kv_geometry *g = &subject->layer->info->geometry;
    const uint32_t dim = g->key_dim, half = g->rope.dims / 2;
    kv_tensor_widen(&subject->layer->k, 0, 0, g->tokens, out);
    for (uint32_t t = 0; t < g->tokens; t++)
        for (uint32_t i = 0; i < half; i++) {
            const bool pairs = g->rope.layout == KV_ROPE_INTERLEAVED;
            float *x = &out[(size_t)t * dim + (pairs ? 2 * i : i)], *y = pairs ? x + 1 : x + half;
            const double angle = g->positions[t] * g->rope.inv_freq[i];
            const double turned = (double)*x * cos(angle) + (double)*y * sin(angle);
            *y = (float)((double)*y * cos(angle) - (double)*x * sin(angle));
            *x = (float)turned;
        }
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void expect_outliers(uint32_t rope)
{
    struct kv_synth synth = small();
    synth.rope = rope;
    synth.outliers = 5;
    synth.outlier_factor = 12;
    synth.sinks = synth.heavy = 0;
    struct subject subject = subject_of(&synth, 0);
    static float keys[320 * 64];
    double rms[64] = {0}, others = 0;
    unrotate(keys, &subject);
    for (uint32_t t = 0; t < 320; t++)
        for (uint32_t i = 0; i < 64; i++)
            rms[i] += (double)keys[t * 64 + i] * (double)keys[t * 64 + i] / 320;
    qsort(rms, 64, sizeof *rms, descending);
    for (uint32_t i = 5; i < 64; i++) others += rms[i] / 59;
    for (uint32_t i = 0; i < 5; i++) {
        /* The moving part is a tenth of the power: 320 draws leave 1 %; the other channels lose
         * what the directions of groups take, 3 of 54 dimensions. */
        const double ratio = sqrt(rms[i] / others);
        cr_expect(ratio > 11.5 && ratio < 12.9, "channel %u: ratio %g", i, ratio);
    }
    cr_expect_lt(sqrt(rms[5] / others), 1.5);
    done(&subject);
}

Test(synth, outlier_channels_have_the_asked_factor) { expect_outliers(KV_ROPE_NONE); }
Test(synth, outlier_channels_hold_before_half_rotation) { expect_outliers(KV_ROPE_HALF); }
Test(synth, outlier_channels_hold_before_interleaved_rotation)
{
    expect_outliers(KV_ROPE_INTERLEAVED);
}

/* The share of energy outside the best subspace that `rank` of the rows span (Gram and Schmidt with
 * the longest remaining row as pivot: at least the share that the best subspace leaves). */
static double outside(float *rows, uint32_t n, uint32_t dim, uint32_t rank)
{
    double all = 0, left = 0;
    for (uint32_t i = 0; i < n * dim; i++) all += (double)rows[i] * (double)rows[i];
    for (uint32_t step = 0; step < rank; step++) {
        double best = 0, u[512] = {0};
        for (uint32_t t = 0; t < n; t++) {
            double square = 0;
            for (uint32_t i = 0; i < dim; i++)
                square += (double)rows[t * dim + i] * (double)rows[t * dim + i];
            if (square <= best) continue;
            best = square;
            for (uint32_t i = 0; i < dim; i++) u[i] = (double)rows[t * dim + i] / sqrt(square);
        }
        for (uint32_t t = 0; t < n; t++) {
            double along = 0;
            for (uint32_t i = 0; i < dim; i++) along += u[i] * (double)rows[t * dim + i];
            for (uint32_t i = 0; i < dim; i++) rows[t * dim + i] -= (float)(along * u[i]);
        }
    }
    for (uint32_t i = 0; i < n * dim; i++) left += (double)rows[i] * (double)rows[i];
    return left / all;
}

Test(synth, rank_is_the_asked_one)
{
    struct kv_synth synth = small();
    synth.rank = 6;
    synth.rank_noise = 0.01;
    synth.outliers = synth.sinks = synth.heavy = 0;
    struct subject subject = subject_of(&synth, 0);
    static float rows[320 * 64];
    kv_tensor_widen(&subject.layer->v, 0, 0, 320, rows);
    cr_expect_lt(outside(rows, 320, 64, 6), 0.001);
    kv_tensor_widen(&subject.layer->v, 0, 0, 320, rows);
    cr_expect_gt(outside(rows, 320, 64, 5), 0.005);
    done(&subject);
    synth.rope = KV_ROPE_NONE;
    subject = subject_of(&synth, 0);
    kv_tensor_widen(&subject.layer->k, 1, 0, 320, rows);
    cr_expect_lt(outside(rows, 320, 64, 6), 0.001);
    done(&subject);
}

Test(synth, mean_key_drifts_by_the_asked_way)
{
    struct kv_synth synth = small();
    synth.drift = 2;
    synth.outliers = synth.sinks = synth.heavy = 0;
    struct subject subject = subject_of(&synth, 0);
    static float rows[320 * 64];
    double way = 0;
    kv_tensor_widen(&subject.layer->k, 0, 0, 320, rows);
    for (uint32_t i = 0; i < 64; i++) {
        double early = 0, late = 0;
        for (uint32_t t = 0; t < 64; t++) early += (double)rows[t * 64 + i] / 64;
        for (uint32_t t = 256; t < 320; t++) late += (double)rows[t * 64 + i] / 64;
        way += (late - early) * (late - early);
    }
    /* 256 of 319 steps of a way of 2 * 8; the means of 64 draws move it by sqrt(64 * 2 / 64) / 2.
     */
    cr_expect_float_eq(sqrt(way), 16.0 * 256 / 319, 0.6);
    done(&subject);
}

static void hash_of(char text[64], const struct kv_synth *synth)
{
    struct subject subject = subject_of(synth, 0);
    snprintf(text, 64, "%s", subject.trace->content_hash);
    done(&subject);
}

/* The constant holds on every machine (x86-64 and aarch64, gcc and clang): exact arithmetic only.
 */
Test(synth, a_seed_names_one_file)
{
    struct kv_synth synth = small();
    char first[64], again[64], other[64];
    synth.w_o = synth.x2 = synth.sink_logits = 1;
    hash_of(first, &synth);
    hash_of(again, &synth);
    synth.seed = 2;
    hash_of(other, &synth);
    cr_expect_str_eq(first, again);
    cr_expect_str_neq(first, other);
    cr_expect_str_eq(first, "xxh3:f5a8a32b381e60b2956bfb31a99164cb");
}

Test(synth, every_shape_can_be_made)
{
    static const uint32_t shapes[][5] = {/* q_heads, kv_heads, d_k, d_v, mla */
                                         {4, 4, 64, 0, 0},   {8, 2, 80, 0, 0},  {4, 1, 96, 64, 0},
                                         {2, 2, 128, 48, 0}, {2, 1, 256, 0, 0}, {4, 1, 80, 64, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct kv_synth synth = small();
        synth.tokens = 96;
        synth.prefill = 64;
        synth.q_heads = shapes[i][0];
        synth.kv_heads = shapes[i][1];
        synth.head_dim = shapes[i][2];
        synth.value_dim = shapes[i][3];
        synth.mla = shapes[i][4];
        synth.deflate = i % 2;
        struct subject subject = subject_of(&synth, 0);
        cr_expect_eq(subject.layer->k.dim, shapes[i][2]);
        cr_expect_eq(subject.layer->v.dim, shapes[i][3] ? shapes[i][3] : shapes[i][2]);
        cr_expect_eq(subject.layer->info->v_is_k_prefix, shapes[i][4]);
        done(&subject);
    }
}

static void expect_refused(const struct kv_synth *synth, const char *message)
{
    struct kv_error err = {""};
    cr_expect_eq(kv_trace_synth("/nowhere/x.h5", synth, &err), KV_EUSAGE);
    cr_expect_str_eq(err.text, message);
}

Test(synth, contradictions_are_refused)
{
    struct kv_synth synth = small();
    synth.prefill = 320;
    expect_refused(&synth, "trace synth: prefill=320: expected less than tokens");
    synth = small();
    synth.kv_heads = 3;
    expect_refused(&synth, "trace synth: kv_heads=3: expected a divisor of q_heads");
    synth = small();
    synth.rope_dims = 7;
    expect_refused(&synth, "trace synth: rope_dims=7: expected an even number up to head_dim");
    synth = small();
    synth.sink_mass = 0.9;
    expect_refused(&synth,
                   "trace synth: sink_mass + heavy_mass + needle_mass=1.1: expected at most 0.98");
    synth = small();
    synth.outliers = 17;
    expect_refused(&synth, "trace synth: outliers=17: expected at most a quarter of head_dim");
    synth = small();
    synth.rank = 64;
    expect_refused(&synth, "trace synth: rank=64: expected less than head_dim");
}

Test(synth, portable_functions_agree_with_libm)
{
    for (double x = -30; x < 30; x += 0.137) {
        double sine, cosine;
        kv_portable_sincos(37 * x, &sine, &cosine);
        cr_expect_float_eq(kv_portable_exp(x) / exp(x), 1, 1e-14);
        cr_expect_float_eq(kv_portable_log(exp(x)), x, 1e-13);
        cr_expect_float_eq(kv_portable_tanh(x), tanh(x), 1e-14);
        cr_expect_float_eq(sine, sin(37 * x), 1e-12);
        cr_expect_float_eq(cosine, cos(37 * x), 1e-12);
    }
}
