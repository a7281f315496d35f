/* Signs and codes of a book by look-ups of whole numbers, for the AVX2 set.
 *
 * A look-up is what one table of 16 gives for a row's 64 codes: x times the book's entries, or four
 * rows' +-x0 +-x1 +-x2 +-x3 (stripes.h). As floats its four bytes have to be joined, which takes
 * two thirds of the time. Here table entries are whole numbers of 2 or 3 bytes in units of one
 * `step`; bytes of each plane are summed in words, and joined once a stripe.
 *
 * The bound, with D rows, u = eps / 2: rounding to whole numbers costs each look-up step / 2, so
 * that
 *
 *     step = 2 (D + 4) eps M / L,    M <= sum_r |x_r v_r| of any column,
 *
 * keeps L look-ups within (D + 4) eps sum |x v|; products, sums of four, and the total as a float,
 * by step and onto sums are less than 3.5 eps of the 4 that are left. M is sum |x| for signs and
 * the book's least |entry| times that for a book. Numbers that do not fit are split in equal parts,
 * each a look-up of its own. Where that makes more than L of them (x lies in few rows, the book has
 * an entry near 0), or x has no ordinary sum, floats it is. */
#ifndef KVBENCH_METHODS_KERNELS_X86_STRIPES_FIXED_H
#define KVBENCH_METHODS_KERNELS_X86_STRIPES_FIXED_H

#include <float.h>
#include <math.h>

/* A word holds 257 bytes' sum: groups of rows that are summed before they are joined, and look-ups, of which two
 * have their tables side by side: a lane of a vector each. */
enum { MOST_GROUPS = 192, MOST_LOOK_UPS = 256, PLANE = 16, MOST_PLANES = 3, PAIR_PLANE = 2 * PLANE };

struct look_ups {
    uint32_t n, planes;          /* n is a multiple of 4: the last ones may be of 0 */
    float step, scale;           /* and its inverse */
    uint32_t row[MOST_LOOK_UPS]; /* where its codes are */
    uint8_t tables[MOST_LOOK_UPS / 2][MOST_PLANES * PAIR_PLANE] __attribute__((aligned(64)));
};

ALWAYS_INLINE uint32_t rows_of_group(enum kv_stripe_format format)
{
    return format == KV_STRIPE_SIGN ? 4 : 1;
}

/* Entries 4 j .. 4 j + 3, j = 0 .. 3, of two look-ups' tables, a lane each: a whole number is a float's lowest bits
 * once a large one, `base`, is added to it. x: of a book, its look-up's in each lane; of signs, the lanes' four. */
ALWAYS_INLINE void book_entries(const vec quarters[4], vec x, vec base, __m256i entries[4])
{
    UNROLLED for (uint32_t j = 0; j < 4; j++)
        entries[j] = _mm256_castps_si256(fused(quarters[j], x, base));
}

ALWAYS_INLINE void sign_entries(vec x, vec base, __m256i entries[4])
{
    const vec sign = _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
    const vec next = _mm256_setr_ps(-0.0f, -0.0f, 0, 0, -0.0f, -0.0f, 0, 0);
    const vec first = _mm256_permute_ps(x, 0x00), second = _mm256_permute_ps(x, 0x55);
    const vec third = _mm256_permute_ps(x, 0xaa), fourth = _mm256_permute_ps(x, 0xff);
    const vec low = add(_mm256_xor_ps(first, sign), _mm256_xor_ps(second, next));
    const vec alike = add(third, fourth), apart = sub(third, fourth);
    const vec sums[4] = {sub(low, alike), add(low, apart), sub(low, apart), add(low, alike)};
    UNROLLED for (uint32_t j = 0; j < 4; j++) entries[j] = _mm256_castps_si256(add(sums[j], base));
}

/* The lowest bytes of 16 words of each lane, the next, and the next. */
ALWAYS_INLINE void store_planes(const __m256i entries[4], uint32_t planes, uint8_t *out)
{
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m256i e[4];
    UNROLLED for (uint32_t j = 0; j < 4; j++) e[j] = _mm256_shuffle_epi8(entries[j], order);
    const __m256i a = _mm256_unpacklo_epi32(e[0], e[1]), b = _mm256_unpacklo_epi32(e[2], e[3]);
    store_bits(out, _mm256_unpacklo_epi64(a, b));
    store_bits(out + PAIR_PLANE, _mm256_unpackhi_epi64(a, b));
    if (planes < MOST_PLANES) return;
    const __m256i c = _mm256_unpackhi_epi32(e[0], e[1]), d = _mm256_unpackhi_epi32(e[2], e[3]);
    store_bits(out + 2 * PAIR_PLANE, _mm256_unpacklo_epi64(c, d));
}

