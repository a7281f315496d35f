/* Shared logits; see exact_logits.h. */
#include "harness/replay/exact_logits.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"

struct head {
    omp_lock_t lock;
    uint32_t users;            /* still to leave */
    bool tried;
    struct kv_kept kept;
    size_t bytes;
};

struct kv_exact_logits {
    struct kv_scored scored;
    size_t bound;              /* bytes */
    atomic_size_t left, least; /* of the bound; at the fullest */
    atomic_size_t again;       /* pairs of a query and a key that somebody asked for who did not get them */
    uint32_t n;
    struct head heads[];
};

struct kv_exact_logits *kv_exact_logits_create(const struct kv_scored *scored, size_t bytes)
{
    const uint32_t n = scored->layer->info->geometry.kv_heads;
    struct kv_exact_logits *shared = calloc(1, sizeof *shared + n * sizeof *shared->heads);
    if (!shared) return NULL;
    shared->scored = *scored, shared->n = n;
    shared->bound = bytes;
    atomic_init(&shared->left, bytes);
    atomic_init(&shared->least, bytes);
    atomic_init(&shared->again, 0);
    for (uint32_t h = 0; h < n; h++) omp_init_lock(&shared->heads[h].lock);
    return shared;
}

void kv_exact_logits_free(struct kv_exact_logits *shared)
{
    for (uint32_t h = 0; shared && h < shared->n; h++) {
        omp_destroy_lock(&shared->heads[h].lock);
        free(shared->heads[h].kept.logits);
    }
    free(shared);
}

size_t kv_exact_logits_most(const struct kv_exact_logits *shared)
{
    return shared ? shared->bound - atomic_load(&shared->least) : 0;
}

size_t kv_exact_logits_again(const struct kv_exact_logits *shared)
{
    return shared ? atomic_load(&shared->again) : 0;
}

/* Keys that the scored queries see whose rows are not kept. */
static size_t pairs_beyond(const struct kv_exact_logits *shared, const struct kv_kept *kept)
{
    const uint32_t group = shared->scored.layer->info->geometry.group, all = shared->scored.n * group;
    size_t pairs = 0;
    for (uint32_t r = 0; r < (kept->rows ? kept->first : all); r++) pairs += shared->scored.tokens[r / group] + (size_t)1;
    return pairs;
}

void kv_exact_logits_expect(struct kv_exact_logits *shared, uint32_t head)
{
    if (shared) shared->heads[head].users++;
}

static void note_least(struct kv_exact_logits *shared, size_t left)
{
    size_t least = atomic_load(&shared->least);
    while (left < least && !atomic_compare_exchange_weak(&shared->least, &least, left)) continue;
}

/* As many whole blocks as the bound has room for, taken from it: of the last rows, which see most. */
static void reserve(struct kv_exact_logits *shared, struct head *head)
{
    const struct kv_geometry *geometry = &shared->scored.layer->info->geometry;
    const uint32_t stride = kv_kept_stride(geometry->tokens), all = shared->scored.n * geometry->group;
    size_t left = atomic_load(&shared->left);
    do {
        const size_t room = left / (stride * sizeof(float));
        /* A block in part would not be spared. */
        const size_t first = room < all ? (all - room + KV_SWEEP_BLOCK - 1) / KV_SWEEP_BLOCK * KV_SWEEP_BLOCK : 0;
        head->kept = (struct kv_kept){.rows = first < all ? all - (uint32_t)first : 0, .stride = stride,
                                      .first = (uint32_t)first};
        head->bytes = (size_t)head->kept.rows * stride * sizeof(float);
    } while (!atomic_compare_exchange_weak(&shared->left, &left, left - head->bytes));
    note_least(shared, left - head->bytes);
    /* What no query of a block sees stays 0. */
    if (head->kept.rows) head->kept.logits = kv_large_alloc(head->bytes);
    if (head->kept.logits) memset(head->kept.logits, 0, head->bytes);
    else head->kept.rows = 0;
}

/* Leaves the sweep the rows that are kept, counted from the first of them. */
static void keep_rows(struct kv_sweep *sweep, struct kv_kept kept)
{
    struct kv_rows *rows = &sweep->rows;
    rows->queries += (size_t)kept.first * sweep->geometry->key_dim;
    rows->token += kept.first;
    if (rows->sink_logit) rows->sink_logit += kept.first;
    rows->n = kept.rows;
    kept.first = 0;
    sweep->kept = kept;
}

static bool compute(const struct kv_exact_logits *shared, uint32_t head)
{
    struct kv_pool *pool = kv_pool_create(0);
    struct kv_scored_sweep exact;
    struct kv_error ignored;
    bool done = pool && kv_scored_sweep_create(&exact, &shared->scored, head, pool, &ignored) == KV_OK;
    float *sums = done ? kv_pool_take(pool, shared->heads[head].kept.rows * sizeof *sums) : NULL;
    done = sums != NULL;
    if (done) {
        keep_rows(&exact.sweep, shared->heads[head].kept);
        exact.sweep.answers.log_sum_exp = sums;
        kv_sweep_run(&exact.sweep, exact.scratch);
    }
    kv_pool_destroy(pool);
    return done;
}

struct kv_kept kv_exact_logits_take(struct kv_exact_logits *shared, uint32_t head)
{
    if (!shared) return (struct kv_kept){0};
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    if (!one->tried && one->users > 1) {
        reserve(shared, one);
        if (one->kept.rows && !compute(shared, head)) one->kept.rows = 0;
        one->tried = true;
    }
    const struct kv_kept kept = one->kept;
    omp_unset_lock(&one->lock);
    atomic_fetch_add(&shared->again, pairs_beyond(shared, &kept));
    return kept;
}

void kv_exact_logits_leave(struct kv_exact_logits *shared, uint32_t head)
{
    if (!shared) return;
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    if (--one->users == 0) {
        free(one->kept.logits);
        atomic_fetch_add(&shared->left, one->bytes);
        one->kept = (struct kv_kept){0}, one->bytes = 0;
    }
    omp_unset_lock(&one->lock);
}
