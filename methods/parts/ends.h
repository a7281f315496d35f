/* The largest and the smallest of some values: what codecs keep apart. */
#ifndef KVBENCH_METHODS_PARTS_ENDS_H
#define KVBENCH_METHODS_PARTS_ENDS_H

#include "methods/kernels/kernels.h"

/* marks[i] = 1 for the per_end largest of x [n] and then for as many smallest of the others, else
 * 0; of equal ones the earlier. In x those marked become infinite. */
void kv_mark_ends(const struct kv_kernels *kernels, float *x, uint32_t n, uint32_t per_end,
                  uint8_t *marks);

#endif
