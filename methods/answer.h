/* An answer: a method that keeps no rows. It takes in every token once and answers from a state of
 * constant size: linear attention, and what stands for recurrent layers. interface.md section 9.
 *
 * One object serves one KV head. The prompt enters token by token, after the fit; then, each step,
 * the new token enters and the step's queries are answered, this token included. Nothing can be
 * dropped, quantized or read back: a spec with such a stage has no other. */
#ifndef KVBENCH_METHODS_ANSWER_H
#define KVBENCH_METHODS_ANSWER_H

#include "methods/setup.h"

struct kv_state { /* first member of every object */
    const struct kv_answer *type;
};

struct kv_answer {
    const char *name, *summary, *paper;
    const struct kv_param *params;
    size_t config_size;
    /* Makes an empty state from setup->pool: its bytes are charged here, whole, as payload and
     * metadata; what a fit will find, as basis. */
    int (*create)(struct kv_state **out, const struct kv_setup *setup, struct kv_error *err);
    /* Optional: a sample's row is a key and its value, its queries those of the head's group. What
     * a calibration or the prompt recorded, as one text from its beginning. */
    int (*fit)(struct kv_state *state, const struct kv_sample *sample, struct kv_error *err);
    void (*append)(struct kv_state *state, const float *key, const float *value);
    /* query [key_dim] of a head of the group -> output [value_dim]. */
    void (*answer)(const struct kv_state *state, const float *query, float *output);
};

/* The methods, ended by NULL. */
extern const struct kv_answer *const kv_answers[];
const struct kv_answer *kv_answer_find(const char *name);

#endif
