/* Options of kvbench memory. */
#ifndef KVBENCH_HARNESS_COMMANDS_MEMORY_OPTIONS_H
#define KVBENCH_HARNESS_COMMANDS_MEMORY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/base/status.h"

enum { KV_MOST_MODELS = 64 };

struct kv_memory_options {
    char *models[KV_MOST_MODELS]; /* names or files */
    uint32_t n_models;
    char *methods; /* specs, never NULL */
    const char *format, *plot;
    uint64_t context, batch, decode, element_bits, state_bits, block, chunk, tensor, contexts, ring,
        users, prefix, fit;
    double weights_bits;
    bool all_rows, serving;
};

/* Reads the words behind `memory`; KV_HELPED as of arguments.h. Free it whatever is returned. */
int kv_memory_options_read(struct kv_memory_options *options, int n, char **words, struct kv_error *err);
void kv_memory_options_free(struct kv_memory_options *options);

#endif
