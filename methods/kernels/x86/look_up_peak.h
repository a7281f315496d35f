/* Look-ups of codes of four bits out of registers, by as few operations as are known for each way
 * (kv_look_up in kernels.h): no sum of such look-ups by these ways is faster, since loads of codes
 * and tables, the making of tables and what joins the sums come on top.
 *
 * Bytes hold two codes: one takes a mask, the other a shift and a mask, but where it is told. Results
 * mean nothing; what
 * is written as assembly is so that compilers neither merge equal operations nor copy registers. */
#ifndef KVBENCH_METHODS_KERNELS_X86_LOOK_UP_PEAK_H
#define KVBENCH_METHODS_KERNELS_X86_LOOK_UP_PEAK_H

#include <stdbool.h>

#ifndef __AVX512F__
#define AND_BITS "vpand"
#define XOR_BITS "vpxor"
#else
#define AND_BITS "vpandd"
#define XOR_BITS "vpxord"
#endif

/* Vectors of floats that the codes of one vector of bytes become; planes of a whole number at most,
 * and rows that are summed in bytes. */
enum { VALUES = 8, PIECES = 4, AT_ONCE = 8 };

/* What the ways have in registers. */
struct look_up_peak {
    vec_int codes, table, words[2], odd[2];
    vec factor, sums[VALUES];
};

/* out = operation of a and b, which no other equals. Not in place: compilers copy what is changed.
 */
#define DO(operation, out, a, b)                                                                   \
    __asm__ volatile(operation " %2, %1, %0" : "=v"(out) : "v"(a), "v"(b))

/* The two codes of each byte. */
ALWAYS_INLINE void isolate_codes(const struct look_up_peak *at, vec_int index[2])
{
    const vec_int mask = WIDE(set1_epi8)(15);
    DO(AND_BITS, index[0], at->codes, mask);
    __asm__ volatile("vpsrlw $4, %1, %0" : "=v"(index[1]) : "v"(at->codes));
    DO(AND_BITS, index[1], index[1], mask);
}

ALWAYS_INLINE vec_int look_up_plane(const struct look_up_peak *at, vec_int index)
{
    vec_int looked;
    DO("vpshufb", looked, at->table, index);
    return looked;
}

/* A value times a factor, or as it is, onto a sum. */
ALWAYS_INLINE void sum_value(struct look_up_peak *at, bool products, uint32_t k, vec value)
{
    if (products)
        at->sums[k] = fused(value, at->factor, at->sums[k]);
    else
        DO("vaddps", at->sums[k], at->sums[k], value);
}

/* Floats of three planes (the lowest byte is any): sixteen bits of a significand, less than a
 * float's. */
ALWAYS_INLINE size_t sum_joined(struct look_up_peak *at, bool products)
{
    vec_int index[2];
    isolate_codes(at, index);
    UNROLLED for (uint32_t i = 0; i < 2; i++)
    {
        const vec_int a = look_up_plane(at, index[i]), b = look_up_plane(at, index[i]);
        const vec_int c = look_up_plane(at, index[i]);
        const vec_int low[2] = {WIDE(unpacklo_epi8)(a, a), WIDE(unpackhi_epi8)(a, a)};
        const vec_int high[2] = {WIDE(unpacklo_epi8)(b, c), WIDE(unpackhi_epi8)(b, c)};
        UNROLLED for (uint32_t h = 0; h < 2; h++)
        {
            const uint32_t k = 4 * i + 2 * h;
            sum_value(at, products, k, as_floats(WIDE(unpacklo_epi16)(low[h], high[h])));
            sum_value(at, products, k + 1, as_floats(WIDE(unpackhi_epi16)(low[h], high[h])));
        }
    }
    return VALUES * LANES;
}

/* Floats by a permute of the table, which reads a word's lowest bits and no others: what lies in a
 * byte's low half is there when words are read from its address, what lies in its high half takes a
 * shift. Of eight lanes it takes a symmetric table, whose sign is a bit of the code, at its place for
 * nothing. */
