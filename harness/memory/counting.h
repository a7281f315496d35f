/* What the parts of counting share (memory_count.c, counting_record.c, counting_caches.c,
 * counting_held.c); nobody else includes it. */
#ifndef KVBENCH_HARNESS_MEMORY_COUNTING_H
#define KVBENCH_HARNESS_MEMORY_COUNTING_H

#include "harness/memory/held_rows.h"
#include "harness/memory/memory_count.h"
#include "methods/cache/cache.h"

enum pattern { FLAT, RANDOM }; /* all rows and weights alike; all different */

/* Caches over rows that are counted and not kept, of a made-up recording. */
struct counting {
    const struct kv_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_geometry geometry; /* of the first layer */
    uint32_t n_layers;
    struct kv_geometry *geometries; /* [n_layers] */
    struct kv_pool *pool;
    enum pattern pattern;
    const uint32_t *layers;        /* [n_layers] of the model */
    struct kv_tensor keys, values; /* of the made-up recording */
    struct kv_prompt *prompts;     /* [unit heads] */
    uint32_t unit_heads;
    double *inv_freq;
    int32_t *positions;
    struct kv_cache **main, **rest; /* [n_layers]; rest NULL: there is none */
    struct kv_held_rows *held;      /* [n_layers] scratch */
};

/* Of so many tokens at least one came at once. */
static inline uint32_t kv_counting_prompt(uint32_t tokens, uint32_t decode)
{
    return decode < tokens ? tokens - decode : 1;
}

/* Makes up keys, values, a rotation and prompts of counting->geometry. */
int kv_counting_record(struct counting *counting, struct kv_error *err);
/* Numbers of the pattern: all alike, or all different. */
void kv_counting_fill(const struct counting *counting, float *array, size_t n);

int kv_counting_create(struct counting *counting, struct kv_error *err);
/* A method without rows: a state for every head, of any length. */
int kv_counting_create_state(struct counting *counting, struct kv_error *err);
int kv_counting_settle(const struct counting *counting, struct kv_error *err);
int kv_counting_run_steps(struct counting *counting, struct kv_error *err);

/* Adds what the caches hold. charged: the banks' metadata was charged to the pool, beside what the
 * policies keep. */
void kv_counting_add(struct kv_memory_bytes *sum, const struct counting *counting,
                     const struct kv_memory_shape *shape, bool charged);
void kv_counting_add_states(struct kv_memory_bytes *sum, const struct counting *counting,
                            const struct kv_memory_shape *shape);

/* By arithmetic, in caches that were made once; *known is false where that does not do. ends: the
 * least is asked for, too. */
int kv_counting_by_rule(struct counting *counting, const struct kv_memory_shape *shape,
                        uint32_t tokens, uint32_t decode, bool ends, struct kv_memory_bytes *bytes,
                        bool *known, struct kv_error *err);

#endif
