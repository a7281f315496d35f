/* Synthetic traces with named statistics: what was asked is what is measured in the file.
 *
 *   outliers        in each KV head so many key channels have, before the rotation, a root mean
 * square of outlier_factor times the other channels'; mostly a constant offset, as in models sinks,
 * heavy    the first `sinks` tokens draw sink_mass of the attention of every query that sees them,
 * `heavy` tokens spread over the prompt draw heavy_mass needles         spans of 8 tokens that draw
 * needle_mass from question_start on rank            keys (before the rotation) and values are of
 * this rank but for rank_noise, the noise's share of a row's length; 0 = full rank drift the mean
 * key moves by drift * sqrt(head_dim) from the first to the last token spread          standard
 * deviation of the other logits
 *
 * Masses are shares of the whole softmax, the extra sink logit included, in the mask of the layer.
 *
 * The same parameters give the same words on every machine with IEEE 754 doubles: only + - * / and
 * sqrt decide stored bits, exp, log, sin and cos being computed from them here, sums run in a fixed
 * order and nothing is contracted (-ffp-contract=off). */
#ifndef KVBENCH_TRACES_SYNTH_H
#define KVBENCH_TRACES_SYNTH_H

#include "harness/base/params.h"

struct kv_synth {
    uint32_t tokens, prefill, layers, q_heads, kv_heads, head_dim,
        value_dim;                /* value_dim 0: head_dim */
    uint32_t dtype;               /* enum kv_dtype */
    uint32_t rope, rope_dims;     /* enum kv_rope_layout; dims 0: head_dim */
    double rope_base;
    uint32_t seed, outliers;
    double outlier_factor;
    uint32_t sinks;
    double sink_mass;
    uint32_t heavy;
    double heavy_mass;
    uint32_t needles;
    double needle_mass;
    uint32_t rank;
    double rank_noise, drift, spread;
    uint32_t window, full_every;  /* window > 0: layers slide, but every full_every-th (0: none) */
    double softcap, sink_logit;
    uint32_t sink_logits, probes, fisher, w_o, x2, mla,
        deflate; /* fisher: probes beside the label */
};

extern const struct kv_param kv_synth_params[];

/* KV_EUSAGE when the parameters contradict each other. */
int kv_trace_synth(const char *path, const struct kv_synth *synth, struct kv_error *err);

#endif
