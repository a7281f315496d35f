/* Codes of llama.cpp's blocks for the AVX-512 set (blocks_simd.h): those of four blocks fill stores. */
#ifndef KVBENCH_METHODS_KERNELS_X86_BLOCKS_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_BLOCKS_AVX512_H

/* As unsigned_bytes. */
static inline __m512i signed_bytes(const vec_int n[4])
{
    return order_dwords(
        _mm512_packs_epi16(_mm512_packs_epi32(n[0], n[1]), _mm512_packs_epi32(n[2], n[3])));
}

static inline void store_quarters(uint8_t *at, __m512i v, size_t apart)
{
    _mm_storeu_si128((__m128i *)(void *)at, _mm512_castsi512_si128(v));
    _mm_storeu_si128((__m128i *)(void *)(at + apart), _mm512_extracti32x4_epi32(v, 1));
    _mm_storeu_si128((__m128i *)(void *)(at + 2 * apart), _mm512_extracti32x4_epi32(v, 2));
    _mm_storeu_si128((__m128i *)(void *)(at + 3 * apart), _mm512_extracti32x4_epi32(v, 3));
}

/* Two blocks' bytes, `apart` from each other. */
ALWAYS_INLINE void write_bytes(const float *x, const float inverse[2], uint8_t *at, size_t apart)
{
    vec_int n[4];
    UNROLLED for (uint32_t k = 0; k < 4; k++)
    {
        const vec t = smaller(mul(load(x + k * LANES), spread(inverse[k / 2])), spread(127));
        n[k] = _mm512_cvttps_epi32(add(t, with_sign(spread(0x1.fffffep-2f), t)));
    }
    const __m512i bytes = signed_bytes(n);
    _mm256_storeu_si256((__m256i *)(void *)at, _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256((__m256i *)(void *)(at + apart), _mm512_extracti64x4_epi64(bytes, 1));
}

/* Codes of two blocks, one a byte. */
ALWAYS_INLINE __m512i two_blocks(enum kv_block_format format, const float *x, const float m[2],
                                 const float inverse[2])
{
    const struct kv_block_shape shape = kv_block_shape(format);
    const vec top = spread((float)((1 << shape.bits) - 1)), shift = spread(kv_block_shift(format));
    vec_int n[4];
    UNROLLED for (uint32_t k = 0; k < 4; k++)
    {
        vec t = load(x + k * LANES);
        if (shape.minimum) t = sub(t, spread(m[k / 2]));
        t = add(mul(t, spread(inverse[k / 2])), shift);
        n[k] = _mm512_cvttps_epi32(smaller(t, top));
    }
    return unsigned_bytes(n);
}

/* Fifth bits, if there are any, and nibbles: quarters are halves of blocks. */
ALWAYS_INLINE void write_nibbles(__m512i a, __m512i b, uint32_t bits, uint8_t *at, size_t apart)
{
    if (bits == 5) {
        const __m512i fifth = _mm512_set1_epi8(16);
        const uint64_t words[2] = {_mm512_test_epi8_mask(a, fifth),
                                   _mm512_test_epi8_mask(b, fifth)};
        UNROLLED for (uint32_t i = 0; i < FOUR; i++)
        {
            const uint32_t word = (uint32_t)(words[i / 2] >> i % 2 * 32);
            memcpy(at + i * apart, &word, sizeof word);
        }
        at += 4;
    }
    const __m512i low = _mm512_shuffle_i32x4(a, b, 0x88), high = _mm512_shuffle_i32x4(a, b, 0xdd);
    const __m512i both = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), low,
                                                   _mm512_slli_epi16(high, 4), 0xca);
    store_quarters(at, both, apart);
}

