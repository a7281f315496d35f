/* Stages of a spec: parameters in, canonical text out. Private to the spec parser. */
#ifndef KVBENCH_METHODS_SPEC_STAGE_H
#define KVBENCH_METHODS_SPEC_STAGE_H

#include "methods/spec/spec.h"

/* A stage of that method with its defaults, in pool; KV_EUSAGE with the nearest known name. */
int kv_stage_create(struct kv_stage **out, const char *name, struct kv_pool *pool,
                    struct kv_error *err);

const char *kv_stage_name(const struct kv_stage *stage);

/* Sets one `key=value`; spec receives layers=, exact_layers=, query= and layout=. */
int kv_stage_set(struct kv_stage *stage, struct kv_spec *spec, const char *key, const char *value,
                 struct kv_error *err);

/* Appends the canonical text of the stage. */
void kv_stage_print(const struct kv_stage *stage, char *text, size_t capacity);

/* Parameters that every policy with a score has, and every codec stage. */
extern const struct kv_param kv_trim_params[], kv_modifier_params[];
/* What is said of a whole spec, on any of its stages; names and words alone. */
extern const struct kv_param kv_spec_params[];

#endif
