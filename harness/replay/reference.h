/* The exact reference of one layer: fp32 attention of every scored query over the recorded rows,
 * computed once per trace, kept in the user's cache folder, audited against the scalar double
 * definition on every run. */
#ifndef KVBENCH_HARNESS_REFERENCE_H
#define KVBENCH_HARNESS_REFERENCE_H

#include "harness/replay/reference_store.h"
#include "harness/replay/replay.h"

struct kv_reference {
    float *outputs;               /* [kv_heads][n_scored][group][value_dim] */
    float *log_sum_exp;           /* [kv_heads][n_scored][group] */
    float *span_mass;             /* ... [n_spans] */
    double projected2;            /* squares of the outputs through W_o; 0 without it */
    bool from_disk;
    double seconds, audit_seconds;   /* the second is in the first */
    double worst_deviation, worst_bound;   /* of the audited query closest to its bound */
    size_t bytes;                 /* of the arrays, which are the pool's or, from disk, the file's */
    struct kv_pool *pool;
    struct kv_stored stored;
};

struct kv_reference_input {
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    uint32_t n_scored; const uint32_t *scored;
    struct kv_spans spans;
    const char *content_hash;     /* of the trace; NULL: nothing is kept on disk */
    const char *version;          /* of the program: another one computes anew */
    int threads;
    bool audited;                 /* by an earlier call of this run */
};

/* Loads or computes, then audits unless that is done. KV_EGATE when a sampled query is farther from the definition than
 * the sweep's derived bound: no result can be believed then. */
int kv_reference_get(struct kv_reference **out, const struct kv_reference_input *input,
                     struct kv_error *err);
void kv_reference_free(struct kv_reference *reference);

#endif
