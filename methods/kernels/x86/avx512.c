/* The AVX-512 set: shared bodies over 16-float vectors (x86-64-v4: F, BW, CD, DQ, VL). The AVX2 set's
 * stay: sum_squares, whose eight partial sums fill half a vector, and grids, blocks and finite halves,
 * whose 16-lane forms no machine or emulator at hand could run. */
#include "methods/kernels/x86/simd_avx512.h"

#define HAS_PICK 1
#define WIDE_TILES 1
#define HAS_LANE_FACTORS 0
#define HAS_CODE_WORDS 0
#define BOOK_PARTS 1
#define LANES_DIVIDE_8 0

#include "methods/kernels/bodies.h"
#include "methods/kernels/stripes.h"

void kv_kernels_set_avx512(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->stripes = KERNEL(stripes);
    kernels->isa = "avx512";
}
