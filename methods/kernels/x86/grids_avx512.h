/* Rows of grids for the AVX-512 set (grids.h): 64 or 128 values a pass, in whole groups of 32, 64 or
 * 128, whose extremes, divisions and conversions lie side by side. */
#ifndef KVBENCH_METHODS_KERNELS_X86_GRIDS_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_GRIDS_AVX512_H

/* Up to four groups, two numbers each: scale and minimum as kept, then multiples that enclose the
 * quotient. */
struct grid_pass {
    __m256 kept, bounds;
};

/* Lane i in all. */
ALWAYS_INLINE vec spread_lane(__m256 v, uint32_t i)
{
    return _mm512_permutexvar_ps(_mm512_set1_epi32((int)i), _mm512_castps256_ps512(v));
}

ALWAYS_INLINE void tree_extremes(const float *x, uint32_t width, vec *low, vec *high)
{
    vec lows[8], highs[8];
    UNROLLED for (uint32_t k = 0; k < width / LANES; k++) lows[k] = highs[k] = load(x + k * LANES);
    UNROLLED for (uint32_t half = width / LANES / 2; half > 0; half /= 2)
        UNROLLED for (uint32_t k = 0; k < half; k++)
        {
            lows[k] = smaller(lows[k], lows[k + half]);
            highs[k] = larger(highs[k], highs[k + half]);
        }
    *low = lows[0], *high = highs[0];
}

/* False where a scale is 0 or a half would be infinite. */
ALWAYS_INLINE int make_pass(struct grid_pass *pass, quad low, quad high, uint32_t groups,
                            const struct kv_grid_shape *shape, uint8_t *at)
{
    const float most = (float)((1u << (shape->bits - (shape->symmetric != 0))) - 1u);
    const float less = 1.0f - 0x1p-22f, more = 1.0f + 0x1p-22f;
    const quad zero = quad_of(0, 0, 0, 0);
    const quad size = shape->symmetric ? _mm_max_ps(high, quad_sub(zero, low)) : quad_sub(high, low);
    const quad minimum = shape->symmetric ? zero : low;
    const __m256 both = _mm256_set_m128(_mm_unpackhi_ps(size, minimum),
                                        _mm_unpacklo_ps(size, minimum));
    const __m128i halves = _mm256_cvtps_ph(
        _mm256_div_ps(both, _mm256_setr_ps(most, 1, most, 1, most, 1, most, 1)),
        _MM_FROUND_TO_NEAREST_INT);
    const __m128i exponent = _mm_set1_epi16(0x7c00);
    const __mmask8 infinite = _mm_cmpeq_epi16_mask(_mm_and_si128(halves, exponent), exponent);
    const __mmask8 nothing = _mm_mask_testn_epi16_mask(0x55, halves, halves);
    pass->kept = _mm256_cvtph_ps(halves);
    pass->bounds =
        _mm256_div_ps(_mm256_setr_ps(less, more, less, more, less, more, less, more),
                      _mm256_moveldup_ps(pass->kept));
    if (infinite | nothing) return 0;
    if (shape->symmetric) {
        const __m128i scales = _mm_cvtepi32_epi16(halves);
        memcpy(at, &scales, 2 * (size_t)groups);
    } else {
        memcpy(at, &halves, 4 * (size_t)groups);
    }
    return 1;
}

/* 64 values from the `first` of the pass on. Quotients that words cannot hold differ by more than
 * their last bit, hence are in doubt. */
ALWAYS_INLINE void code_four(const float *x, const struct grid_pass *pass, uint32_t first,
                             uint32_t width, const struct kv_grid_shape *shape, uint8_t *codes)
{
    const vec magic = spread(MAGIC + (float)zero_code(shape));
    vec t[4];
    vec_int doubt = no_counts();
    UNROLLED for (uint32_t k = 0; k < 4; k++)
    {
        const uint32_t g = (first + k * LANES) / width;
        const vec v = sub(spread_lane(pass->kept, 2 * g + 1), load(x + k * LANES));
        t[k] = fused_minus(v, spread_lane(pass->bounds, 2 * g), magic);
        doubt = or_difference(doubt, t[k],
                              fused_minus(v, spread_lane(pass->bounds, 2 * g + 1), magic));
    }
    store_four_steps(codes, t, (1u << shape->bits) - 1u);
    if (!any(doubt)) return;
    float kept[8];
    _mm256_storeu_ps(kept, pass->kept);
    const uint32_t span = width < 4 * LANES ? width : 4 * LANES;
    for (uint32_t i = 0; i < 4 * LANES; i += span)
        KERNEL(divide_span)(x + i, span, kept + 2 * ((first + i) / width), shape, codes + i);
}

/* n values in whole groups: returns where the next are kept. */
ALWAYS_INLINE uint8_t *code_pass(const float *x, uint32_t n, uint32_t width,
                                 const struct kv_grid_shape *shape, uint8_t *at, uint8_t *codes)
{
    const uint32_t groups = n / width;
    struct grid_pass pass;
    vec low[4], high[4];
    quad lows, highs;
    UNROLLED for (uint32_t g = 0; g < groups; g++)
        tree_extremes(x + g * width, width, &low[g], &high[g]);
    UNROLLED for (uint32_t g = groups; g < 4; g++)
        low[g] = low[g - groups], high[g] = high[g - groups];
    extremes_of_four(low, high, &lows, &highs);
    if (make_pass(&pass, lows, highs, groups, shape, at))
        UNROLLED for (uint32_t i = 0; i < n; i += 4 * LANES)
            code_four(x + i, &pass, i, width, shape, codes + i);
    else
        KERNEL(grid_row)(x, n, width, shape, at, codes);
    return at + (shape->symmetric ? 2 : 4) * (size_t)groups;
}

/* All of a row that passes hold: how many values that were. */
ALWAYS_INLINE size_t code_passes(const float *x, size_t n, uint32_t width,
                                 const struct kv_grid_shape *shape, uint8_t **at, uint8_t *codes)
{
    size_t i = 0;
    for (; i + 128 <= n && (width == 32 || width == 64 || width == 128); i += 128)
        *at = width == 32   ? code_pass(x + i, 128, 32, shape, *at, codes + i)
              : width == 64 ? code_pass(x + i, 128, 64, shape, *at, codes + i)
                            : code_pass(x + i, 128, 128, shape, *at, codes + i);
    for (; i + 64 <= n && (width == 32 || width == 64); i += 64)
        *at = width == 32 ? code_pass(x + i, 64, 32, shape, *at, codes + i)
                          : code_pass(x + i, 64, 64, shape, *at, codes + i);
    return i;
}

static void KERNEL(grid_passes)(const float *x, size_t n, uint32_t width,
                                const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    const struct kv_grid_shape plain = {shape->bits, 0}, symmetric = {shape->bits, 1};
    const size_t done = shape->symmetric ? code_passes(x, n, width, &symmetric, &kept, codes)
                                         : code_passes(x, n, width, &plain, &kept, codes);
    if (done < n) KERNEL(grid_row)(x + done, n - done, width, shape, kept, codes + done);
}

#endif
