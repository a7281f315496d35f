/* Claimed figures of papers as data (experiments/papers/NAME.csv), and the verdict on each.
 *
 * Columns: claim (its name), paper, table, setting (key=value;key=value for the measure),
 * measure (a row of claim_measures.c), metric (what the number is, for people), claimed,
 * tolerance, direction, expected, note. `claimed` is a number or a bound (">0.95"); empty when
 * the paper shows a picture and prints none. `tolerance` is a share ("1%") or absolute
 * ("0.005"). `direction` is a bound that leaves the claim's sign intact (">1"). `expected` is
 * the verdict that this code is known to reach on the bundled traces; another one is an error. */
#ifndef KVBENCH_HARNESS_CLAIMS_CLAIMS_H
#define KVBENCH_HARNESS_CLAIMS_CLAIMS_H

#include <stdint.h>

#include "harness/base/status.h"
#include "methods/kernels/kernels.h"

enum kv_claim_verdict {
    KV_REPRODUCED, KV_DIRECTION_ONLY, KV_NOT_REPRODUCED, KV_CANNOT_TEST
};

struct kv_claim {
    char *source;             /* file name without folder and .csv: what is asked for */
    char *claim, *paper, *table, *setting, *measure, *metric;
    char *claimed, *tolerance, *direction, *expected, *note;
    double measured;          /* NaN: see reason */
    enum kv_claim_verdict verdict;
    char reason[256];
};

struct kv_claims { uint32_t n; struct kv_claim *claim; };

/* Reads every *.csv of the folder, in the order of their names; figures are not measured yet.
 * folder NULL: experiments/papers of the tree that the program or the working folder lies in. */
int kv_claims_read(struct kv_claims *claims, const char *folder, struct kv_error *err);
void kv_claims_free(struct kv_claims *claims);

/* The folder `name` (say traces/data) of the tree that the program or the working folder lies
 * in; false when there is none. */
_Bool kv_tree_folder(char folder[4096], const char *name);

/* The four verdicts as the tables spell them. */
const char *kv_claim_verdict_name(enum kv_claim_verdict verdict);

/* What a measure works with. */
struct kv_measuring {
    const struct kv_kernels *kernels;
    uint64_t seed;
    uint32_t n_traces;
    const char *const *traces;            /* paths */
};

/* The figure of a setting. A measure that cannot be taken here sets *figure to NaN and says why in
 * reason (KV_OK); other statuses are errors of the input. */
typedef int kv_claim_measure(double *figure, const char *setting,
                             const struct kv_measuring *measuring, char reason[256],
                             struct kv_error *err);

/* Measures one claim and judges it. */
int kv_claim_test(struct kv_claim *claim, const struct kv_measuring *measuring,
                  struct kv_error *err);

/* Judges claim->measured against what is claimed; fills verdict and reason. KV_EINPUT when claimed,
 * tolerance or direction cannot be read. */
int kv_claim_judge(struct kv_claim *claim, struct kv_error *err);

/* The value of key in a setting, copied to value; false when it is not there or too long. */
_Bool kv_setting_text(const char *setting, const char *key, char *value, unsigned capacity);
/* The same as a number, or `otherwise`. */
double kv_setting_number(const char *setting, const char *key, double otherwise);

/* Measures of arithmetic (claim_memory.c). */
kv_claim_measure kv_claim_memory, kv_claim_serving, kv_claim_value, kv_claim_words;
/* Measures on random unit vectors (claim_vectors.c). */
kv_claim_measure kv_claim_distortion, kv_claim_inner_product, kv_claim_softmax_ratio,
    kv_claim_normal_error;
/* Measures on recorded tensors (claim_traces.c, claim_attention.c). */
kv_claim_measure kv_claim_axis_ratio, kv_claim_sketch_hurts;
kv_claim_measure kv_claim_row_ratio, kv_claim_atom_bits;
/* ... of rows of attention (claim_attended.c) and of what policies keep (claim_policies.c). */
kv_claim_measure kv_claim_sink_mass, kv_claim_persistence, kv_claim_heavy_mass, kv_claim_idle_share;
kv_claim_measure kv_claim_hit_rate, kv_claim_recall, kv_claim_recency, kv_claim_first_kept;
kv_claim_measure kv_claim_score_correlation, kv_claim_error_rank;
kv_claim_measure kv_claim_sparse_layers, kv_claim_sparsity, kv_claim_power_law, kv_claim_overlap;

#endif
