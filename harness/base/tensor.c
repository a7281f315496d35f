/* Row access of recorded tensors; see tensor.h. */
#include "harness/base/tensor.h"

#include <string.h>

#include "harness/base/half.h"

const void *kv_tensor_row(const struct kv_tensor *tensor, uint32_t head, uint32_t token)
{
    const uint32_t recorded = tensor->copies > 1 ? head / tensor->copies : head;
    const size_t row = (size_t)recorded * tensor->tokens + token;
    return (const char *)tensor->data + row * tensor->stride * kv_dtype_bytes(tensor->dtype);
}

void kv_tensor_widen(const struct kv_tensor *tensor, uint32_t head, uint32_t first, uint32_t n,
                     float *out)
{
    for (uint32_t row = 0; row < n; row++, out += tensor->dim) {
        const void *in = kv_tensor_row(tensor, head, first + row);
        const uint16_t *words = in;
        switch (tensor->dtype) {
        case KV_F32:
            memcpy(out, in, tensor->dim * sizeof *out);
            break;
        case KV_F16:
            for (uint32_t i = 0; i < tensor->dim; i++) out[i] = kv_half_to_float(words[i]);
            break;
        case KV_BF16:
            for (uint32_t i = 0; i < tensor->dim; i++) out[i] = kv_bfloat_to_float(words[i]);
            break;
        }
    }
}
