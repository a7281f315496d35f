/* Shared logits; see exact_logits.h. */
#include "harness/replay/exact_logits.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"

struct head {
    omp_lock_t lock;
    uint32_t users, judges;    /* still to leave; of them, who asks for logits */
    struct kv_pool *pool;      /* of rows; NULL: nobody asked yet, or nobody shares */
    struct kv_rows rows;
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
        kv_pool_destroy(shared->heads[h].pool);
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

void kv_exact_logits_expect(struct kv_exact_logits *shared, uint32_t head, bool logits)
{
    if (!shared) return;
    shared->heads[head].users++;
    shared->heads[head].judges += logits;
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

/* The head's query rows, by whoever holds its lock. */
static bool share_rows(struct kv_exact_logits *shared, uint32_t head)
{
    struct head *one = &shared->heads[head];
    struct kv_error ignored;
    if (one->pool || one->users < 2) return one->pool;
    one->pool = kv_pool_create(0);
    if (one->pool && kv_scored_rows(&one->rows, &shared->scored, head, one->pool, &ignored) == KV_OK) return true;
    kv_pool_destroy(one->pool);
    one->pool = NULL;
    return false;
}

/* The rows that are kept. */
static struct kv_rows kept_rows(const struct head *head, uint32_t dim)
{
    const struct kv_rows *all = &head->rows;
    const uint32_t first = head->kept.first;
    return (struct kv_rows){.n = head->kept.rows, .queries = all->queries + (size_t)first * dim,
                            .token = all->token + first,
                            .sink_logit = all->sink_logit ? all->sink_logit + first : NULL};
}

static bool compute(struct kv_exact_logits *shared, uint32_t head)
{
    const struct head *one = &shared->heads[head];
    if (!share_rows(shared, head)) return false;
    const struct kv_rows rows = kept_rows(one, shared->scored.layer->info->geometry.key_dim);
    struct kv_pool *pool = kv_pool_create(0);
    struct kv_scored_sweep exact;
    struct kv_error ignored;
    bool done = pool && kv_scored_sweep_create(&exact, &shared->scored, head, &rows, pool, &ignored) == KV_OK;
    float *sums = done ? kv_pool_take(pool, rows.n * sizeof *sums) : NULL;
    done = sums != NULL;
    if (done) {
        exact.sweep.kept = one->kept;
        exact.sweep.kept.first = 0;
        exact.sweep.answers.log_sum_exp = sums;
        kv_sweep_run(&exact.sweep, exact.scratch);
    }
    kv_pool_destroy(pool);
    return done;
}

bool kv_exact_logits_rows(struct kv_exact_logits *shared, uint32_t head, struct kv_rows *rows)
{
    if (!shared) return false;
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    const bool done = share_rows(shared, head);
    omp_unset_lock(&one->lock);
    if (done) *rows = one->rows;
    return done;
}

struct kv_kept kv_exact_logits_take(struct kv_exact_logits *shared, uint32_t head)
{
    if (!shared) return (struct kv_kept){0};
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    if (!one->tried && one->judges > 1) {
        reserve(shared, one);
        if (one->kept.rows && !compute(shared, head)) one->kept.rows = 0;
        one->tried = true;
    }
    const struct kv_kept kept = one->kept;
    omp_unset_lock(&one->lock);
    atomic_fetch_add(&shared->again, pairs_beyond(shared, &kept));
    return kept;
}

static void forget_logits(struct kv_exact_logits *shared, struct head *head)
{
    free(head->kept.logits);
    atomic_fetch_add(&shared->left, head->bytes);
    head->kept = (struct kv_kept){0}, head->bytes = 0;
}

void kv_exact_logits_leave(struct kv_exact_logits *shared, uint32_t head, bool logits)
{
    if (!shared) return;
    struct head *one = &shared->heads[head];
    omp_set_lock(&one->lock);
    if (logits && --one->judges == 0) forget_logits(shared, one);
    if (--one->users == 0) {
        kv_pool_destroy(one->pool);
        one->pool = NULL;
    }
    omp_unset_lock(&one->lock);
}
