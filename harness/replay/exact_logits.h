/* Query rows of a layer's scored queries, and their logits with recorded keys. Every method that is swept asks with
 * the rows and is compared with the logits; a product for each would cost a third of its replay, widening the rows
 * some hundredths: both are made by the first that asks, a KV head at a time, and forgotten after the last. Logits
 * share a bound of memory; what is past it, and what only one asks for, everybody makes for himself: no result
 * hangs on it. */
#ifndef KVBENCH_HARNESS_EXACT_LOGITS_H
#define KVBENCH_HARNESS_EXACT_LOGITS_H

#include <stdbool.h>
#include <stddef.h>

#include "harness/replay/scored_sweep.h"

struct kv_exact_logits;

/* `scored` stays the caller's. NULL when memory is short: then nobody shares. */
struct kv_exact_logits *kv_exact_logits_create(const struct kv_scored *scored, size_t bytes);
void kv_exact_logits_free(struct kv_exact_logits *shared);
/* Bytes of logits that were there at once, at most. */
size_t kv_exact_logits_most(const struct kv_exact_logits *shared);
/* Pairs of a query and a key that were asked for and not kept: each asks for a product of its own. */
size_t kv_exact_logits_again(const struct kv_exact_logits *shared);

/* Before the threads start: one more will ask for this head's rows, and maybe logits, or at least leave. */
void kv_exact_logits_expect(struct kv_exact_logits *shared, uint32_t head, bool logits);

/* By any thread: the head's rows, until the end; false: nobody shares them. */
bool kv_exact_logits_rows(struct kv_exact_logits *shared, uint32_t head, struct kv_rows *rows);
/* What there is of logits, of no rows at least; and, once for each that was expected, the end. */
struct kv_kept kv_exact_logits_take(struct kv_exact_logits *shared, uint32_t head);
void kv_exact_logits_leave(struct kv_exact_logits *shared, uint32_t head, bool logits);

#endif
