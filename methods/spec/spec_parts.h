/* What the parts of the spec parser share (spec.c, spec_list.c, spec_text.c, spec_traits.c). */
#ifndef KVBENCH_METHODS_SPEC_PARTS_H
#define KVBENCH_METHODS_SPEC_PARTS_H

#include "methods/spec/spec.h"

enum { KV_SPEC_TEXT = 4096 };   /* characters that a spec may have */

/* One spec without sweeps, into *spec, which is zero. */
int kv_spec_parse_one(struct kv_spec *spec, const char *text, struct kv_error *err);

/* Makes the canonical text anew. */
int kv_spec_print(struct kv_spec *spec, struct kv_pool *pool, struct kv_error *err);

/* Fills in family, oracle and random from what the stages are. */
void kv_spec_note_traits(struct kv_spec *spec);

#endif