/* Largest whole number either way, and what stands for 0. */
ALWAYS_INLINE float most_whole(uint32_t planes)
{
    return planes == 2 ? 32700.0f : 4194000.0f;
}
ALWAYS_INLINE uint32_t whole_zero(uint32_t planes)
{
    return planes == 2 ? 1u << 15 : 1u << 22;
}

/* Sum of |x|, and the largest of a group's. */
static void KERNEL(sizes)(const float *x, uint32_t rows, uint32_t together, float *sum, float *most)
{
    vec total = zeros(), largest = zeros();
    for (uint32_t r = 0; r < rows; r += LANES) {
        vec v = magnitude(rows - r < LANES ? load_part(x + r, rows - r) : load(x + r));
        total = add(total, v);
        if (together > 1) {
            v = add(v, _mm256_permute_ps(v, 0xb1));
            v = add(v, _mm256_permute_ps(v, 0x4e));
        }
        largest = _mm256_max_ps(largest, v);
    }
    float lanes[LANES];
    store(lanes, largest);
    *sum = sum_lanes(total), *most = lanes[0];
    for (int k = 1; k < LANES; k++) *most = lanes[k] > *most ? lanes[k] : *most;
}

static float group_size(enum kv_stripe_format format, const float *x)
{
    return format == KV_STRIPE_SIGN ? (fabsf(x[0]) + fabsf(x[1])) + (fabsf(x[2]) + fabsf(x[3]))
                                    : fabsf(x[0]);
}

/* Least and largest |value|. */
static void value_range(const struct kv_stripes *stripes, float *least, float *most)
{
    *least = stripes->format == KV_STRIPE_SIGN ? 1 : FLT_MAX;
    *most = stripes->format == KV_STRIPE_SIGN ? 1 : 0;
    for (int i = 0; i < 16 && stripes->format == KV_STRIPE_BOOK; i++) {
        const float size = fabsf(stripes->table[i]);
        *least = size < *least ? size : *least;
        *most = size > *most ? size : *most;
    }
}

/* A look-up for each group, and as many as it takes, of equal parts of its x. `reach` is the largest whole number of
 * a group of size 1; false: more look-ups than the n there may be. */
static void share_once(const float *x, uint32_t groups, uint32_t together, struct look_ups *to, float *shares)
{
    for (uint32_t g = 0; g < groups; g++) to->row[g] = g * KV_STRIPE / 2;
    memcpy(shares, x, groups * together * sizeof *x);
    to->n = groups;
}

static bool share_parts(enum kv_stripe_format format, const float *x, uint32_t groups, float reach,
                        struct look_ups *to, float *shares)
{
    const uint32_t limit = to->n, together = rows_of_group(format);
    const float most = most_whole(to->planes);
    uint32_t n = 0;
    for (uint32_t g = 0; g < groups; g++, x += together) {
        const float part = group_size(format, x) * reach / most;
        const uint32_t parts = part < MOST_LOOK_UPS ? (uint32_t)part + 1 : limit + 1;
        if (n + parts > limit) return false;
        for (uint32_t p = 0; p < parts; p++, n++) {
            to->row[n] = g * KV_STRIPE / 2;
            for (uint32_t k = 0; k < together; k++) shares[n * together + k] = x[k] / (float)parts;
        }
    }
    to->n = n;
    return true;
}

static void pad_shares(uint32_t together, struct look_ups *to, float *shares)
{
    for (; to->n % 4; to->n++) {
        to->row[to->n] = 0;
        memset(shares + to->n * together, 0, together * sizeof *shares);
    }
}

/* Tables of one format and so many planes, of what each look-up has of x. */
ALWAYS_INLINE void fill_tables(const struct kv_stripes *stripes, enum kv_stripe_format format, uint32_t planes,
                               const float *shares, struct look_ups *to)
{
    const vec base = spread(12582912.0f + (float)(planes == 2 ? whole_zero(2) : 0)), scale = spread(to->scale);
    const __m256i lanes[2] = {_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3)};
    vec quarters[4];
    __m256i entries[4];
    UNROLLED for (uint32_t j = 0; j < 4 && format == KV_STRIPE_BOOK; j++)
        quarters[j] = load_halves(stripes->table + 4 * j, stripes->table + 4 * j);
    for (uint32_t i = 0; i < to->n; i += 4) {
        const vec four = mul(load_halves(shares + i, shares + i), scale);
        UNROLLED for (uint32_t pair = 0; pair < 2; pair++)
        {
            if (format == KV_STRIPE_BOOK)
                book_entries(quarters, _mm256_permutevar_ps(four, lanes[pair]), base, entries);
            else
                sign_entries(mul(load(shares + 4 * i + 8 * pair), scale), base, entries);
            store_planes(entries, planes, to->tables[i / 2 + pair]);
        }
    }
}

