/* Counted memory; see pool.h. Blocks are bump-allocated from chunks that double in size. */
#include "harness/base/pool.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"

enum { ALIGNMENT = 64, FIRST_CHUNK = 1 << 16, LARGEST_CHUNK = 1 << 22 };

struct chunk {
    struct chunk *next;
    size_t size, used;
    char *bytes;
};

struct kv_pool {
    struct chunk *chunks, *spare;   /* the newest first; of earlier use, in the order in which they came */
    size_t limit, reserved;
    int64_t used[KV_CLASSES], peak[KV_CLASSES];
};

/* True when KV_POOL_FAIL_AT names this reservation (counted from 1 over the process). */
static int must_fail(void)
{
    static atomic_long count;
    const char *at = getenv("KV_POOL_FAIL_AT");
    return at && atomic_fetch_add(&count, 1) + 1 == atol(at);
}

struct kv_pool *kv_pool_create(size_t limit_bytes)
{
    struct kv_pool *pool = calloc(1, sizeof *pool);
    if (pool) pool->limit = limit_bytes;
    return pool;
}

static void free_chunks(struct chunk *chunk)
{
    for (struct chunk *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk->bytes);
        free(chunk);
    }
}

void kv_pool_destroy(struct kv_pool *pool)
{
    if (!pool) return;
    free_chunks(pool->chunks);
    free_chunks(pool->spare);
    free(pool);
}

void kv_pool_empty(struct kv_pool *pool)
{
    free_chunks(pool->spare);
    struct chunk *spare = NULL;
    for (struct chunk *chunk = pool->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        chunk->next = spare, chunk->used = 0;
        spare = chunk;
    }
    *pool = (struct kv_pool){.spare = spare, .limit = pool->limit};
}

/* The first spare chunk that is large enough, and not so large that another need is meant for it. */
static struct chunk *take_spare(struct kv_pool *pool, size_t at_least, size_t size)
{
    struct chunk **at = &pool->spare;
    while (*at && ((*at)->size < at_least || (*at)->size > 2 * size)) at = &(*at)->next;
    struct chunk *found = *at;
    if (found) *at = found->next;
    return found;
}

static struct chunk *make_chunk(size_t size)
{
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) return NULL;
    chunk->bytes = kv_large_alloc(size);
    if (!chunk->bytes) {
        free(chunk);
        return NULL;
    }
    chunk->size = size;
    return chunk;
}

/* Where no spare chunk will do, the others go first: a pool never holds more than the larger of two uses
 * in succession. */
static struct chunk *add_chunk(struct kv_pool *pool, size_t at_least)
{
    size_t size = pool->chunks ? pool->chunks->size * 2 : FIRST_CHUNK;
    if (size > LARGEST_CHUNK) size = LARGEST_CHUNK;
    if (size < at_least) size = at_least;
    struct chunk *chunk = take_spare(pool, at_least, size);
    if (!chunk) {
        free_chunks(pool->spare);
        pool->spare = NULL;
        chunk = make_chunk(size);
    }
    if (!chunk) return NULL;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    return chunk;
}

/* A block, whatever is in it. */
static void *hand_out(struct kv_pool *pool, size_t bytes, size_t *rounded_bytes)
{
    if (bytes > SIZE_MAX / 2 || must_fail()) return NULL;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded == 0) rounded = ALIGNMENT;
    if (pool->limit && pool->reserved + rounded > pool->limit) return NULL;
    struct chunk *chunk = pool->chunks;
    if (!chunk || chunk->size - chunk->used < rounded) chunk = add_chunk(pool, rounded);
    if (!chunk) return NULL;
    char *block = chunk->bytes + chunk->used;
    chunk->used += rounded;
    pool->reserved += rounded;
    *rounded_bytes = rounded;
    return block;
}

void *kv_pool_take(struct kv_pool *pool, size_t bytes)
{
    size_t rounded;
    void *block = hand_out(pool, bytes, &rounded);
    return block ? memset(block, 0, rounded) : NULL;
}

#ifdef __SANITIZE_ADDRESS__
enum { SHOWS_UNWRITTEN = 1 };
#else
enum { SHOWS_UNWRITTEN = 0 };
#endif

void *kv_pool_room(struct kv_pool *pool, size_t bytes)
{
    size_t rounded;
    void *block = hand_out(pool, bytes, &rounded);
    return block && SHOWS_UNWRITTEN ? memset(block, 0xff, rounded) : block;
}

void *kv_pool_reserve(struct kv_pool *pool, enum kv_class class, size_t bytes)
{
    void *block = kv_pool_take(pool, bytes);
    if (block) kv_pool_charge(pool, class, (int64_t)bytes);
    return block;
}

void kv_pool_charge(struct kv_pool *pool, enum kv_class class, int64_t bytes)
{
    pool->used[class] += bytes;
    if (pool->used[class] > pool->peak[class]) pool->peak[class] = pool->used[class];
}

int64_t kv_pool_used(const struct kv_pool *pool, enum kv_class class) { return pool->used[class]; }

int64_t kv_pool_peak(const struct kv_pool *pool, enum kv_class class) { return pool->peak[class]; }

size_t kv_pool_reserved(const struct kv_pool *pool) { return pool->reserved; }
