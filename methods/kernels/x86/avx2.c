/* The AVX2 set: shared bodies over 8-float vectors (x86-64-v3: AVX2, FMA, F16C, BMI2). */
#include "methods/kernels/x86/simd_avx2.h"

#include <limits.h>
#include <stdbool.h>

#include "harness/base/cpu.h"

#define HAS_PICK 1
#define WIDE_TILES 0
#define TILES_APART 0
#define HAS_LANE_FACTORS 0
#define HAS_FOUR_STEPS 1
#define ROOTS 4
#define HAS_CODE_WORDS 1
#define BOOK_PARTS 2
#define CELL_CODES block_cells
#define ALL_CELLS KERNEL(cell_codes)
#define ALL_PACKED KERNEL(pack_codes)
#define LANES_DIVIDE_8 1
#define HAS_HALF_ROTATION 0
#define HAS_BYTE_DOTS 0

#include "methods/kernels/x86/tile_avx2.h"
#include "methods/kernels/bodies.h"
#include "methods/kernels/x86/codes_avx2.h"
#include "methods/kernels/x86/transform_avx2.h"
#include "methods/kernels/x86/packed_avx2.h"
#include "methods/kernels/grids.h"
#include "methods/kernels/blocks_simd.h"
#include "methods/kernels/stripes.h"
#include "methods/kernels/x86/minifloat_avx2.h"
#include "methods/kernels/fields.h"
#include "methods/kernels/minifloats.h"
#include "methods/kernels/channels.h"
#include "methods/kernels/x86/stripes_subnormal.h"
#include "methods/kernels/x86/stripes_whole.h"
#include "methods/kernels/x86/stripes_fixed.h"
#include "methods/kernels/x86/wide_avx2.h"
#include "methods/kernels/x86/magnitudes.h"
#include "methods/kernels/wide_sums.h"
#include "methods/kernels/polar.h"
#include "methods/kernels/projections.h"
#include "methods/kernels/x86/places_avx2.h"
#include "methods/kernels/x86/look_up_peak.h"
#include "methods/kernels/x86/coding_peak.h"
#include "methods/kernels/pack_cells.h"
#include "methods/kernels/x86/pack_cells_avx2.h"
#include "methods/kernels/entries.h"

static bool looks_up(const struct kv_stripes *stripes)
{
    return stripes->format == KV_STRIPE_BOOK || stripes->format == KV_STRIPE_SIGN;
}

static void KERNEL(any_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    (looks_up(stripes) ? KERNEL(fixed_stripes) : KERNEL(whole_stripes))(stripes, x, sums);
}

static void KERNEL(any_stripes_subnormal)(const struct kv_stripes *stripes, const float *x,
                                          float *sums)
{
    (looks_up(stripes) ? KERNEL(fixed_stripes) : KERNEL(subnormal_stripes))(stripes, x, sums);
}

void kv_kernels_set_avx2(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->stripes = kv_cpu_features() & KV_CPU_FREE_SUBNORMALS ? KERNEL(any_stripes_subnormal)
                                                                  : KERNEL(any_stripes);
    kernels->hide = KERNEL(hide);
    kernels->grid_encode = KERNEL(grid_codes);
    kernels->pack_cells = KERNEL(pack_nibbles);
    kernels->unpack_bits = KERNEL(unpack_codes);
    kernels->hadamard = KERNEL(hadamard_far);
    kernels->hadamard_squares = KERNEL(hadamard_far_squares);
    kernels->lookup_packed = KERNEL(lookup_packed);
    kernels->look_up_peak = KERNEL(look_up_peak);
    kernels->coding_peak = KERNEL(coding_peak);
    kernels->isa = "avx2";
}