ALWAYS_INLINE size_t sum_permuted(struct look_up_peak *at, bool products)
{
    UNROLLED for (uint32_t k = 0; k < VALUES; k++)
    {
        vec value;
        vec_int index = at->codes;
        if (k % 2) __asm__ volatile("vpsrld $4, %1, %0" : "=v"(index) : "v"(at->codes));
        __asm__ volatile("vpermps %1, %2, %0" : "=v"(value) : "v"(at->table), "v"(index));
        if (LANES == 8) DO(XOR_BITS, value, value, at->codes);
        sum_value(at, products, k, value);
    }
    return VALUES * LANES;
}

/* Signs of one row flip x: four rows are one code. */
ALWAYS_INLINE size_t sum_flipped(struct look_up_peak *at)
{
    UNROLLED for (uint32_t k = 0; k < VALUES; k++)
    {
        vec value;
        DO(XOR_BITS, value, at->codes, at->factor);
        sum_value(at, false, k, value);
    }
    return VALUES * LANES / 4;
}

/* A plane's bytes onto words, apart for even and odd columns. */
ALWAYS_INLINE void widen_sums(struct look_up_peak *at, uint32_t k, vec_int bytes)
{
    const vec_int high = WIDE(srli_epi16)(bytes, 8);
    DO("vpaddw", at->words[k], at->words[k], bytes);
    DO("vpaddw", at->odd[k], at->odd[k], high);
}

/* Whole numbers in planes of six bits, of which four rows' sum is a byte, then of five bits, of
 * which eight rows' is. */
ALWAYS_INLINE size_t sum_wholes(struct look_up_peak *at, uint32_t sixes, uint32_t fives)
{
    vec_int bytes[PIECES], index[2];
    UNROLLED for (uint32_t r = 0; r < AT_ONCE; r++)
    {
        if (r % 2 == 0) isolate_codes(at, index);
        UNROLLED for (uint32_t p = 0; p < sixes + fives; p++)
        {
            const uint32_t rows = p < sixes ? AT_ONCE / 2 : AT_ONCE;
            const vec_int looked = look_up_plane(at, index[r % 2]);
            if (r % rows)
                DO("vpaddb", bytes[p], bytes[p], looked);
            else
                bytes[p] = looked;
            if ((r + 1) % rows == 0) widen_sums(at, p % 2, bytes[p]);
        }
    }
    return AT_ONCE * 4 * LANES;
}

#if HAS_BYTE_DOTS
/* Four bytes times those of x onto the sum of a column. */
ALWAYS_INLINE void sum_dots(struct look_up_peak *at, uint32_t k, vec_int bytes)
{
    __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(at->sums[k % VALUES]) : "v"(bytes), "v"(at->factor));
}

/* Codes times three bytes. */
ALWAYS_INLINE size_t sum_products(struct look_up_peak *at)
{
    vec_int index[2];
    UNROLLED for (uint32_t r = 0; r < AT_ONCE; r++)
    {
        if (r % 2 == 0) isolate_codes(at, index);
        UNROLLED for (uint32_t d = 0; d < 3; d++) sum_dots(at, 3 * r + d, index[r % 2]);
    }
    return AT_ONCE * 4 * LANES;
}

/* Two planes of bytes, looked up where two permutes have put four groups' codes into each word. */
ALWAYS_INLINE size_t sum_whole_signs(struct look_up_peak *at)
{
    vec_int index[2], bytes;
    UNROLLED for (uint32_t r = 0; r < AT_ONCE; r++)
    {
        if (r % 2 == 0) {
            DO("vpermd", bytes, at->codes, at->table);
            DO("vpermb", bytes, bytes, at->table);
            isolate_codes(at, index);
        }
        UNROLLED for (uint32_t p = 0; p < 2; p++)
        {
            DO("vpermb", bytes, index[r % 2], at->table);
            sum_dots(at, 2 * r + p, bytes);
        }
    }
    return AT_ONCE * 4 * LANES;
}
#else
/* Three planes of six and five bits. */
ALWAYS_INLINE size_t sum_whole_signs(struct look_up_peak *at) { return sum_wholes(at, 1, 2); }

