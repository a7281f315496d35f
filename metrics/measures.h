/* Every measure of one method on one layer, and on the layers pooled: from the answers, the
 * exact answers and the gradient probes. Scalar double arithmetic, none of it shared with the
 * kernels that are judged. Definitions: reference replay.md "Errors", real-model.md section 3. A
 * measure whose ingredient is missing is NaN (an empty cell), never a substitute. */
#ifndef KVBENCH_METRICS_MEASURES_H
#define KVBENCH_METRICS_MEASURES_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/base/geometry.h"
#include "harness/base/tensor.h"

struct kv_gradient_view { struct kv_tensor tensor; double unit; };   /* [q_heads][W][value_dim] */

/* What is measured: one layer, one method. Row order everywhere: [kv_heads][scored][group] (the
 * order in which the sweep leaves them), so query head = kv_head * group + member. A pointer
 * that is NULL is a missing ingredient: what needs it is NaN. */
struct kv_measured {
    const struct kv_geometry *geometry;
    uint32_t n_scored;
    const uint32_t *scored;             /* [n_scored] tokens, ascending */
    const float *exact, *answer;        /* [kv_heads][scored][group][value_dim] */
    const float *divergence, *held_mass;           /* [kv_heads][scored][group] */
    const float *drift;                 /* likewise; NaN: this query read no coded row */
    const float *exact_log_sum_exp;     /* likewise; lost_mass needs it where sink_logits are */
    bool reads_all;                     /* every visible row was read: lost_mass is 0 */
    uint32_t n_spans;
    const float *span_exact, *span_answer;         /* [kv_heads][scored][group][n_spans] masses */
    const float *w_o; uint32_t hidden;  /* [hidden][q_heads * value_dim] or NULL */
    double exact_projected2;            /* kv_projected_energy of exact; 0 = not known yet */
    const float *x2;                    /* [tokens] or NULL */
    bool attn_post_norm;                /* then residual_error is not defined */
    uint32_t n_windows; const uint32_t (*windows)[2];   /* of the trace */
    const struct kv_gradient_view *label;               /* or NULL */
    uint32_t n_fisher; const struct kv_gradient_view *fisher;
    double key_error2, key_norm2, value_error2, value_norm2;  /* over held rows; norm2 0 = empty */
};

enum { KV_DEPTH_BINS = 16 };            /* error by position: equal shares of the scored tokens */

/* Made by kv_measure_layer; owns its arrays. 0/0 is 0 everywhere (a zero that was answered
 * exactly); x/0 with x > 0 is undefined: NaN, and such a query is left out of the percentiles. */
struct kv_layer_measures {
    double output_error, residual_error, wo_error;
    double attention_kl, mass_drift, lost_mass, span_retention;
    double error_p50, error_p95, error_p99, error_max;   /* of |delta| / |o| per query row */
    double key_error, value_error;
    double delta2, exact2;              /* sums behind output_error */
    double bin_delta2[KV_DEPTH_BINS], bin_exact2[KV_DEPTH_BINS];
    double *head_error;                 /* [q_heads] output_error of each head */
    double *query_ratio;                /* [n_scored * q_heads] in row order; NaN: undefined */
    double *token_delta2, *token_exact2;/* [n_scored] summed over heads, for the bootstrap */
    double *label_dot;                  /* [W] <g_label,t , delta_t>; NaN: not scored; NULL */
    double *fisher_dot;                 /* [n_fisher][W] likewise */
    uint32_t n_scored, window_tokens, n_fisher, q_heads;
};

/* Sum over scored tokens of |W_o o_t|^2 of the exact answers: the same for every method, so whoever
 * measures many keeps it. 0 without w_o; NaN without memory. */
double kv_projected_energy(const struct kv_measured *in);

/* KV_OK or KV_EMEMORY. */
int kv_measure_layer(struct kv_layer_measures *out, const struct kv_measured *in);
void kv_layer_measures_free(struct kv_layer_measures *measures);

struct kv_pooled {                      /* the pooled row, or one layer's row when n_layers = 1 */
    double output_error, output_error_low, output_error_high;
    double residual_error, wo_error, attention_kl, mass_drift, lost_mass, span_retention;
    double error_p50, error_p95, error_p99, error_max, key_error, value_error;
    double dkl, dkl_low, dkl_high, dkl_p99, dkl_max, dkl_seq, dnll1, ppl_est;
    const char *validity;               /* "ok", "low" (dkl >= 0.1: divergence.c), "" without dkl */
    double bin_error[KV_DEPTH_BINS];    /* output error by depth, mean over layers */
};

struct kv_pool_input {
    uint32_t n_layers; const struct kv_layer_measures *layers;
    uint32_t n_windows; const uint32_t (*windows)[2];
    const uint32_t *scored;             /* the layers' scored tokens */
    const float *nll; uint32_t tokens;  /* of the trace, or NULL */
    uint64_t seed;
};

/* Pools layers. Across layers every measure is the mean of the layers' values, except:
 * - dkl as 1/2 sum_t mean_s (sum_layers dot)^2 / N, dnll1 likewise summed before the mean;
 * - error_max, the largest of all layers;
 * - mass_drift, span_retention, key_error, value_error: over the layers where they are defined (a
 *   layer may hold no coded row, no head that looks at a span, no K and V of its own). Elsewhere
 *   one NaN layer makes the pooled value NaN.
 *
 * dkl and its kin are NaN when a window token was not scored: a sum over fewer is another quantity.
 * Intervals are 95 %, by a bootstrap over windows, or over blocks of tokens when there are fewer
 * than 8 (statistics.h); the same seed gives every method the same resamples (paired).
 * Deterministic. KV_OK or KV_EMEMORY. */
int kv_pool_measures(struct kv_pooled *out, const struct kv_pool_input *in);

#endif
