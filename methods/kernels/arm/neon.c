/* The NEON set: shared bodies over 4-float vectors (ARMv8-A Advanced SIMD). */
#include "methods/kernels/arm/simd_neon.h"

#define HAS_PICK 0
#define WIDE_TILES 1
#define HAS_LANE_FACTORS 1
#define HAS_CODE_WORDS 0
#define CELL_CODES KERNEL(plain_cell_codes)
#define BOOK_PARTS 1
#define LANES_DIVIDE_8 1

#include "methods/kernels/bodies.h"
#include "methods/kernels/grids.h"
#include "methods/kernels/blocks_simd.h"
#include "methods/kernels/stripes.h"
#include "methods/kernels/arm/minifloat_neon.h"
#include "methods/kernels/minifloats.h"
#include "methods/kernels/channels.h"
#include "methods/kernels/arm/wide_neon.h"
#include "methods/kernels/polar.h"

void kv_kernels_set_neon(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->narrow_finite = KERNEL(narrow_finite);
    kernels->encode_blocks = KERNEL(encode_blocks);
    kernels->decode_blocks = KERNEL(decode_blocks);
    kernels->grid_row = KERNEL(grid_row);
    kernels->grid_columns = KERNEL(grid_columns);
    kernels->stripes = KERNEL(stripes);
    kernels->channel_encode = KERNEL(channel_encode);
    kernels->channel_decode = KERNEL(channel_decode);
    kernels->polar = KERNEL(polar);
    kernels->minifloat_encode = KERNEL(minifloat_encode);
    kernels->minifloat_decode = KERNEL(minifloat_decode);
    kernels->fp4_encode = KERNEL(fp4_encode);
    kernels->fp4_decode = KERNEL(fp4_decode);
    kernels->isa = "neon";
}
