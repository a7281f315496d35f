/* Rows of a recorded tensor as floats, by kernels. */
#ifndef KVBENCH_METHODS_KERNELS_RECORDED_ROWS_H
#define KVBENCH_METHODS_KERNELS_RECORDED_ROWS_H

#include "harness/base/tensor.h"
#include "methods/kernels/kernels.h"

/* n rows of a tensor from (head, first): out [n][dim]. */
void kv_widen_rows(const struct kv_tensor *tensor, uint32_t head, uint32_t first, uint32_t n,
                   const struct kv_kernels *kernels, float *out);

#endif
