/* The replay of one unit: the smallest set of KV heads of one layer, or of a group of layers, that
 * share a bank, a policy call or a pool, through one spec. Order of events: reference replay.md. Two roads give the answers:
 *
 *   fast  when nothing feeds back from answers: all steps first, collecting lines; then one sweep of
 *         all scored queries over tiles of lines;
 *   slow  token by token over a decoded mirror of the held rows: policies that observe weights or
 *         select per query.
 *
 *   state a method that keeps no rows (methods/answer.h): state_replay.h. It has no caches.
 *
 * A result is a function of (trace, spec, seed, isa) alone. */
#ifndef KVBENCH_HARNESS_REPLAY_H
#define KVBENCH_HARNESS_REPLAY_H

#include <signal.h>
#include <stdatomic.h>

#include "harness/replay/exact_logits.h"
#include "methods/cache/cache.h"
#include "traces/trace.h"

enum kv_road { KV_ROAD_AUTO, KV_ROAD_FAST, KV_ROAD_SLOW };

/* Arrays of a whole layer, [kv_heads][n_scored][group] and so on; a unit fills its heads' share. */
struct kv_answer_arrays {
    float *outputs;                   /* ... [value_dim] */
    float *log_sum_exp, *divergence, *held_mass, *drift;
    float *span_mass;                 /* ... [n_spans] */
};

struct kv_replay {
    const struct kv_layer *owner;     /* whose K and V are cached, and whose queries policies see */
    const struct kv_layer *reader;    /* whose queries are answered: the owner, or a layer that shares its K, V */
    const struct kv_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_prompt *prompts;        /* [kv_heads], of the owner */
    bool widens_prompt;               /* rows and queries of it that the spec reads are added to prompts,
                                       * and gone once it is taken in */
    struct kv_survey survey;          /* when kv_survey_wanted; else n is 0 */
    uint32_t first_head, n_heads;
    uint32_t n_scored; const uint32_t *scored;
    const float *exact_log_sum_exp;   /* [kv_heads][n_scored][group] of the reader; NULL: no comparison */
    struct kv_spans spans;
    uint64_t seed;
    enum kv_road road;
    bool exact_layer;                 /* layers= or exact_layers= leave this layer out: full cache, default codec */
    const struct kv_fit_rows *calibration;   /* of the owner's layer; NULL: fits see the prompt */
    bool audit;                       /* recount every step */
    bool garble;                      /* check mode: codes are spoiled after encoding */
    const volatile sig_atomic_t *stop;      /* ends the replay early with KV_EINTERRUPTED */
    double deadline;                  /* kv_clock_seconds() after which KV_ETIMEOUT; 0 = none */
    struct kv_exact_logits *exact_logits;   /* of the reader, shared with other replays; NULL: none */
    struct kv_answer_arrays answers;
};

struct kv_replay_account {            /* of the unit, at the end of the replay */
    struct kv_cache_bytes bytes;      /* both caches */
    int64_t policy_bytes, shared_basis, workspace_bytes, allocated_bytes;
    double read_bytes;                /* summed over decode steps; of what is resident */
    double offloaded_read_bytes;      /* likewise, of what lies on the host */
    uint64_t held_rows;               /* summed over heads */
    uint64_t settled_rows;            /* that a budget in bytes or bits came to, summed over heads */
    uint64_t coded_rows;              /* rows encoded so far, summed over heads */
    double key_error2, key_norm2, value_error2, value_norm2;
};

/* A group of n layers that some codec of the spec serves together: a replay and an account each, the
 * same spec, heads and seed. A replay without scored tokens is replayed, but not answered. All memory
 * is of the pool, which is empty. */
int kv_replay_group(const struct kv_replay *replays, uint32_t n, struct kv_replay_account *accounts,
                    struct kv_pool *pool, struct kv_error *err);

/* The same, and hands the finished caches over (dump). main [n], rest [n]. */
int kv_replay_keep(const struct kv_replay *replays, uint32_t n, struct kv_replay_account *accounts,
                   struct kv_pool *pool, struct kv_cache **main, struct kv_cache **rest,
                   struct kv_error *err);

/* Whether the answers are given by a sweep, which asks for query rows; and for exact logits, where keys may not be
 * the recorded ones. */
bool kv_replay_sweeps(const struct kv_replay *replay);
bool kv_replay_asks_logits(const struct kv_replay *replay);

/* KV_EINTERRUPTED or KV_ETIMEOUT when the replay is to end here. */
int kv_replay_stops(const struct kv_replay *replay, struct kv_error *err);

/* How many KV heads a unit of this spec has: 1, or all of the layer. */
uint32_t kv_replay_unit_heads(const struct kv_spec *spec, const struct kv_geometry *geometry);

#endif
