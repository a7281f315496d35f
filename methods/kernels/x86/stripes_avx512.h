/* One query over stored codes, for the AVX-512 set.
 *
 * A permute of 16 floats reads the low four bits of each word and nothing else: words that are read
 * from address a + j on have the low half of their byte j there, without a shift or a mask, and one
 * shift brings its high half. Two values are five operations for two ports, where shifts, masks and
 * conversions took eight. What reads past a buffer's end is a copy of its last block. */
#ifndef KVBENCH_METHODS_KERNELS_X86_STRIPES_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_STRIPES_AVX512_H

#include <stdbool.h>

/* Bytes of a word; totals, of which a column has two, so that they are chains enough; bytes that
 * are read past a block; groups of signs whose tables are ready at a time. */
enum { WORD = 4, VECS = KV_STRIPE / LANES, TOTALS = 2 * VECS, PAST = WORD - 1, GROUPS = 64 };

/* Rows that are read at once: two where a word has one. */
ALWAYS_INLINE uint32_t block_rows(enum kv_stripe_format format)
{
    return kv_stripe_rows(format) > 1 ? kv_stripe_rows(format) : 2;
}

/* Words from any address. Most of them are in two lines, which is dear: without the assembly
 * compilers read them again for each half of a byte. */
ALWAYS_INLINE vec_int load_words(const uint8_t *codes)
{
    vec_int words = _mm512_loadu_si512(codes);
    __asm__("" : "+v"(words));
    return words;
}

ALWAYS_INLINE vec high_half(vec table, vec_int words)
{
    return pick(table, _mm512_srli_epi32(words, 4));
}

/* A column a word: nibbles 2 j and 2 j + 1 of it are rows. */
ALWAYS_INLINE void add_nibble_block(const uint8_t *codes, const float *x, vec table,
                                    vec total[TOTALS])
{
    UNROLLED for (uint32_t j = 0; j < WORD; j++) {
        const vec even = spread(x[2 * j]), odd = spread(x[2 * j + 1]);
        UNROLLED for (uint32_t k = 0; k < VECS; k++) {
            const vec_int words = load_words(codes + WORD * LANES * k + j);
            total[k] = fused(pick(table, words), even, total[k]);
            total[VECS + k] = fused(high_half(table, words), odd, total[VECS + k]);
        }
    }
}

/* A column a word: byte j of it is row j. */
ALWAYS_INLINE vec byte_of_words(const uint8_t *words, uint32_t j)
{
    const vec_int low = _mm512_set1_epi32(255);
    return _mm512_cvtepi32_ps(j == WORD - 1
                                  ? _mm512_srli_epi32(_mm512_loadu_si512(words), 8 * (WORD - 1))
                                  : _mm512_and_si512(_mm512_loadu_si512(words + j), low));
}

ALWAYS_INLINE void add_byte_block(const uint8_t *codes, const float *x, vec total[TOTALS])
{
    UNROLLED for (uint32_t j = 0; j < WORD; j++) {
        vec *const sums = total + j % 2 * VECS;
        const vec factor = spread(x[j]);
        UNROLLED for (uint32_t k = 0; k < VECS; k++)
            sums[k] = fused(byte_of_words(codes + WORD * LANES * k, j), factor, sums[k]);
    }
}

/* Two rows, one in each half of a vector, of columns j, j + 4, .. and those 32 behind them. */
ALWAYS_INLINE void add_book_block(const uint8_t *codes, const float *x, vec table,
                                  vec total[TOTALS])
{
    const vec factor = _mm512_mask_broadcastss_ps(spread(x[0]), 0xff00, _mm_load_ss(x + 1));
    UNROLLED for (uint32_t j = 0; j < WORD; j++) {
        const vec_int words = load_words(codes + j);
        total[j] = fused(pick(table, words), factor, total[j]);
        total[VECS + j] = fused(high_half(table, words), factor, total[VECS + j]);
    }
}

