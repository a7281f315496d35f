/* Attention of many query rows over many lines: the one place where attention is computed in fp32.
 *
 * A *line* is one version of one row of a KV head with the span of tokens that may read it:
 * (position, from, until), keys and values decoded on demand. Recorded keys are the lines
 * (j, from = j, until = end); a compressed cache adds lines that open and close under way.
 * A query row of token t sees a line when from <= t < until, position <= t and, in a layer with a
 * window, position > t - window.
 *
 * The sweep walks tiles of lines, decodes each tile once to fp32 (panels of keys, rows of values)
 * and lets blocks of query rows pass over it with an online softmax (perf.md section 4). Results do
 * not depend on the number of threads; with the generic kernels they are the same on every CPU. */
#ifndef KVBENCH_METHODS_SWEEP_SWEEP_H
#define KVBENCH_METHODS_SWEEP_SWEEP_H

#include <stddef.h>
#include <stdint.h>

#include "harness/base/geometry.h"
#include "harness/base/tensor.h"
#include "methods/kernels/kernels.h"

/* Decodes lines first .. first+n-1 to keys [n][key columns] and values [n][value columns]; values may
 * be NULL when only keys are wanted. */
typedef void kv_decode_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values);

struct kv_lines {
    uint32_t n;
    const uint32_t *position, *from, *until;   /* [n] each, in tokens; in any order */
    const uint8_t *coded;                      /* [n] 1 = read from lossy codes; NULL = none */
    kv_decode_lines *decode;
    void *source;
    uint32_t columns[2];                       /* of keys and values as read (methods/cache/view.h); 0: the
                                                * geometry's */
};

/* Query rows of one KV head: all query heads of its group for all scored tokens, token-major
 * (row = token_index * group + head_in_group), so that rows of a block see nearly the same. */
struct kv_rows {
    uint32_t n;
    const float *queries;                      /* [n][key columns]: as recorded, or as the lines ask */
    const uint32_t *token;                     /* [n] ascending */
    const float *sink_logit;                   /* [n] or NULL: extra logit in the denominator */
};

/* What compressed attention looks like beside the exact one, per query row (peers.md section 3.2).
 * a = exact weights, a_hat = the answer's weights; both softmaxes include the sink logit if any. */
struct kv_spans { uint32_t n; const uint32_t (*range)[2]; };   /* half-open token ranges */

/* Logits that a sweep computed, capped but not masked, in a unit that sweeps by the same kernels and geometry
 * share, of the rows from `first` on: [rows][stride], a column a line. first: a multiple of KV_SWEEP_BLOCK.
 * With shifts [kv_kept_tiles(lines)][rows] they become weights at once, exp(logit - shift), by a sweep
 * that asks for nothing else but log_sum_exp: kv_sweep_weights has only to multiply them, a rounding more and an
 * exponential less. */
struct kv_kept { float *logits; uint32_t rows, stride, first; float *shifts; };

struct kv_compare {
    const struct kv_tensor *keys;              /* recorded keys; head below */
    uint32_t head;
    const float *exact_log_sum_exp;            /* [rows.n] */
    struct kv_spans spans;
    float *divergence;                         /* [rows.n] KL(a_hat || a); infinite if none read */
    float *held_mass;                          /* [rows.n] sum of a over the positions read */
    float *drift;                              /* [rows.n] sum over coded lines of a_hat - a */
    float *span_mass;                          /* [rows.n][spans.n] sum of a_hat over the span */
    const float *queries;                      /* [rows.n][key_dim] as recorded; NULL: rows.queries are */
    struct kv_kept exact;                      /* logits of some rows and recorded keys, by position, as a
                                                * sweep of all keys kept them: spared here */
};

struct kv_answers {
    float *outputs;                            /* [rows.n][value columns] */
    float *log_sum_exp;                        /* [rows.n], sink logit included; -infinity (and
                                                * output 0) for a row that sees nothing */
};

struct kv_sweep {
    const struct kv_kernels *kernels;
    const struct kv_geometry *geometry;        /* scale, softcap, window, dims */
    struct kv_lines lines;
    struct kv_rows rows;
    struct kv_answers answers;                 /* outputs NULL: log_sum_exp only */
    const struct kv_compare *compare;          /* NULL = not wanted */
    struct kv_kept kept;                       /* kv_sweep_run leaves the logits of these rows here, and
                                                * kv_sweep_weights spends them; stride: kv_kept_stride(lines) */
};

enum { KV_SWEEP_BLOCK = 96 };   /* rows that are multiplied at once, and kept or not */

/* Floats of a row that keeps the logits of so many lines; and its shifts. */
uint32_t kv_kept_stride(uint32_t lines);
uint32_t kv_kept_tiles(uint32_t lines);

/* Floats of scratch that a sweep wants for these dims and panel width, whatever n. */
size_t kv_sweep_scratch(const struct kv_sweep *sweep);
void kv_sweep_run(const struct kv_sweep *sweep, float *scratch);

/* A second pass when log_sum_exp is known: the exact weights themselves, for those who ask.
 * column_sum[j], if not NULL, += sum over rows of a (double, rows in order); weights, if not NULL, receives
 * [rows.n][lines.n] with 0 where not visible. */
void kv_sweep_weights(const struct kv_sweep *sweep, double *column_sum, float *weights,
                      float *scratch);

/* A bound on |answer - exact|, per element, for rows of at most `lines` visible lines, keys and
 * queries of the given largest row norms, values of the given largest magnitude: the derivation is
 * in bound.c. The audit of every run uses it. */
double kv_sweep_bound(const struct kv_geometry *geometry, uint32_t lines, double query_norm,
                      double key_norm, double value_max);

#endif
