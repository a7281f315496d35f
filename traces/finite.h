/* Looks for NaN and infinity in raw words: a test of exponent bits, no arithmetic. */
#ifndef KVBENCH_TRACES_FINITE_H
#define KVBENCH_TRACES_FINITE_H

#include <stddef.h>

#include "traces/h5.h"

/* The index of the first element that is not finite, or n. Types without such values give n. */
size_t kv_first_not_finite(const void *words, size_t n, enum kv_h5_type type);

/* Whether element i is a NaN (else, when not finite, infinity). */
int kv_is_nan(const void *words, size_t i, enum kv_h5_type type);

#endif
