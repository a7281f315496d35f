/* The prompt's recorded rows as floats, for as long as policies and fits may read them: they are twice what
 * the layer takes, so they are made for the units at hand, and gone before these answer. */
#ifndef KVBENCH_HARNESS_PROMPT_ROWS_H
#define KVBENCH_HARNESS_PROMPT_ROWS_H

#include "harness/replay/replay.h"

/* Adds to the replays' prompts what their spec reads; the rows are pool's. */
int kv_prompt_rows_add(const struct kv_replay *replays, uint32_t n, struct kv_pool *pool, struct kv_error *err);
/* Before the pool goes. */
void kv_prompt_rows_forget(const struct kv_replay *replays, uint32_t n);

#endif
