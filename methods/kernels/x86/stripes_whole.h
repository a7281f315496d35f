/* Codes of four bits times whole numbers, for the AVX2 and AVX-512 sets.
 *
 * A float product takes a code out of its word, converts it and multiplies it alone. Here 1024 rows of
 * x are whole numbers of one `unit`, u, in three signed bytes, and one instruction multiplies every
 * byte of codes and sums pairs of rows; words hold the sums of 32 rows. What is exact: all but x in
 * units, and the total as a float.
 *
 * The bound, with D rows: u = 2^(e - 22), 2^e <= 1.004 max |x| < 2^(e + 1), so that x / u fits three
 * bytes of -128 .. 127. Rounding costs a row u / 2 times its code, which is at most (D - D / 8) eps
 * |x v| unless |x| < u / (2 (D - D / 8) eps): those rows are `small`, and are floats. They are at most
 * an eighth of the rows, each with a rounding of the sum: D / 16 eps of it. The three bytes' sums are
 * joined by two more, of terms that are at most 1.1 of the sum of |x v|, and each 1024 rows' total is
 * added by one: less than 2 + D / 2048 eps. Where more rows are small, or x has no ordinary size, all
 * are floats. */
#ifndef KVBENCH_METHODS_KERNELS_X86_STRIPES_WHOLE_H
#define KVBENCH_METHODS_KERNELS_X86_STRIPES_WHOLE_H

#include <float.h>
#include <stdbool.h>

/* WORDS: of eight rows, whose sums of two products (at most 2 * 15 * 128) for each half of a byte a
 * word of 16 bits holds. */
enum { WHOLE_ROWS = 1024, WORD_ROWS = 8, WORDS = 4, DIGITS = 3, COLUMN_VECS = KV_STRIPE / LANES,
       PART_VECS = LANES / 4 };

/* x of up to 1024 rows: digits of rows 0 2 4 6 of a word, and of 1 3 5 7, the lowest first (the fourth is
 * none). */
struct wholes {
    float unit;
    uint32_t n_small;
    uint32_t small[WHOLE_ROWS / 8]; /* whose digits are 0 */
    int32_t digits[WHOLE_ROWS / WORD_ROWS][2][WORDS] __attribute__((aligned(64)));
};

