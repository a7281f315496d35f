/* The AVX-512 set: shared bodies over 16-float vectors (x86-64-v4: F, BW, CD, DQ, VL). sum_squares
 * stays the AVX2 set's: its eight partial sums fill half a vector. */
#include "methods/kernels/x86/simd_avx512.h"

#define HAS_PICK 1
#define WIDE_TILES 1
#define HAS_LANE_FACTORS 0
#define HAS_CODE_WORDS 0
#define CELL_CODES KERNEL(plain_cell_codes)
#define LANES_DIVIDE_8 0

#include "methods/kernels/bodies.h"
#include "methods/kernels/grids.h"
#include "methods/kernels/blocks_simd.h"
#include "methods/kernels/stripes.h"

void kv_kernels_set_avx512(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->encode_blocks = KERNEL(encode_blocks);
    kernels->decode_blocks = KERNEL(decode_blocks);
    kernels->grid_row = KERNEL(grid_row);
    kernels->grid_columns = KERNEL(grid_columns);
    kernels->stripes = KERNEL(stripes);
    kernels->isa = "avx512";
}
