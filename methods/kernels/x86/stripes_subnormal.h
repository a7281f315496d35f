/* Words of codes as the floats that their bits are, for CPUs where subnormal operands cost nothing.
 *
 * A field of a word's lower 24 bits, the rest cleared, is as a float its integer times 2^-149,
 * exactly: below 2^23 a subnormal, above it the lowest normals, whose spacing is the same. So a
 * multiply-add needs no conversion, which one pipe of AMD's family 17h does alone, and no shift; x
 * is scaled up by a power of two, and the sum back down. Each sum is that of add_words times this
 * power, bit for bit, as long as nothing leaves the range of floats, which `scale_of` sees to;
 * otherwise, or where the processor's state would read subnormals as 0, add_words it is.
 *
 * Elsewhere (Intel) such operands trap to microcode, at a hundred times the cost. */
#ifndef KVBENCH_METHODS_KERNELS_X86_STRIPES_SUBNORMAL_H
#define KVBENCH_METHODS_KERNELS_X86_STRIPES_SUBNORMAL_H

enum {
    TOP = 126,     /* exponent of the largest x, scaled */
    REACH = 100,   /* exponents below it that an x may lie: a product with 1 is normal */
    FARTHEST = 99, /* exponents of the largest x itself, so that all factors are floats */
    UNIT = 149     /* a code of 1 is 2^-149 */
};

static inline float power_of_two(int exponent)
{
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* Bits of the largest |x|, and of the smallest that is not 0, less 1. */
static inline void span_of_bits(const float *x, uint32_t n, uint32_t *largest, uint32_t *smallest)
{
    const __m256i sign = _mm256_set1_epi32(INT32_MAX), one = _mm256_set1_epi32(1);
    __m256i most = _mm256_setzero_si256(), least = _mm256_set1_epi32(-1);
    for (uint32_t i = 0; i < n; i += LANES) {
        const vec v = n - i < LANES ? load_part(x + i, n - i) : load(x + i);
        const __m256i bits = _mm256_and_si256(_mm256_castps_si256(v), sign);
        most = _mm256_max_epu32(most, bits);
        least = _mm256_min_epu32(least, _mm256_sub_epi32(bits, one));
    }
    uint32_t high[LANES], low[LANES];
    _mm256_storeu_si256((__m256i *)(void *)high, most);
    _mm256_storeu_si256((__m256i *)(void *)low, least);
    *largest = high[0], *smallest = low[0];
    for (int k = 1; k < LANES; k++) {
        *largest = high[k] > *largest ? high[k] : *largest;
        *smallest = low[k] < *smallest ? low[k] : *smallest;
    }
}

/* The exponent by which x is scaled up; INT_MIN where some x would not fit, or subnormals count as
 * 0 in this thread. */
static int scale_of(const float *x, uint32_t n)
{
    enum { ZEROES = 0x8040 }; /* subnormal results, subnormal operands become 0 */
    uint32_t largest, smallest;
    span_of_bits(x, n, &largest, &smallest);
    const int top = (int)(largest >> 23) - 127, bottom = (int)(smallest >> 23) - 127;
    const bool fits = top >= -FARTHEST && top <= FARTHEST && bottom >= top - REACH;
    return fits && !(_mm_getcsr() & ZEROES) ? TOP - top : INT_MIN;
}

/* Where the field of a row lies when it is read: one above 24 bits is moved down. */
ALWAYS_INLINE uint32_t place_of(uint32_t shift, uint32_t bits)
{
    return shift + bits <= 24 ? shift : shift + bits == 32 ? 0 : shift - 8;
}

/* A field that is moved down by a byte is read from the next address, which costs no shift; the
 * last word of a buffer has none. */
ALWAYS_INLINE vec field_bits(const uint8_t *words, uint32_t shift, uint32_t bits, bool last)
{
    const uint32_t place = place_of(shift, bits);
    const __m256i mask = _mm256_set1_epi32((int)(((1u << bits) - 1) << place));
    const bool moved = place != shift, next = moved && place && !last;
    const __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(words + next));
    if (moved && !place) return _mm256_castsi256_ps(_mm256_srli_epi32(w, (int)shift));
    return _mm256_castsi256_ps(_mm256_and_si256(moved && last ? _mm256_srli_epi32(w, 8) : w, mask));
}