/* Codes times three bytes, pairs of rows summed in words, those of 32 rows before they are widened. */
ALWAYS_INLINE size_t sum_products(struct look_up_peak *at)
{
    const vec_int x = as_bits(at->factor);
    vec_int index[2], words[3], product;
    UNROLLED for (uint32_t r = 0; r < AT_ONCE; r++)
    {
        if (r % 2 == 0) isolate_codes(at, index);
        UNROLLED for (uint32_t d = 0; d < 3; d++)
        {
            DO("vpmaddubsw", product, index[r % 2], x);
            if (r)
                DO("vpaddw", words[d], words[d], product);
            else
                words[d] = product;
        }
    }
    UNROLLED for (uint32_t d = 0; d < 3; d++)
    {
        DO("vpmaddwd", product, words[d], x);
        DO("vpaddd", at->words[d % 2], at->words[d % 2], product);
    }
    return AT_ONCE * 4 * LANES;
}
#endif

ALWAYS_INLINE size_t sum_look_ups(enum kv_look_up way, struct look_up_peak *at)
{
    switch (way) {
    case KV_LOOK_UP_JOINED:
        return sum_joined(at, true);
    case KV_LOOK_UP_PERMUTED:
        return sum_permuted(at, true);
    case KV_LOOK_UP_WHOLES:
        return sum_wholes(at, 3, 1);
    case KV_LOOK_UP_JOINED_SIGNS:
        return sum_joined(at, false);
    case KV_LOOK_UP_PERMUTED_SIGNS:
        return sum_permuted(at, false);
    case KV_LOOK_UP_WHOLE_SIGNS:
        return sum_whole_signs(at);
    case KV_LOOK_UP_PRODUCTS:
        return sum_products(at);
    default:
        return sum_flipped(at);
    }
}

ALWAYS_INLINE double repeat_look_ups(enum kv_look_up way, size_t rounds)
{
    volatile float start = 0x1p-20f;
    const vec any = spread(start);
    struct look_up_peak at = {
        .codes = as_bits(any), .table = as_bits(spread(-start)), .factor = any};
    size_t codes = 0;
    UNROLLED for (uint32_t k = 0; k < 2; k++) at.words[k] = at.odd[k] = as_bits(zeros());
    UNROLLED for (uint32_t k = 0; k < VALUES; k++) at.sums[k] = spread(start);
    for (size_t i = 0; i < rounds; i++) /* several, so that what ends a round does not count */
        UNROLLED for (uint32_t k = 0; k < 4; k++) codes += sum_look_ups(way, &at);
    UNROLLED for (uint32_t k = 1; k < VALUES; k++) at.sums[0] = add(at.sums[0], at.sums[k]);
    UNROLLED for (uint32_t k = 0; k < 2; k++) at.sums[0] =
        add(at.sums[0], add(as_floats(at.words[k]), as_floats(at.odd[k])));
    start = sum_lanes(at.sums[0]);
    return (double)codes;
}

static double KERNEL(look_up_peak)(enum kv_look_up way, size_t rounds)
{
    switch (way) {
    case KV_LOOK_UP_JOINED:
        return repeat_look_ups(KV_LOOK_UP_JOINED, rounds);
    case KV_LOOK_UP_PERMUTED:
        return repeat_look_ups(KV_LOOK_UP_PERMUTED, rounds);
    case KV_LOOK_UP_WHOLES:
        return repeat_look_ups(KV_LOOK_UP_WHOLES, rounds);
    case KV_LOOK_UP_JOINED_SIGNS:
        return repeat_look_ups(KV_LOOK_UP_JOINED_SIGNS, rounds);
    case KV_LOOK_UP_PERMUTED_SIGNS:
        return repeat_look_ups(KV_LOOK_UP_PERMUTED_SIGNS, rounds);
    case KV_LOOK_UP_WHOLE_SIGNS:
        return repeat_look_ups(KV_LOOK_UP_WHOLE_SIGNS, rounds);
    case KV_LOOK_UP_PRODUCTS:
        return repeat_look_ups(KV_LOOK_UP_PRODUCTS, rounds);
    default:
        return repeat_look_ups(KV_LOOK_UP_FLIPPED_SIGNS, rounds);
    }
}

#endif
