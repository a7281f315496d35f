/* One driver for entries that map an array to an array element by element, or to one number; see
 * check_elementwise.c. */
#ifndef KVBENCH_TESTS_KERNELS_ELEMENTWISE_H
#define KVBENCH_TESTS_KERNELS_ELEMENTWISE_H

#include "tests/kernels/checkkern.h"

enum { LENGTHS = 301, RESULTS = 2 };

/* One way to call a kernel: n elements of `in` become n elements of `out` (which begins as a copy
 * of `in` when in_place) and up to RESULTS floats. `variant` chooses further arguments. */
struct adapter {
    size_t in_size, out_size; /* bytes an element; out_size 0 = only results */
    int in_place, from_one;   /* from_one: n = 0 is not legal */
    int kinds;                /* input kinds, or 0: bytes below `below` */
    uint32_t variants, below;
    size_t out_bits; /* packed output: bits an element, by variant + 1; else 0 */
    void (*call)(const struct kv_kernels *set, const void *in, void *out, size_t n,
                 uint32_t variant, float *results);
    /* Compares with a definition in double; NULL = bit for bit with generic. */
    const char *(*judge)(const void *in, const void *out, size_t n, uint32_t variant,
                         const float *results);
};

/* All lengths flush against the unmapped page, then all alignments for some lengths. */
const char *check_elements(const struct kv_kernels *generic, const struct kv_kernels *set,
                           const struct adapter *adapter);

/* A sum that tells bytes and their order apart. */
float digest(const uint8_t *bytes, size_t n);

#endif