/* factors[i] = x[i] 2^scale / 2^place of row i, 0 up to whole words. In two steps, since 2^scale
 * alone may be no float. */
static void scale_rows(const float *x, uint32_t n, uint32_t rows, int scale, float *factors)
{
    float lower[LANES];
    for (uint32_t j = 0; j < LANES; j++)
        lower[j] =
            power_of_two(scale - scale / 2 - (int)place_of(j % rows * (32 / rows), 32 / rows));
    const vec first = spread(power_of_two(scale / 2)), second = load(lower);
    for (uint32_t i = 0; i < n; i += LANES) {
        const vec v = n - i < LANES ? load_part(x + i, n - i) : load(x + i);
        store(factors + i, mul(mul(v, first), second));
    }
}

/* Words are read again for each row, as operands of the mask: kept in registers they would drive
 * out the sums, which the compiler does not weigh. */
ALWAYS_INLINE void add_row_words(enum kv_stripe_format format, const uint8_t *codes,
                                 const float *factors, bool last, vec total[VECS])
{
    const uint32_t rows = kv_stripe_rows(format), bits = 32 / rows;
    prefetch_row(codes, 4 * KV_STRIPE);
    UNROLLED for (uint32_t j = 0; j < rows; j++)
    {
        const vec factor = spread(factors[j]);
        if (format == KV_STRIPE_NIBBLE) __asm__ volatile("" ::: "memory");
        UNROLLED for (uint32_t k = 0; k < VECS; k++)
        {
            const vec codes_of_row = field_bits(codes + 4 * LANES * k, bits * j, bits, last);
            total[k] = fused(codes_of_row, factor, total[k]);
        }
    }
}

ALWAYS_INLINE void add_subnormals(enum kv_stripe_format format, const uint8_t *codes,
                                  const float *factors, uint32_t depth, float unit, float *sums)
{
    const uint32_t rows = kv_stripe_rows(format);
    vec total[VECS];
    UNROLLED for (uint32_t k = 0; k < VECS; k++) total[k] = zeros();
    for (; depth > rows; depth -= rows, factors += rows, codes += 4 * KV_STRIPE)
        add_row_words(format, codes, factors, false, total);
    add_row_words(format, codes, factors, true, total);
    UNROLLED for (uint32_t k = 0; k < VECS; k++)
        store(sums + LANES * k, fused(total[k], spread(unit), load(sums + LANES * k)));
}

static void KERNEL(subnormal_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    const enum kv_stripe_format format = stripes->format;
    const uint32_t rows = kv_stripe_rows(format);
    const int scale = rows > 1 ? scale_of(x, stripes->depth) : INT_MIN;
    if (scale == INT_MIN) {
        KERNEL(stripes)(stripes, x, sums);
        return;
    }
    float factors[CHUNK_ROWS] __attribute__((aligned(64)));
    const float unit = power_of_two(UNIT - scale);
    const size_t bytes = kv_stripes_apart(stripes);
    for (uint32_t r = 0; r < stripes->depth; r += CHUNK_ROWS) {
        const uint32_t left = stripes->depth - r, depth = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(format, r);
        scale_rows(x + r, depth, rows, scale, factors);
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes) {
            float *place = sums + (size_t)i * KV_STRIPE;
            if (format == KV_STRIPE_BYTE)
                add_subnormals(KV_STRIPE_BYTE, codes, factors, depth, unit, place);
            else
                add_subnormals(KV_STRIPE_NIBBLE, codes, factors, depth, unit, place);
        }
    }
}

#endif
