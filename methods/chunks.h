/* Rows that stay in whole chunks of positions (ChunkKV, Liu et al., arXiv 2502.00299): a chunk's
 * score is the mean of its held rows' scores; chunks with a protected row come first. */
#ifndef KVBENCH_METHODS_CHUNKS_H
#define KVBENCH_METHODS_CHUNKS_H

#include "methods/policy.h"

/* Marks fates: budget / chunk whole chunks stay. False, and nothing is marked, when that is less
 * than the chunks of protected rows: rows go one by one then. */
bool kv_trim_chunks(const struct kv_trim *trim, struct kv_lane *lane);

#endif