/* d and m: joined in a vector, since compilers would do it one by one. */
ALWAYS_INLINE void write_pairs(const struct four_blocks *four, uint8_t *at, size_t apart)
{
    const __m128i pairs =
        _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)four->halves[0]),
                           _mm_loadl_epi64((const __m128i *)(const void *)four->halves[1]));
    _mm_storeu_si32(at, pairs);
    _mm_storeu_si32(at + apart, _mm_shuffle_epi32(pairs, 0x55));
    _mm_storeu_si32(at + 2 * apart, _mm_shuffle_epi32(pairs, 0xaa));
    _mm_storeu_si32(at + 3 * apart, _mm_shuffle_epi32(pairs, 0xff));
}

/* What measure_blocks found, and codes. */
ALWAYS_INLINE void write_four_blocks(enum kv_block_format format, const float *x,
                                     const struct four_blocks *four, uint8_t *at)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    const uint32_t apart = shape.bytes;
    if (shape.minimum)
        write_pairs(four, at, apart);
    else
        UNROLLED for (uint32_t b = 0; b < FOUR; b++) memcpy(at + b * apart, &four->halves[0][b], 2);
    at += shape.minimum ? 4 : 2;
    if (shape.bits == 8) {
        write_bytes(x, four->inverse, at, apart);
        write_bytes(x + 2 * KV_BLOCK, four->inverse + 2, at + 2 * apart, apart);
    } else {
        write_nibbles(two_blocks(format, x, four->m, four->inverse),
                      two_blocks(format, x + 2 * KV_BLOCK, four->m + 2, four->inverse + 2),
                      shape.bits, at, apart);
    }
}

/* -- iq4_nl: its fit column after column, of four blocks beside each other -------------------------- */

/* Cells of values: rint(x / 8.2) + 16, no two thresholds in the same, 127 in the last. How many
 * thresholds lie below a cell; the cell of each (the table picks it from kv_thresholds_iq4_nl). */
static const int32_t fit_below[32] = {0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7,
                                      8, 8, 9, 10, 10, 11, 11, 12, 13, 13, 13, 14, 14, 15, 15, 15};
static const int32_t fit_inside[32] = {15, 15, 0, 15, 15, 1, 15, 2, 15, 3, 15, 4, 15, 5, 6, 7,
                                       15, 8, 9, 15, 10, 15, 11, 12, 15, 15, 13, 15, 14, 15, 15, 15};

struct fit_cells {
    vec inside[2]; /* the threshold that lies there */
    vec_int below[2];
};

/* The first 16 thresholds are all, and +infinity, which nothing is above. */
ALWAYS_INLINE struct fit_cells fit_cells(void)
{
    struct fit_cells cells;
    const vec thresholds = _mm512_mask_loadu_ps(spread(INFINITY), 0x7fff, kv_thresholds_iq4_nl);
    UNROLLED for (uint32_t k = 0; k < 2; k++)
    {
        cells.below[k] = _mm512_loadu_si512(fit_below + k * LANES);
        cells.inside[k] = pick(thresholds, _mm512_loadu_si512(fit_inside + k * LANES));
    }
    return cells;
}

static inline vec_int fit_cell(vec y)
{
    return _mm512_castps_si512(fused(y, spread(1 / 8.2f), spread(MAGIC + 16)));
}

/* Vectors by blocks -> quads by columns: column 4 q + j is quarter q of vector j. */
static inline void store_columns(const vec v[FOUR], float *columns)
{
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));
    store(columns, _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)));
    store(columns + 16, _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)));
    store(columns + 32, _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)));
    store(columns + 48, _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)));
}

ALWAYS_INLINE quad add_columns(quad sum, const float *columns)
{
    UNROLLED for (uint32_t q = 0; q < 4; q++)
        UNROLLED for (uint32_t j = 0; j < 4; j++)
            sum = quad_add(sum, quad_load(columns + 16 * j + 4 * q));
    return sum;
}

