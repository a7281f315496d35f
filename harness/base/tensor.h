/* A recorded tensor as the file holds it: raw 16-bit words or f32, one row per head and token. */
#ifndef KVBENCH_BASE_TENSOR_H
#define KVBENCH_BASE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

enum kv_dtype { KV_F16, KV_BF16, KV_F32 };

struct kv_tensor {           /* [heads][tokens][dim]; data NULL when the trace has none */
    enum kv_dtype dtype;
    uint32_t heads, tokens, dim;
    uint32_t stride;         /* elements from one row to the next; > dim for a prefix view (MLA) */
    const void *data;
    uint32_t copies;         /* heads that stand for each recorded one, side by side; 0 or 1: itself alone */
};

/* Bytes of one element: 2 or 4. */
static inline size_t kv_dtype_bytes(enum kv_dtype dtype) { return dtype == KV_F32 ? 4 : 2; }

/* Where the row of (head, token) begins. */
const void *kv_tensor_row(const struct kv_tensor *tensor, uint32_t head, uint32_t token);

/* Widens n rows from (head, first) to out [n][dim]; exact, scalar. Kernels have faster ones. */
void kv_tensor_widen(const struct kv_tensor *tensor, uint32_t head, uint32_t first, uint32_t n,
                     float *out);

#endif
