/* Signs of projections, for the SIMD sets: sums of fused multiply-adds by the register tile, and the
 * contract's own sum only where rounding might have turned the sign.
 *
 * Both sums of n terms are within n u / (1 - n u) sum |m x| <= 1.001 n u |m| |x| of the true one (u =
 * 2^-24, n < 2^13, Cauchy and Schwarz): what is further from 0 than twice that has the contract's
 * sign. Lengths, squared, of 2^-90 .. 2^90 make what underflow takes (n 2^-149 of a sum, as much of
 * a length's square) as small as nothing beside the bound, which is given 1 % more. */
#ifndef KVBENCH_METHODS_KERNELS_PROJECTIONS_H
#define KVBENCH_METHODS_KERNELS_PROJECTIONS_H

enum { SIGN_ROWS = 6 * TILE_ROWS };

/* At or below which the tile's sum says nothing; infinity: nothing of this row does. */
static float KERNEL(doubtful_sum)(const struct kv_projections *p, const float *x)
{
    const float square = KERNEL(dot)(x, x, p->columns);
    const int usual = square >= 0x1p-90f && square <= 0x1p90f && p->reach >= 0x1p-20f &&
                      p->reach <= 0x1p20f && p->columns < 1u << 13;
    return usual ? 2.02f * 0x1p-24f * (float)p->columns * p->reach * sqrtf(square) : INFINITY;
}

/* Whether the contract's sum is above 0. */
static uint64_t KERNEL(settle_sign)(const struct kv_projections *p, const float *x, uint32_t row)
{
    float sum = 0;
    for (uint32_t c = 0; c < p->columns; c++)
        sum += p->matrix[(size_t)c * p->stride + row] * x[c];
    return sum > 0;
}

/* Of `vecs` vectors the lanes above 0, and those that say nothing. */
ALWAYS_INLINE uint64_t lane_signs(const float *sums, uint32_t vecs, float bound, uint64_t *unsure)
{
    uint64_t signs = 0, sure = 0;
    UNROLLED for (uint32_t k = 0; k < vecs; k++)
    {
        const vec v = load(sums + k * LANES);
        signs |= (uint64_t)lanes_above(v, zeros()) << k * LANES;
        sure |= (uint64_t)lanes_above(magnitude(v), spread(bound)) << k * LANES;
    }
    *unsure = ~sure;
    return signs & sure;
}

/* Signs of a panel's rows first .. first + width - 1 for one x; rows beside whole vectors have no sums. */
static uint64_t KERNEL(panel_signs)(const struct kv_projections *p, const float *x, uint32_t first,
                                    uint32_t width, const float *sums, float bound)
{
    uint64_t unsure, signs = width == PANEL ? lane_signs(sums, TILE_VECS, bound, &unsure)
                                            : lane_signs(sums, width / LANES, bound, &unsure);
    if (width < 64) unsure &= ((uint64_t)1 << width) - 1;
    for (; unsure; unsure &= unsure - 1) {
        const uint32_t k = (uint32_t)__builtin_ctzll(unsure);
        signs |= KERNEL(settle_sign)(p, x, first + k) << k;
    }
    return signs;
}

static void KERNEL(project_some)(const struct kv_projections *p, const float *x, uint32_t n,
                                 uint8_t *signs, size_t apart)
{
    float sums[SIGN_ROWS * PANEL], bounds[SIGN_ROWS];
    for (uint32_t i = 0; i < n; i++)
        bounds[i] = KERNEL(doubtful_sum)(p, x + (size_t)i * p->columns);
    for (uint32_t first = 0; first < p->rows; first += PANEL) {
        const uint32_t width = p->rows - first < PANEL ? p->rows - first : PANEL;
        const struct product product = {.a = x, .a_stride = p->columns, .depth = p->columns,
                                        .b = p->matrix + first, .b_stride = p->stride,
                                        .c = sums, .c_stride = PANEL, .factor = 1};
        multiply_strip(&product, n, width / LANES, 0);
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t word = KERNEL(panel_signs)(p, x + (size_t)i * p->columns, first, width,
                                                      sums + (size_t)i * PANEL, bounds[i]);
            uint8_t *to = signs + i * apart + first / 8;
            if (width == PANEL) memcpy(to, &word, PANEL / 8);
            else for (uint32_t b = 0; 8 * b < width; b++) to[b] = (uint8_t)(word >> 8 * b);
        }
    }
}

static void KERNEL(project_signs)(const struct kv_projections *p, const float *x, uint32_t n,
                                  uint8_t *signs, size_t apart)
{
    for (uint32_t i = 0; i < n; i += SIGN_ROWS)
        KERNEL(project_some)(p, x + (size_t)i * p->columns,
                             n - i < SIGN_ROWS ? n - i : SIGN_ROWS, signs + i * apart, apart);
}

#endif