/* Bytes of whole numbers as digits, from -128 to 127, of LANES / 8 words. */
ALWAYS_INLINE void store_digits(vec_int whole, int32_t (*digits)[2][WORDS])
{
    static const int32_t rows[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    static const uint8_t places[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const vec_int zero = WIDE(set1_epi32)(0x808080);
    const vec_int bytes = difference_bits(WIDE(add_epi32)(whole, zero), zero);
    const vec_int apart = as_bits(pick(as_floats(bytes), load_bits(rows)));
    store_bits(digits, WIDE(shuffle_epi8)(apart, repeat_bytes(places)));
}

/* LANES rows; those past n are 0. */
ALWAYS_INLINE vec rows_of(const float *x, uint32_t n)
{
    return n < LANES ? load_part(x, n) : load(x);
}

/* Bits of the largest |x|, NaN above all. */
static int32_t KERNEL(largest_bits)(const float *x, uint32_t n)
{
    vec_int most = no_counts();
    for (uint32_t r = 0; r < n; r += LANES)
        most = WIDE(max_epi32)(most, as_bits(magnitude(rows_of(x + r, n - r))));
    int32_t lanes[LANES], largest = 0;
    store_bits(lanes, most);
    for (int k = 0; k < LANES; k++) largest = lanes[k] > largest ? lanes[k] : largest;
    return largest;
}

/* The largest power of two up to an ordinary number above 0. */
static inline float power_below(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0x7f800000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Notes which of LANES rows, each a bit, are small. False: too many. */
static inline bool note_small(uint32_t lanes, uint32_t row, uint32_t most, struct wholes *to)
{
    for (; lanes; lanes &= lanes - 1) {
        if (to->n_small == most) return false;
        to->small[to->n_small++] = row + (uint32_t)__builtin_ctz(lanes);
    }
    return true;
}

/* False: x is better summed as floats. */
static bool KERNEL(make_wholes)(const float *x, uint32_t n, uint32_t depth, struct wholes *to)
{
    const int32_t bits = KERNEL(largest_bits)(x, n);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    if (!(largest > 0x1p-80f && largest < 0x1p80f)) return false;
    to->unit = 0x1p-22f * power_below(1.004f * largest);
    to->n_small = 0;
    const vec least = spread(to->unit / (2 * (float)(depth - depth / 8) * FLT_EPSILON));
    const vec scale = spread(1 / to->unit);
    for (uint32_t r = 0; r < n; r += LANES) {
        const vec rows = rows_of(x + r, n - r), size = magnitude(rows);
        const uint32_t small = lanes_above(least, size) & lanes_above(size, zeros());
        if (small && !note_small(small, r, n / 8, to)) return false;
        store_digits(WIDE(cvtps_epi32)(mul(unless_below(rows, size, least), scale)),
                     to->digits + r / WORD_ROWS);
    }
    return true;
}

/* Sums of words for COLUMN_VECS vectors of columns. */
struct whole_sums {
    vec_int of[COLUMN_VECS][DIGITS];
};

/* x's bytes for rows 0 2 4 6 of a word, and for 1 3 5 7. */
ALWAYS_INLINE void spread_digits(const int32_t digits[2][WORDS], vec_int factors[2][DIGITS])
{
    UNROLLED for (uint32_t d = 0; d < DIGITS; d++)
    {
        factors[0][d] = WIDE(set1_epi32)(digits[0][d]);
        factors[1][d] = WIDE(set1_epi32)(digits[1][d]);
    }
}

/* Bytes of those rows' codes. */
ALWAYS_INLINE void split_words(const uint8_t *words, vec_int rows[2])
{
    const vec_int low = WIDE(set1_epi8)(15), both = load_bits(words);
    rows[0] = and_bits(both, low), rows[1] = and_bits(WIDE(srli_epi16)(both, 4), low);
}

#if HAS_BYTE_DOTS
/* sum + the products of four bytes, in place: compilers copy every sum twice. */
ALWAYS_INLINE vec_int add_dots(vec_int sum, vec_int codes, vec_int factors)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(factors));
    return sum;
}

/* Some columns of up to four words. */
ALWAYS_INLINE void add_whole_words(const uint8_t *codes, const int32_t (*digits)[2][WORDS],
                                   uint32_t words, vec_int of[PART_VECS][DIGITS])
{
    UNROLLED for (uint32_t w = 0; w < words; w++)
    {
        vec_int factors[2][DIGITS], rows[2];
        const uint8_t *word = codes + w * 4 * KV_STRIPE;
        prefetch_row(word, 4 * LANES * PART_VECS);
        spread_digits(digits[w], factors);
        UNROLLED for (uint32_t k = 0; k < PART_VECS; k++)
        {
            split_words(word + 4 * LANES * k, rows);
            UNROLLED for (uint32_t i = 0; i < 2 * DIGITS; i++) of[k][i / 2] =
                add_dots(of[k][i / 2], rows[i % 2], factors[i % 2][i / 2]);
        }
    }
}
#else
/* sum + products, in this order: compilers add by pairs, and spill. */
ALWAYS_INLINE vec_int add_products(vec_int sum, vec_int products)
{
    vec_int next = WIDE(add_epi16)(sum, products);
    __asm__("" : "+v"(next));
    return next;
}

/* Sums of eight rows' products onto those of the words before. */
ALWAYS_INLINE void multiply_word(const uint8_t *word, const int32_t digits[2][WORDS], bool first,
                                 vec_int sums[PART_VECS][DIGITS])
{
    vec_int factors[2][DIGITS], rows[2];
    prefetch_row(word, 4 * LANES * PART_VECS);
    spread_digits(digits, factors);
    UNROLLED for (uint32_t k = 0; k < PART_VECS; k++)
    {
        split_words(word + 4 * LANES * k, rows);
        UNROLLED for (uint32_t d = 0; d < DIGITS; d++)
        {
            const vec_int a = WIDE(maddubs_epi16)(rows[0], factors[0][d]);
            const vec_int b = WIDE(maddubs_epi16)(rows[1], factors[1][d]);
            sums[k][d] = add_products(first ? a : add_products(sums[k][d], a), b);
        }
    }
}

/* Some columns of up to four words. */
ALWAYS_INLINE void add_whole_words(const uint8_t *codes, const int32_t (*digits)[2][WORDS],
                                   uint32_t words, vec_int of[PART_VECS][DIGITS])
{
    const vec_int ones = WIDE(set1_epi16)(1);
    vec_int sums[PART_VECS][DIGITS];
    UNROLLED for (uint32_t w = 0; w < words; w++)
        multiply_word(codes + w * 4 * KV_STRIPE, digits[w], !w, sums);
    UNROLLED for (uint32_t k = 0; k < PART_VECS; k++)
        UNROLLED for (uint32_t d = 0; d < DIGITS; d++)
            of[k][d] = WIDE(add_epi32)(of[k][d], WIDE(madd_epi16)(sums[k][d], ones));
}
#endif

/* All columns. Compilers would keep x's bytes of one part in memory for the next. */
ALWAYS_INLINE void add_whole_parts(const uint8_t *codes, const int32_t (*digits)[2][WORDS],
                                   uint32_t words, struct whole_sums *to)
{
    UNROLLED for (uint32_t k = 0; k < COLUMN_VECS; k += PART_VECS)
    {
        add_whole_words(codes + 4 * LANES * k, digits, words, to->of + k);
        __asm__ volatile("" ::: "memory");
    }
}

/* sums[64] += the total in units. */
ALWAYS_INLINE void join_digits(const struct whole_sums *from, float unit, float *sums)
{
    UNROLLED for (uint32_t k = 0; k < COLUMN_VECS; k++)
    {
        const vec low = WIDE(cvtepi32_ps)(from->of[k][0]), next = WIDE(cvtepi32_ps)(from->of[k][1]);
        const vec high = WIDE(cvtepi32_ps)(from->of[k][2]);
        const vec total = fused(high, spread(65536), fused(next, spread(256), low));
        store(sums + k * LANES, fused(total, spread(unit), load(sums + k * LANES)));
    }
}

static __attribute__((noinline)) void KERNEL(add_wholes)(const uint8_t *codes, uint32_t words,
                                                         const struct wholes *x, float *sums)
{
    struct whole_sums all;
    uint32_t w = 0;
    UNROLLED for (uint32_t k = 0; k < COLUMN_VECS; k++)
        UNROLLED for (uint32_t d = 0; d < DIGITS; d++) all.of[k][d] = no_counts();
    for (; w + WORDS <= words; w += WORDS, codes += WORDS * 4 * KV_STRIPE) {
        add_whole_parts(codes, x->digits + w, WORDS, &all);
    }
    for (; w < words; w++, codes += 4 * KV_STRIPE) add_whole_parts(codes, x->digits + w, 1, &all);
    join_digits(&all, x->unit, sums);
}

/* One row, as floats. */
ALWAYS_INLINE void add_small_row(const uint8_t *codes, uint32_t row, float x, float *sums)
{
    const uint8_t *words = codes + row / WORD_ROWS * 4 * KV_STRIPE;
    const __m128i shift = _mm_cvtsi32_si128((int)(4 * (row % WORD_ROWS)));
    UNROLLED for (uint32_t k = 0; k < COLUMN_VECS; k++)
    {
        const vec_int field = WIDE(srl_epi32)(load_bits(words + 4 * LANES * k), shift);
        const vec code = WIDE(cvtepi32_ps)(and_bits(field, WIDE(set1_epi32)(15)));
        store(sums + k * LANES, fused(code, spread(x), load(sums + k * LANES)));
    }
}

/* Rows first .. of every stripe, as floats. */
static void KERNEL(add_floats)(const struct kv_stripes *stripes, uint32_t first, uint32_t rows,
                               const float *x, float *sums)
{
    struct kv_stripes part = *stripes;
    const size_t bytes = kv_stripes_apart(stripes);
    part.depth = rows;
    if (rows != stripes->depth) part.n = 1;
    part.codes += kv_stripe_bytes(stripes->format, first);
    for (uint32_t i = 0; i < stripes->n; i += part.n, part.codes += bytes * part.n)
        KERNEL(stripes)(&part, x + first, sums + (size_t)i * KV_STRIPE);
}

static void KERNEL(nibble_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    struct wholes wholes;
    const size_t bytes = kv_stripes_apart(stripes);
    for (uint32_t first = 0; first < stripes->depth; first += WHOLE_ROWS) {
        const uint32_t left = stripes->depth - first, n = left < WHOLE_ROWS ? left : WHOLE_ROWS;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(KV_STRIPE_NIBBLE, first);
        if (!KERNEL(make_wholes)(x + first, n, stripes->depth, &wholes)) {
            KERNEL(add_floats)(stripes, first, n, x, sums);
            continue;
        }
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes) {
            float *place = sums + (size_t)i * KV_STRIPE;
            KERNEL(add_wholes)(codes, (n + WORD_ROWS - 1) / WORD_ROWS, &wholes, place);
            for (uint32_t s = 0; s < wholes.n_small; s++)
                add_small_row(codes, wholes.small[s], x[first + wholes.small[s]], place);
        }
    }
}

/* Nibbles as whole numbers, other formats as floats. */
static void KERNEL(whole_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    const bool whole = stripes->format == KV_STRIPE_NIBBLE;
    (whole ? KERNEL(nibble_stripes) : KERNEL(stripes))(stripes, x, sums);
}

#endif