/* False: no such tables within the bound. */
static bool KERNEL(make_look_ups)(const struct kv_stripes *stripes, const float *x, uint32_t rows,
                                  uint32_t planes, struct look_ups *to)
{
    const enum kv_stripe_format format = stripes->format;
    const uint32_t together = rows_of_group(format), groups = rows / together;
    float least, largest, sum, most, shares[4 * MOST_LOOK_UPS];
    value_range(stripes, &least, &largest);
    KERNEL(sizes)(x, rows, together, &sum, &most);
    to->n = groups + groups / 8 + 2;
    to->planes = planes;
    to->step = 2 * (float)(rows + 4) / (float)to->n * FLT_EPSILON * least * sum;
    if (!(least > 0 && to->step > 0x1p-100f && sum * largest < 0x1p100f)) return false;
    to->scale = 1 / to->step;
    const float reach = largest * to->scale;
    if (most * reach <= most_whole(planes))
        share_once(x, groups, together, to, shares);
    else if (!share_parts(format, x, groups, reach, to, shares))
        return false;
    pad_shares(together, to, shares);
    if (format == KV_STRIPE_BOOK)
        fill_tables(stripes, KV_STRIPE_BOOK, 3, shares, to);
    else if (planes == 2)
        fill_tables(stripes, KV_STRIPE_SIGN, 2, shares, to);
    else
        fill_tables(stripes, KV_STRIPE_SIGN, 3, shares, to);
    return true;
}

/* -- sums ------------------------------------------------------------------------------------- */

/* Bytes of 32 columns, summed a plane: words, and their high bytes (the columns at odd places). */
struct byte_sums {
    __m256i words[MOST_PLANES], odd[MOST_PLANES];
};

/* One plane of 64 columns, whose codes are `low` and `high`. In place and in this order, so that
 * three planes' sums and all else fit the 16 registers: compilers sum by pairs, and spill. */
ALWAYS_INLINE void add_plane(const uint8_t *table, __m256i low, __m256i high, __m256i *words,
                             __m256i *odd)
{
    __m256i looked, bytes;
    __asm__("vbroadcasti128 %[table], %[looked]\n\t"
            "vpshufb %[low], %[looked], %[bytes]\n\t"
            "vpaddw %[bytes], %[words0], %[words0]\n\t"
            "vpsrlw $8, %[bytes], %[bytes]\n\t"
            "vpaddw %[bytes], %[odd0], %[odd0]\n\t"
            "vpshufb %[high], %[looked], %[looked]\n\t"
            "vpaddw %[looked], %[words1], %[words1]\n\t"
            "vpsrlw $8, %[looked], %[looked]\n\t"
            "vpaddw %[looked], %[odd1], %[odd1]"
            : [looked] "=&x"(looked), [bytes] "=&x"(bytes), [words0] "+x"(words[0]),
              [odd0] "+x"(odd[0]), [words1] "+x"(words[1]), [odd1] "+x"(odd[1])
            : [table] "m"(*(const __m128i *)(const void *)table), [low] "x"(low), [high] "x"(high));
}

/* Words of the planes, joined: those of columns 0 2 4 6, or 8 10 12 14, of each half. */
ALWAYS_INLINE __m256i join_planes(const __m256i words[MOST_PLANES], uint32_t planes, bool high)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum = zero;
    for (uint32_t p = 0; p < planes; p++) {
        const __m256i part =
            high ? _mm256_unpackhi_epi16(words[p], zero) : _mm256_unpacklo_epi16(words[p], zero);
        sum = _mm256_add_epi32(sum, p ? _mm256_slli_epi32(part, 8 * (int)p) : part);
    }
    return sum;
}

