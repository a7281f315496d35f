/* What the AVX-512 set does better with products of four bytes that are summed at once (VNNI) and
 * permutes of bytes (VBMI). */
#define KERNEL(name) name##_avx512vnni
#define HAS_BYTE_DOTS 1

#include <float.h>
#include <math.h>

#include "methods/kernels/inlining.h"
#include "methods/kernels/kernels.h"
#include "methods/kernels/sets.h"
#include "methods/kernels/x86/simd_avx512.h"

#include "methods/kernels/stripe_rows.h"
#include "methods/kernels/x86/stripes_avx512.h"
#include "methods/kernels/x86/stripes_whole.h"
#include "methods/kernels/x86/stripes_signs.h"
#include "methods/kernels/x86/look_up_peak.h"

static void KERNEL(any_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    const bool signs = stripes->format == KV_STRIPE_SIGN;
    (signs ? KERNEL(byte_sign_stripes) : KERNEL(whole_stripes))(stripes, x, sums);
}

void kv_kernels_set_avx512vnni(struct kv_kernels *kernels)
{
    kernels->stripes = KERNEL(any_stripes);
    kernels->look_up_peak = KERNEL(look_up_peak);
    kernels->isa = "avx512vnni";
}
