/* The NEON set: shared bodies over 4-float vectors (ARMv8-A Advanced SIMD). */
#include "methods/kernels/arm/simd_neon.h"

#define HAS_PICK 0
#define WIDE_TILES 1
#define TILES_APART 0
#define HAS_LANE_FACTORS 1
#define HAS_FOUR_STEPS 0
#define ROOTS 0
#define HAS_CODE_WORDS 0
#define CELL_CODES KERNEL(plain_cell_codes)
#define ALL_CELLS KERNEL(plain_cell_codes)
#define ALL_PACKED KERNEL(pack_bits)
#define BOOK_PARTS 1
#define LANES_DIVIDE_8 1
#define HAS_HALF_ROTATION 0

#include "methods/kernels/bodies.h"
#include "methods/kernels/grids.h"
#include "methods/kernels/blocks_simd.h"
#include "methods/kernels/stripes.h"
#include "methods/kernels/arm/minifloat_neon.h"
#include "methods/kernels/fields.h"
#include "methods/kernels/minifloats.h"
#include "methods/kernels/channels.h"
#include "methods/kernels/arm/wide_neon.h"
#include "methods/kernels/wide_sums.h"
#include "methods/kernels/polar.h"
#include "methods/kernels/projections.h"
#include "methods/kernels/pack_cells.h"
#include "methods/kernels/entries.h"

void kv_kernels_set_neon(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->isa = "neon";
}