/* As floats, lane l of half h of vector k being column 16 h + 4 k + l. */
ALWAYS_INLINE void join_sums(struct byte_sums *sums, const struct look_ups *from, uint32_t planes,
                             vec total[4])
{
    const __m256i zero = _mm256_set1_epi32((int)(from->n * whole_zero(planes)));
    const vec step = spread(from->step);
    for (uint32_t p = 0; p < planes; p++)
        sums->words[p] = _mm256_sub_epi16(sums->words[p], _mm256_slli_epi16(sums->odd[p], 8));
    for (uint32_t h = 0; h < 2; h++) {
        const __m256i even = join_planes(sums->words, planes, h);
        const __m256i odd = join_planes(sums->odd, planes, h);
        const __m256i first = _mm256_sub_epi32(_mm256_unpacklo_epi32(even, odd), zero);
        const __m256i second = _mm256_sub_epi32(_mm256_unpackhi_epi32(even, odd), zero);
        total[2 * h] = mul(_mm256_cvtepi32_ps(first), step);
        total[2 * h + 1] = mul(_mm256_cvtepi32_ps(second), step);
    }
}

ALWAYS_INLINE void look_up_wholes(const uint8_t *codes, const struct look_ups *from, bool third,
                                  float *sums)
{
    const __m256i mask = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i a[2] = {zero, zero}, b[2] = {zero, zero}, c[2] = {zero, zero};
    __m256i odd_a[2] = {zero, zero}, odd_b[2] = {zero, zero}, odd_c[2] = {zero, zero};
    vec total[VECS];
    for (uint32_t i = 0; i < from->n; i += 2) {
        prefetch_row(codes + from->row[i], KV_STRIPE);
        UNROLLED for (uint32_t k = 0; k < 2; k++)
        {
            const uint8_t *table = from->tables[i / 2] + k * PLANE;
            const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(codes + from->row[i + k]));
            const __m256i low = _mm256_and_si256(both, mask);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
            add_plane(table, low, high, a, odd_a);
            add_plane(table + PAIR_PLANE, low, high, b, odd_b);
            if (third) add_plane(table + 2 * PAIR_PLANE, low, high, c, odd_c);
        }
    }
    UNROLLED for (uint32_t s = 0; s < 2; s++)
    {
        struct byte_sums bytes = {{a[s], b[s], c[s]}, {odd_a[s], odd_b[s], odd_c[s]}};
        join_sums(&bytes, from, third ? 3 : 2, total + 4 * s);
    }
    add_total(KV_STRIPE_BOOK, total, sums);
}

static __attribute__((noinline)) void KERNEL(two_planes)(const uint8_t *codes,
                                                         const struct look_ups *from, float *sums)
{
    look_up_wholes(codes, from, false, sums);
}

static __attribute__((noinline)) void KERNEL(three_planes)(const uint8_t *codes,
                                                           const struct look_ups *from, float *sums)
{
    look_up_wholes(codes, from, true, sums);
}

/* What x of so many rows is, in `own` unless it is kept; NULL: floats sum it. */
static const struct look_ups *KERNEL(look_ups_of)(const struct kv_stripes *stripes, const float *x, uint32_t rows,
                                                  struct look_ups *own)
{
    _Static_assert(sizeof *own <= KV_STRIPE_KEPT, "a query's tables are kept");
    struct look_ups *to = stripes->kept && rows == stripes->depth ? stripes->kept : own;
    if (to != own && to->n) return to;
    if (stripes->format == KV_STRIPE_SIGN && KERNEL(make_look_ups)(stripes, x, rows, 2, to)) return to;
    if (KERNEL(make_look_ups)(stripes, x, rows, 3, to)) return to;
    to->n = 0;
    return NULL;
}

static void KERNEL(fixed_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    struct look_ups own;
    const enum kv_stripe_format format = stripes->format;
    const uint32_t most = MOST_GROUPS * rows_of_group(format);
    const size_t bytes = kv_stripes_apart(stripes);
    for (uint32_t first = 0, rows; first < stripes->depth; first += rows) {
        rows = stripes->depth - first < most ? stripes->depth - first : most;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(format, first);
        const struct look_ups *look_ups = KERNEL(look_ups_of)(stripes, x + first, rows, &own);
        if (!look_ups) {
            KERNEL(add_floats)(stripes, first, rows, x, sums);
            continue;
        }
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes)
            if (look_ups->planes == 2)
                KERNEL(two_planes)(codes, look_ups, sums + (size_t)i * KV_STRIPE);
            else
                KERNEL(three_planes)(codes, look_ups, sums + (size_t)i * KV_STRIPE);
    }
}

#endif
