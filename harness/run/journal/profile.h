/* Where the wall time of a run goes, by stages that follow each other, and its memory, by what it holds
 * at most: `run --profile FILE`. */
#ifndef KVBENCH_HARNESS_PROFILE_H
#define KVBENCH_HARNESS_PROFILE_H

#include <stdint.h>

#include "harness/base/status.h"

enum kv_stage_of_run {
    KV_STAGE_OPEN,               /* opening traces, content hashes included */
    KV_STAGE_READ,               /* waiting for a layer's rows */
    KV_STAGE_REFERENCE,          /* exact attention: computed, or loaded from the cache folder */
    KV_STAGE_AUDIT,              /* sampled queries of it against the definition, every time */
    KV_STAGE_PROMPT,             /* prompt statistics that policies asked for: among the replays, a thread's share */
    KV_STAGE_REPLAY,             /* caches, codecs, answers: all threads */
    KV_STAGE_MEASURE,            /* errors of the answers: among the replays, a thread's share */
    KV_STAGES
};

enum kv_memory_of_run {
    KV_MEMORY_LAYERS,            /* Q, K, V as recorded, of all layers that are in memory at once */
    KV_MEMORY_REFERENCE,         /* exact answers */
    KV_MEMORY_PROMPT,            /* prompt statistics */
    KV_MEMORY_LOGITS,            /* exact ones that methods share */
    KV_MEMORY_ANSWERS,           /* of all methods that hold some at once */
    KV_MEMORY_CLASSES
};

struct kv_profile {
    double seconds[KV_STAGES];
    int64_t bytes[KV_MEMORY_CLASSES]; /* the most of each, not at the same time */
    uint64_t logits_again; /* exact ones that methods computed for themselves, there being no room to keep them */
};

/* The profile keeps the most. */
void kv_profile_note(struct kv_profile *profile, enum kv_memory_of_run kind, uint64_t bytes);

struct kv_results;

/* JSON: wall seconds, seconds and share of each stage, what is left over ("other"), and how busy the
 * threads were in replay. */
int kv_profile_write(const char *path, const struct kv_results *results, struct kv_error *err);

#endif
