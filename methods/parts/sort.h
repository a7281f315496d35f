/* Floats in ascending order, without the calls of qsort. */
#ifndef KVBENCH_METHODS_PARTS_SORT_H
#define KVBENCH_METHODS_PARTS_SORT_H

#include <stddef.h>

/* No NaN; zeros of both signs count as equal. */
void kv_sort_floats(float *x, size_t n);

#endif
