/* Recorded rows as floats; see recorded_rows.h. */
#include "methods/kernels/recorded_rows.h"

#include <stdbool.h>
#include <string.h>

void kv_widen_rows(const struct kv_tensor *tensor, uint32_t head, uint32_t first, uint32_t n,
                   const struct kv_kernels *kernels, float *out)
{
    /* Rows that lie one behind the other are one run of words. */
    const bool dense = tensor->stride == tensor->dim;
    const uint32_t runs = dense ? 1 : n;
    const size_t length = dense ? (size_t)n * tensor->dim : tensor->dim;
    for (uint32_t r = 0; r < runs; r++, out += length) {
        const void *row = kv_tensor_row(tensor, head, first + r);
        switch (tensor->dtype) {
        case KV_F16: kernels->widen_half(row, out, length); break;
        case KV_BF16: kernels->widen_bfloat(row, out, length); break;
        case KV_F32: memcpy(out, row, length * sizeof *out); break;
        }
    }
}
