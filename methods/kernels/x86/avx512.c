/* The AVX-512 set: shared bodies over 16-float vectors (x86-64-v4: F, BW, CD, DQ, VL). */
#include "methods/kernels/x86/simd_avx512.h"

#define HAS_PICK 1
#define WIDE_TILES 1
#define TILES_APART 1
#define HAS_LANE_FACTORS 0
#define HAS_FOUR_STEPS 0
#define ROOTS 32
#define HAS_CODE_WORDS 0
#define CELL_CODES block_cells
#define ALL_CELLS KERNEL(cell_codes)
#define ALL_PACKED KERNEL(pack_all)
#define LANES_DIVIDE_8 0
#define HAS_HALF_ROTATION 1
#define HAS_BYTE_DOTS 0

#include "methods/kernels/bodies.h"
#include "methods/kernels/grids.h"
#include "methods/kernels/x86/codes_avx512.h"
#include "methods/kernels/x86/packed_avx512.h"
#include "methods/kernels/x86/transform_avx512.h"
#include "methods/kernels/x86/narrow_avx512.h"
#include "methods/kernels/x86/grids_avx512.h"
#include "methods/kernels/blocks_simd.h"
#include "methods/kernels/x86/blocks_avx512.h"
#include "methods/kernels/stripe_rows.h"
#include "methods/kernels/x86/stripes_avx512.h"
#include "methods/kernels/x86/stripes_whole.h"
#include "methods/kernels/x86/minifloat_avx512.h"
#include "methods/kernels/minifloats.h"
#include "methods/kernels/channels.h"
#include "methods/kernels/x86/wide_avx512.h"
#include "methods/kernels/x86/magnitudes.h"
#include "methods/kernels/wide_sums.h"
#include "methods/kernels/polar.h"
#include "methods/kernels/projections.h"
#include "methods/kernels/x86/places_avx512.h"
#include "methods/kernels/x86/look_up_peak.h"
#include "methods/kernels/x86/coding_peak.h"
#include "methods/kernels/pack_cells.h"
#include "methods/kernels/x86/pack_cells_avx512.h"
#include "methods/kernels/entries.h"

void kv_kernels_set_avx512(struct kv_kernels *kernels)
{
    KERNEL(fill)(kernels);
    kernels->spread_out = KERNEL(spread_out);
    kernels->close_up = KERNEL(close_up);
    kernels->hide = KERNEL(hide);
    kernels->stripes = KERNEL(whole_stripes);
    kernels->narrow_bfloat = KERNEL(narrow_bfloat_pairs);
    kernels->narrow_finite = KERNEL(narrow_finite_pairs);
    kernels->pack_cells = KERNEL(pack_nibbles);
    kernels->grid_encode = KERNEL(grid_codes);
    kernels->grid_row = KERNEL(grid_passes);
    kernels->encode_blocks = KERNEL(encode_four_blocks);
    kernels->unpack_bits = KERNEL(unpack_all);
    kernels->lookup_packed = KERNEL(lookup_packed);
    kernels->hadamard = KERNEL(hadamard_far);
    kernels->hadamard_squares = KERNEL(hadamard_far_squares);
    kernels->look_up_peak = KERNEL(look_up_peak);
    kernels->coding_peak = KERNEL(coding_peak);
    kernels->isa = "avx512";
}
