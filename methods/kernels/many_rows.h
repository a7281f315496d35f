/* Products of many rows with lines that were not made ready before: a tile of lines at a time is, by sets
 * that multiply faster so (kernels.h, ready_keys). Contracts are those of logits and accumulate. */
#ifndef KVBENCH_METHODS_KERNELS_MANY_ROWS_H
#define KVBENCH_METHODS_KERNELS_MANY_ROWS_H

#include <stddef.h>

#include "methods/kernels/kernels.h"

enum { KV_MANY_ROWS = 32 }; /* from so many rows on it pays */

/* Floats of scratch for lines of at most `dim` columns; 0: the set has no such products. */
size_t kv_many_scratch(const struct kv_kernels *kernels, uint32_t dim);

/* columns: a multiple of panel. scratch NULL: by the entries for few rows. */
void kv_many_logits(const struct kv_kernels *kernels, float *scratch, const float *queries, uint32_t rows,
                    uint32_t dim, const float *panels, uint32_t columns, float scale, float *logits,
                    uint32_t stride);
void kv_many_sums(const struct kv_kernels *kernels, float *scratch, const float *weights, uint32_t rows,
                  uint32_t stride, const float *values, uint32_t n, uint32_t dim, float *outputs);

#endif
