/* Prompt statistics, a head at a time; see shared_prompts.h. */
#include "harness/run/layers/shared_prompts.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "harness/base/clock.h"
#include "harness/replay/prompt_statistics.h"

struct head {
    omp_lock_t lock;           /* held while they are computed: who comes meanwhile waits */
    uint32_t users;            /* still to leave */
    struct kv_prompt prompt;
    struct kv_pool *pool;      /* of the prompt; NULL: not computed, or forgotten */
    double seconds;            /* that computing them took */
    int status;
    struct kv_error error;
};

struct kv_shared_prompts {
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    struct kv_wants wants;
    atomic_size_t bytes, most;
    uint32_t n;
    struct head heads[];
};

bool kv_shared_prompts_wanted(const struct kv_wants *wants)
{
    return wants->tail || wants->column_sum || wants->future || wants->output_norms || wants->fisher ||
           wants->label;
}

struct kv_shared_prompts *kv_shared_prompts_create(const struct kv_layer *layer, const struct kv_wants *wants,
                                                   const struct kv_kernels *kernels)
{
    const uint32_t n = layer->info->geometry.kv_heads;
    struct kv_shared_prompts *shared = calloc(1, sizeof *shared + n * sizeof *shared->heads);
    if (!shared) return NULL;
    shared->layer = layer, shared->kernels = kernels, shared->wants = *wants, shared->n = n;
    shared->wants.prompt_rows = shared->wants.queries = false;
    atomic_init(&shared->bytes, 0);
    atomic_init(&shared->most, 0);
    for (uint32_t h = 0; h < n; h++) omp_init_lock(&shared->heads[h].lock);
    return shared;
}

void kv_shared_prompts_free(struct kv_shared_prompts *shared)
{
    for (uint32_t h = 0; shared && h < shared->n; h++) {
        omp_destroy_lock(&shared->heads[h].lock);
        kv_pool_destroy(shared->heads[h].pool);
    }
    free(shared);
}

size_t kv_shared_prompts_most(const struct kv_shared_prompts *shared)
{
    return shared ? atomic_load(&shared->most) : 0;
}

double kv_shared_prompts_seconds(const struct kv_shared_prompts *shared)
{
    double seconds = 0;
    for (uint32_t h = 0; shared && h < shared->n; h++) seconds += shared->heads[h].seconds;
    return seconds;
}

void kv_shared_prompts_expect(struct kv_shared_prompts *shared, uint32_t head)
{
    shared->heads[head].users++;
}

static void note_bytes(struct kv_shared_prompts *shared, const struct kv_pool *pool)
{
    const size_t bytes = kv_pool_reserved(pool);
    const size_t now = atomic_fetch_add(&shared->bytes, bytes) + bytes;
    size_t most = atomic_load(&shared->most);
    while (now > most && !atomic_compare_exchange_weak(&shared->most, &most, now)) continue;
}

/* With the head's lock. */
static void compute(struct kv_shared_prompts *shared, uint32_t head)
{
    struct head *one = &shared->heads[head];
    if (one->pool || one->status != KV_OK || !one->users) return;
    const double start = kv_clock_seconds();
    one->pool = kv_pool_create(0);
    one->status = one->pool ? kv_prompt_compute(&one->prompt, shared->layer, head, &shared->wants,
                                                shared->kernels, one->pool, &one->error)
                            : kv_fail(&one->error, KV_EMEMORY, "out of memory for prompt statistics");
    if (one->pool) note_bytes(shared, one->pool);
    one->seconds = kv_clock_seconds() - start;
}

void kv_shared_prompts_compute(struct kv_shared_prompts *shared, uint32_t head)
{
    omp_set_lock(&shared->heads[head].lock);
    compute(shared, head);
    omp_unset_lock(&shared->heads[head].lock);
}

int kv_shared_prompts_take(struct kv_shared_prompts *shared, uint32_t head, struct kv_prompt *prompt,
                           struct kv_error *err)
{
    struct head *one = &shared->heads[head];
    kv_shared_prompts_compute(shared, head);
    *prompt = one->prompt;
    if (one->status != KV_OK) *err = one->error;
    return one->status;
}

void kv_shared_prompts_leave(struct kv_shared_prompts *shared, uint32_t head)
{
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    if (--one->users == 0 && one->pool) {
        atomic_fetch_sub(&shared->bytes, kv_pool_reserved(one->pool));
        kv_pool_destroy(one->pool);
        one->pool = NULL;
    }
    omp_unset_lock(&one->lock);
}
