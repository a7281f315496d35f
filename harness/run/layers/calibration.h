/* What bases and codebooks are fitted on when it is not the prompt (--calibrate): another recording
 * of the same model, or a range of tokens of each recording, which is then not scored. */
#ifndef KVBENCH_HARNESS_CALIBRATION_H
#define KVBENCH_HARNESS_CALIBRATION_H

#include "methods/cache/bank.h"
#include "methods/spec/spec.h"
#include "traces/trace.h"

struct kv_calibration;

/* text: FROM:TO in tokens, or a trace file, which is opened (flags of kv_trace_open). */
int kv_calibration_open(struct kv_calibration **out, const char *text, unsigned flags,
                        struct kv_error *err);
void kv_calibration_close(struct kv_calibration *calibration); /* NULL is fine */

/* From now on for this trace: KV_EUSAGE when a range does not lie in it. */
int kv_calibration_enter(struct kv_calibration *calibration, const struct kv_trace *trace,
                         struct kv_error *err);
/* Content hash of the other recording; "" where it is tokens of each trace itself. */
const char *kv_calibration_hash(const struct kv_calibration *calibration);
/* What rows of the trace say: "disjoint", "same-trace", or "oracle" when it is fitted on itself. */
const char *kv_calibration_kind(const struct kv_calibration *calibration);
/* Strikes the tokens of a range from the n scored ones; how many are left. */
uint32_t kv_calibration_spare(const struct kv_calibration *calibration, uint32_t *scored,
                              uint32_t n);

struct kv_fit_layer {
    struct kv_fit_rows rows;
    struct kv_layer *layer; /* of another trace: owned */
    struct kv_trace_layer shown;
    char missing[128];
};

/* The rows of one layer, as the spec sees them; owner is that of the trace at hand and must outlive them. A layer that the
 * other trace has not is no error: rows.missing says so to the methods that want it. */
int kv_calibration_read(struct kv_fit_layer *fit, const struct kv_calibration *calibration,
                        const struct kv_layer *owner, const struct kv_spec *spec,
                        struct kv_error *err);
void kv_fit_layer_free(struct kv_fit_layer *fit);

#endif
