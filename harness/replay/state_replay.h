/* The third road: a method without rows (methods/answer.h) takes in token after token and answers
 * the scored ones. One KV head after the other. */
#ifndef KVBENCH_HARNESS_STATE_REPLAY_H
#define KVBENCH_HARNESS_STATE_REPLAY_H

#include "harness/replay/replay.h"

/* pool: of this unit alone, which its bytes are read from. */
int kv_state_replay(const struct kv_replay *replay, struct kv_replay_account *account,
                    struct kv_pool *pool, struct kv_error *err);

#endif