ALWAYS_INLINE void add_half_block(const uint8_t *codes, const float *x, vec total[TOTALS])
{
    const uint16_t *halves = (const uint16_t *)(const void *)codes;
    UNROLLED for (uint32_t k = 0; k < TOTALS; k++)
        total[k] = fused(load_half(halves + k * LANES), spread(x[k / VECS]), total[k]);
}

ALWAYS_INLINE void add_block(enum kv_stripe_format format, const uint8_t *codes, const float *x,
                             vec table, vec total[TOTALS])
{
    switch (format) {
    case KV_STRIPE_HALF: add_half_block(codes, x, total); break;
    case KV_STRIPE_BOOK: add_book_block(codes, x, table, total); break;
    case KV_STRIPE_BYTE: add_byte_block(codes, x, total); break;
    default: add_nibble_block(codes, x, table, total); break;
    }
}

/* Lane l of v[j] is column 4 l + j -> columns in order. */
ALWAYS_INLINE void settle_columns(vec v[VECS])
{
    const vec a = _mm512_unpacklo_ps(v[0], v[1]), b = _mm512_unpackhi_ps(v[0], v[1]);
    const vec c = _mm512_unpacklo_ps(v[2], v[3]), d = _mm512_unpackhi_ps(v[2], v[3]);
    const vec p = _mm512_shuffle_ps(a, c, 0x44), q = _mm512_shuffle_ps(a, c, 0xee);
    const vec r = _mm512_shuffle_ps(b, d, 0x44), s = _mm512_shuffle_ps(b, d, 0xee);
    const vec pq = _mm512_shuffle_f32x4(p, q, 0x44), rs = _mm512_shuffle_f32x4(r, s, 0x44);
    const vec pq2 = _mm512_shuffle_f32x4(p, q, 0xee), rs2 = _mm512_shuffle_f32x4(r, s, 0xee);
    v[0] = _mm512_shuffle_f32x4(pq, rs, 0x88), v[1] = _mm512_shuffle_f32x4(pq, rs, 0xdd);
    v[2] = _mm512_shuffle_f32x4(pq2, rs2, 0x88), v[3] = _mm512_shuffle_f32x4(pq2, rs2, 0xdd);
}

/* A column's two totals: those of a book are the halves of a vector. */
ALWAYS_INLINE void join_totals(enum kv_stripe_format format, vec total[TOTALS])
{
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        const vec a = total[k], b = total[VECS + k];
        total[k] = format == KV_STRIPE_BOOK ? add(_mm512_shuffle_f32x4(a, b, 0x44),
                                                  _mm512_shuffle_f32x4(a, b, 0xee))
                                            : add(a, b);
    }
    if (format == KV_STRIPE_BOOK) settle_columns(total);
}

ALWAYS_INLINE void add_sums(const vec total[VECS], float *sums)
{
    UNROLLED for (uint32_t k = 0; k < VECS; k++)
        store(sums + k * LANES, add(load(sums + k * LANES), total[k]));
}

/* Adds one stripe, of which `direct` blocks may be read past their end. */
ALWAYS_INLINE void add_stripe(enum kv_stripe_format format, const uint8_t *codes, const float *x,
                              uint32_t depth, uint32_t direct, vec table, float *sums)
{
    const uint32_t rows = block_rows(format),
                   bytes = (uint32_t)kv_stripe_bytes(format, rows);
    vec total[TOTALS];
    uint32_t r = 0;
    UNROLLED for (uint32_t k = 0; k < TOTALS; k++) total[k] = zeros();
    for (; r < direct * rows; r += rows, codes += bytes) {
        prefetch_row(codes, bytes);
        add_block(format, codes, x + r, table, total);
    }
    if (r < depth) {
        uint8_t last[WORD * KV_STRIPE + PAST] = {0};
        float padded[8];
        memcpy(last, codes, kv_stripe_bytes(format, depth - r));
        add_block(format, last, whole_rows(x + r, depth - r, rows, padded), table, total);
    }
    join_totals(format, total);
    add_sums(total, sums);
}

