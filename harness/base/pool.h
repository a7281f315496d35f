/* Memory whose use is counted by class: the only source of every byte that a cache is charged for.
 *
 * A pool hands out zeroed, 64-byte aligned blocks that stay valid until the pool is emptied or destroyed: a
 * released block leaves the count at once but its memory only with the pool, since a late reader
 * (the fast road sweeps after the last step) may still decode it. Counted bytes are what the caller
 * asked for, never the alignment padding. */
#ifndef KVBENCH_BASE_POOL_H
#define KVBENCH_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

enum kv_class {               /* DESIGN section 3.5 */
    KV_PAYLOAD, KV_METADATA, KV_RESIDUAL, KV_BASIS_ONLINE, KV_BASIS_SHARED, KV_OFFLOADED,
    KV_WORKSPACE, KV_CLASSES
};

struct kv_pool;

/* limit_bytes 0 = none; a reservation past it fails. The environment variable KV_POOL_FAIL_AT=n lets
 * the n-th reservation of the process fail (fault tests). */
struct kv_pool *kv_pool_create(size_t limit_bytes);
void kv_pool_destroy(struct kv_pool *pool);

/* As created, but for memory that stays for the next use: its pages are there. */
void kv_pool_empty(struct kv_pool *pool);

/* Reserves and charges; NULL when memory or the limit is exhausted. bytes may be 0. */
void *kv_pool_reserve(struct kv_pool *pool, enum kv_class class, size_t bytes);

/* The same without a charge: for row memory that is charged as it fills. */
void *kv_pool_take(struct kv_pool *pool, size_t bytes);

/* The same for what is written before it is read: not zeroed; with address sanitizers it is no number. */
void *kv_pool_room(struct kv_pool *pool, size_t bytes);

/* Changes a count without touching memory.
 * Negative gives back. */
void kv_pool_charge(struct kv_pool *pool, enum kv_class class, int64_t bytes);

int64_t kv_pool_used(const struct kv_pool *pool, enum kv_class class);
int64_t kv_pool_peak(const struct kv_pool *pool, enum kv_class class);   /* highest kv_pool_used */
size_t kv_pool_reserved(const struct kv_pool *pool);                     /* all memory ever taken */

#endif
