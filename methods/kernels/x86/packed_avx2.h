/* Values of packed codes, for the AVX2 set: no code lies in memory on its own. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACKED_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_PACKED_AVX2_H

/* 32 nibbles: the first 16 in the lower half, the others in the upper. */
static inline __m256i split_nibbles(const uint8_t *packed)
{
    const __m128i both = _mm_loadu_si128((const __m128i *)(const void *)packed);
    const __m128i part = _mm_set1_epi8(15), low = _mm_and_si128(both, part);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(both, 4), part);
    return _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high));
}

/* The 16 entries of a table, times a factor, as bytes. */
static inline struct byte_table scaled_bytes(const float *table, float factor)
{
    const __m128 by = _mm_set1_ps(factor);
    __m128i row[4];
    for (int i = 0; i < 4; i++)
        row[i] = _mm_castps_si128(_mm_mul_ps(_mm_loadu_ps(table + 4 * i), by));
    return split_rows(row);
}

static void KERNEL(lookup_fours)(const uint8_t *packed, size_t n, const float *table, float factor,
                                 float *out)
{
    const struct byte_table bytes = scaled_bytes(table, factor);
    for (; n >= 32; n -= 32, packed += 16, out += 32) {
        vec v[4];
        look_up_bytes(&bytes, split_nibbles(packed), v);
        UNROLLED for (uint32_t k = 0; k < 4; k++) store_block(out, k, v[k]);
    }
    KERNEL(lookup_unpacked)(packed, n, 4, table, factor, out);
}

/* Code l of a word to the low bits of lane l, with others above it. */
ALWAYS_INLINE vec_int spread_codes(const uint8_t *word, uint32_t bits, uint32_t first)
{
    int32_t all;
    memcpy(&all, word, sizeof all);
    const __m256i by =
        _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int)bits));
    return _mm256_srlv_epi32(_mm256_set1_epi32(all),
                             _mm256_add_epi32(by, _mm256_set1_epi32((int)first)));
}

/* One or two bits: words of four bytes. The table repeats, so that a choice by two bits serves. */
ALWAYS_INLINE void look_up_few(const uint8_t *packed, size_t n, uint32_t bits, const float *table,
                               float factor, float *out)
{
    const uint32_t many = 32 / bits, last = (1u << bits) - 1;
    const vec four =
        _mm256_mul_ps(_mm256_broadcast_ps((const __m128 *)(const void *)(const float[4]){
                          table[0], table[1 & last], table[2 & last], table[3 & last]}),
                      spread(factor));
    for (; n >= many; n -= many, packed += 4)
        UNROLLED for (uint32_t first = 0; first < 32; first += LANES * bits, out += LANES)
            store(out, _mm256_permutevar_ps(four, spread_codes(packed, bits, first)));
    KERNEL(lookup_unpacked)(packed, n, bits, table, factor, out);
}

/* Three bits: eight codes are three bytes, read together with the one before or behind them. */
static void KERNEL(lookup_threes)(const uint8_t *packed, size_t n, const float *table, float factor,
                                  float *out)
{
    const vec eight = mul(load(table), spread(factor));
    if (n >= 16) {
        store(out, pick(eight, spread_codes(packed, 3, 0)));
        for (n -= LANES, packed += 3, out += LANES; n >= LANES;
             n -= LANES, packed += 3, out += LANES)
            store(out, pick(eight, spread_codes(packed - 1, 3, 8)));
    }
    KERNEL(lookup_unpacked)(packed, n, 3, table, factor, out);
}

static void KERNEL(lookup_packed)(const uint8_t *packed, size_t n, uint32_t bits,
                                  const float *table, float factor, float *out)
{
    switch (bits) {
    case 1:
        look_up_few(packed, n, 1, table, factor, out);
        break;
    case 2:
        look_up_few(packed, n, 2, table, factor, out);
        break;
    case 3:
        KERNEL(lookup_threes)(packed, n, table, factor, out);
        break;
    case 4:
        KERNEL(lookup_fours)(packed, n, table, factor, out);
        break;
    default:
        KERNEL(lookup_unpacked)(packed, n, bits, table, factor, out);
        break;
    }
}

#endif
