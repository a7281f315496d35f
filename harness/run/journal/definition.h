/* What a run was asked to do, taken back from the manifest of its result directory: --resume. */
#ifndef KVBENCH_HARNESS_RUN_DEFINITION_H
#define KVBENCH_HARNESS_RUN_DEFINITION_H

#include "harness/base/status.h"

struct kv_definition {
    int n;
    char **
        words; /* [n] arguments of `run`: specs, traces, kernel set, seeds, and what changes rows */
};

/* KV_EINPUT naming the file when it is not a manifest that a run wrote. Free it in any case. */
int kv_definition_read(struct kv_definition *definition, const char *folder, struct kv_error *err);
void kv_definition_free(struct kv_definition *definition);

#endif