ALWAYS_INLINE void add_stripes(enum kv_stripe_format format, const struct kv_stripes *stripes,
                               const float *x, vec table, float *sums)
{
    const uint32_t rows = block_rows(format), whole = stripes->depth / rows;
    const bool filled = whole * rows == stripes->depth;
    const uint8_t *codes = stripes->codes;
    for (uint32_t i = 0; i < stripes->n; i++, sums += KV_STRIPE) {
        const bool inside = format == KV_STRIPE_HALF || i + 1 < stripes->n || !filled;
        add_stripe(format, codes, x, stripes->depth, inside ? whole : whole - 1, table, sums);
        codes += kv_stripes_apart(stripes);
    }
}

/* -- signs ------------------------------------------------------------------------------------ */

/* x where a lane's bit is set, else -x. */
ALWAYS_INLINE vec signed_lanes(float x, __mmask16 lanes)
{
    return _mm512_mask_blend_ps(lanes, spread(-x), spread(x));
}

/* Four rows of signs are one look-up of +-x0 +-x1 +-x2 +-x3. */
static void KERNEL(sign_tables)(const float *x, uint32_t groups, vec *tables)
{
    for (uint32_t g = 0; g < groups; g++, x += 4) {
        const vec low = add(signed_lanes(x[0], 0xaaaa), signed_lanes(x[1], 0xcccc));
        const vec high = add(signed_lanes(x[2], 0xf0f0), signed_lanes(x[3], 0xff00));
        tables[g] = add(low, high);
    }
}

/* A group is in both halves of a vector, the upper one for its columns from 32 on. */
static void KERNEL(add_signs)(const uint8_t *codes, uint32_t groups, const vec *tables, float *sums)
{
    const vec_int upper = _mm512_maskz_set1_epi32(0xff00, 4);
    vec total[VECS];
    UNROLLED for (uint32_t k = 0; k < VECS; k++) total[k] = zeros();
    for (uint32_t g = 0; g < groups; g++, codes += KV_STRIPE / 2) {
        const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)codes);
        const vec_int words = _mm512_broadcast_i64x4(half);
        prefetch_row(codes, KV_STRIPE / 2);
        UNROLLED for (uint32_t j = 0; j < WORD; j++) {
            const vec_int shift = _mm512_add_epi32(upper, _mm512_set1_epi32(8 * (int)j));
            total[j] = add(total[j], pick(tables[g], _mm512_srlv_epi32(words, shift)));
        }
    }
    settle_columns(total);
    add_sums(total, sums);
}

static void KERNEL(sign_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    vec tables[GROUPS];
    const size_t bytes = kv_stripes_apart(stripes);
    const uint32_t all = stripes->depth / 4;
    for (uint32_t first = 0; first < all; first += GROUPS) {
        const uint32_t groups = all - first < GROUPS ? all - first : GROUPS;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(KV_STRIPE_SIGN, 4 * first);
        KERNEL(sign_tables)(x + 4 * (size_t)first, groups, tables);
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes)
            KERNEL(add_signs)(codes, groups, tables, sums + (size_t)i * KV_STRIPE);
    }
}

static void KERNEL(stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    static const float integers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    switch (stripes->format) {
    case KV_STRIPE_HALF: add_stripes(KV_STRIPE_HALF, stripes, x, zeros(), sums); break;
    case KV_STRIPE_BYTE: add_stripes(KV_STRIPE_BYTE, stripes, x, zeros(), sums); break;
    case KV_STRIPE_NIBBLE: add_stripes(KV_STRIPE_NIBBLE, stripes, x, load(integers), sums); break;
    case KV_STRIPE_BOOK: add_stripes(KV_STRIPE_BOOK, stripes, x, load(stripes->table), sums); break;
    default: KERNEL(sign_stripes)(stripes, x, sums); break;
    }
}

#endif