/* Half k of four blocks' codes; their terms enter the sums. */
ALWAYS_INLINE void fit_halves(const float *x, const float inverse[FOUR],
                              const struct fit_cells *cells, vec_int code[FOUR], quad sums[2])
{
    const vec levels = load(kv_levels_iq4_nl);
    float columns[2][64];
    vec over[FOUR], under[FOUR];
    UNROLLED for (uint32_t b = 0; b < FOUR; b++)
    {
        const vec value = load(x + b * KV_BLOCK), y = mul(value, spread(inverse[b]));
        const vec_int cell = fit_cell(y);
        code[b] = count_above(_mm512_permutex2var_epi32(cells->below[0], cell, cells->below[1]), y,
                              pick_of_two(cells->inside[0], cells->inside[1], cell));
        const vec level = pick(levels, code[b]), part = mul(mul(value, value), level);
        over[b] = mul(part, value);
        under[b] = mul(part, level);
    }
    store_columns(over, columns[0]);
    store_columns(under, columns[1]);
    UNROLLED for (uint32_t i = 0; i < 2; i++) sums[i] = add_columns(sums[i], columns[i]);
}

/* False where a block cannot be fitted. */
ALWAYS_INLINE bool write_four_fits(const float *x, const struct four_blocks *four,
                                   const struct fit_cells *cells, uint8_t *at, size_t apart)
{
    vec_int code[2][FOUR];
    uint16_t halves[FOUR];
    quad sums[2] = {quad_of(0, 0, 0, 0), quad_of(0, 0, 0, 0)};
    for (uint32_t b = 0; b < FOUR; b++)
        if (!is_usable(four->size[b])) return false;
    UNROLLED for (uint32_t k = 0; k < 2; k++)
        fit_halves(x + k * LANES, four->inverse, cells, code[k], sums);
    UNROLLED for (uint32_t b = 0; b < FOUR; b++) code[0][b] =
        _mm512_or_si512(code[0][b], _mm512_slli_epi32(code[1][b], 4));
    const __m512i bytes = unsigned_bytes(code[0]);
    const quad zero = quad_of(0, 0, 0, 0), ratio = quad_divide(sums[0], sums[1]);
    const quad number = quad_unless_below(ratio, ratio, -INFINITY);
    const quad d = quad_select_above(sums[1], zero, number, zero);
    quad_keep_halves(halves, quad_clamp(d, 65504.0f));
    UNROLLED for (uint32_t b = 0; b < FOUR; b++) memcpy(at + b * apart, &halves[b], 2);
    store_quarters(at + 2, bytes, apart);
    return true;
}

ALWAYS_INLINE void encode_fours(enum kv_block_format format, const float *x, size_t n, uint8_t *at)
{
    const uint32_t bytes = kv_block_shape(format).bytes;
    const struct fit_cells cells = fit_cells();
    for (; n >= FOUR; n -= FOUR, x += FOUR * KV_BLOCK, at += FOUR * bytes) {
        struct four_blocks four;
        measure_blocks(format, x, FOUR, &four);
        if (format != KV_BLOCK_IQ4_NL)
            write_four_blocks(format, x, &four, at);
        else if (!write_four_fits(x, &four, &cells, at, bytes))
            KERNEL(encode_blocks)(format, x, FOUR, at);
    }
    if (n) KERNEL(encode_blocks)(format, x, n, at);
}

static void KERNEL(encode_four_blocks)(enum kv_block_format format, const float *x, size_t n,
                                       uint8_t *blocks)
{
    switch (format) {
    case KV_BLOCK_Q4_0: encode_fours(KV_BLOCK_Q4_0, x, n, blocks); break;
    case KV_BLOCK_Q4_1: encode_fours(KV_BLOCK_Q4_1, x, n, blocks); break;
    case KV_BLOCK_Q5_0: encode_fours(KV_BLOCK_Q5_0, x, n, blocks); break;
    case KV_BLOCK_Q5_1: encode_fours(KV_BLOCK_Q5_1, x, n, blocks); break;
    case KV_BLOCK_Q8_0: encode_fours(KV_BLOCK_Q8_0, x, n, blocks); break;
    default: encode_fours(KV_BLOCK_IQ4_NL, x, n, blocks); break;
    }
}

#endif
