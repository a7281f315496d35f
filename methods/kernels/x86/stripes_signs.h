/* Signs by look-ups of bytes, for sets with VBMI and VNNI.
 *
 * Four groups of four rows are 64 bytes of codes for 32 columns. Once a column's four codes lie in one
 * word, one permute looks them up in the groups' four tables, which are its 64 bytes, and one
 * operation adds all four: 13 operations for 64 bytes of codes, where floats take 24.
 *
 * Entries +-x0 +-x1 +-x2 +-x3 of a group g are whole numbers of 16 bits in units of w_g steps, and w_g
 * is a weight of its bytes' sum. The bound, with R rows of G groups, S_g = |x0| + .. + |x3| and S their
 * sum: rounding costs step w_g / 2, and w_g = floor(S_g / reach) + 1, reach = 32700 step, so that the
 * sum of w_g is at most G + S / reach. It has to cost no more than R eps S, which is so for
 *
 *     G reach <= (65400 R eps - 1) S,
 *
 * with some reach above 0 where R is more than 128; fewer rows are floats. Sums of four, products, the
 * total as a float, by step and onto sums are less than 4 eps of the 8 that are left. */
#ifndef KVBENCH_METHODS_KERNELS_X86_STRIPES_SIGNS_H
#define KVBENCH_METHODS_KERNELS_X86_STRIPES_SIGNS_H

/* QUAD: groups that are looked up at once. GROUPS (stripes_avx512.h) are made ready at a time. */
enum { QUAD = 4, SIGN_ROWS = 4, QUADS = GROUPS / QUAD, SIGN_PLANES = 2, TABLE = 16 };

#define MOST_WHOLE 32700.0f

struct sign_bytes {
    float step;
    int32_t zero;                        /* the sum of what stands for 0 */
    uint8_t weights[QUADS][QUAD];
    uint8_t tables[QUADS][SIGN_PLANES][QUAD * TABLE] __attribute__((aligned(64)));
};

/* Sum of |x| of each group. */
static inline float group_sizes(const float *x, uint32_t groups, float sizes[GROUPS])
{
    float sum = 0;
    for (uint32_t g = 0; g < groups; g++, x += SIGN_ROWS) {
        sizes[g] = (fabsf(x[0]) + fabsf(x[1])) + (fabsf(x[2]) + fabsf(x[3]));
        sum += sizes[g];
    }
    return sum;
}

/* Bytes of a group's whole numbers, from 0 on. */
static inline void store_sign_table(vec entries, float scale, uint32_t g, struct sign_bytes *to)
{
    const vec_int whole = _mm512_add_epi32(_mm512_cvtps_epi32(mul(entries, spread(scale))),
                                           _mm512_set1_epi32(1 << 15));
    for (uint32_t p = 0; p < SIGN_PLANES; p++)
        _mm_storeu_si128((__m128i *)(void *)(to->tables[g / QUAD][p] + g % QUAD * TABLE),
                         _mm512_cvtepi32_epi8(p ? _mm512_srli_epi32(whole, 8) : whole));
}

/* False: x is better summed as floats. */
static bool KERNEL(make_sign_bytes)(const float *x, uint32_t groups, struct sign_bytes *to)
{
    vec entries[GROUPS];
    float sizes[GROUPS];
    const float rows = (float)(SIGN_ROWS * groups), sum = group_sizes(x, groups, sizes);
    const float reach = (2 * MOST_WHOLE * rows * FLT_EPSILON - 1) * sum / (float)groups;
    if (!(reach > 0x1p-80f && sum < 0x1p80f)) return false;
    uint32_t weights = 0;
    to->step = reach / MOST_WHOLE;
    KERNEL(sign_tables)(x, groups, entries);
    for (uint32_t g = 0; g < groups; g++) {
        const float weight = floorf(sizes[g] / reach) + 1;
        if (weight > INT8_MAX) return false;
        to->weights[g / QUAD][g % QUAD] = (uint8_t)weight;
        weights += (uint32_t)weight;
        store_sign_table(entries[g], 1 / (to->step * weight), g, to);
    }
    to->zero = (int32_t)(weights << 15);
    return (float)weights * to->step / 2 <= rows * FLT_EPSILON * sum;
}

/* Words of columns c, c + 1, .. of a half of the low and of the high codes, a byte a group. */
ALWAYS_INLINE vec_int columns_of_quad(const uint8_t *codes, uint32_t half)
{
    const vec_int dword = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const vec_int from = _mm512_add_epi32(dword, _mm512_set1_epi32(4 * (int)half));
    const vec_int lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const vec_int order = _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(0x01010101)),
                                           _mm512_set1_epi32(0x30201000));
    const vec_int apart = _mm512_permutex2var_epi32(load_bits(codes), from, load_bits(codes + 64));
    return _mm512_permutexvar_epi8(order, apart);
}

/* Sums of 64 columns: of halves, of low and high codes. */
struct sign_sums {
    vec_int of[2][2][SIGN_PLANES];
};

ALWAYS_INLINE void add_quad(const uint8_t *codes, const struct sign_bytes *from, uint32_t q,
                            struct sign_sums *to)
{
    const vec_int mask = _mm512_set1_epi8(15), group = _mm512_set1_epi32(0x30201000);
    const vec_int low = load_bits(from->tables[q][0]), high = load_bits(from->tables[q][1]);
    int32_t weight;
    memcpy(&weight, from->weights[q], sizeof weight);
    const vec_int weights = _mm512_set1_epi32(weight);
    UNROLLED for (uint32_t h = 0; h < 2; h++)
    {
        const vec_int both = columns_of_quad(codes, h);
        UNROLLED for (uint32_t i = 0; i < 2; i++)
        {
            const vec_int code = i ? _mm512_srli_epi16(both, 4) : both; /* & mask | group: */
            const vec_int index = _mm512_ternarylogic_epi32(code, mask, group, 0xea);
            vec_int *const of = to->of[h][i];
            of[0] = add_dots(of[0], _mm512_permutexvar_epi8(index, low), weights);
            of[1] = add_dots(of[1], _mm512_permutexvar_epi8(index, high), weights);
        }
    }
}

static __attribute__((noinline)) void KERNEL(add_sign_bytes)(const uint8_t *codes, uint32_t quads,
                                                             const struct sign_bytes *from,
                                                             float *sums)
{
    struct sign_sums all;
    UNROLLED for (uint32_t k = 0; k < 8; k++) all.of[k / 4][k / 2 % 2][k % 2] = no_counts();
    for (uint32_t q = 0; q < quads; q++, codes += QUAD * KV_STRIPE / 2) {
        prefetch_row(codes, QUAD * KV_STRIPE / 2);
        add_quad(codes, from, q, &all);
    }
    UNROLLED for (uint32_t k = 0; k < VECS; k++)
    {
        const vec_int *of = all.of[k % 2][k / 2];
        const vec_int whole = _mm512_sub_epi32(_mm512_add_epi32(of[0], _mm512_slli_epi32(of[1], 8)),
                                               _mm512_set1_epi32(from->zero));
        float *place = sums + k * LANES;
        store(place, fused(_mm512_cvtepi32_ps(whole), spread(from->step), load(place)));
    }
}

/* What x of so many rows is, in `own` unless it is kept; NULL: floats sum it. */
static const struct sign_bytes *KERNEL(sign_bytes_of)(const struct kv_stripes *stripes, const float *x, uint32_t rows,
                                                      struct sign_bytes *own)
{
    _Static_assert(sizeof *own <= KV_STRIPE_KEPT, "a query's tables are kept");
    struct sign_bytes *to = stripes->kept && rows == stripes->depth ? stripes->kept : own;
    if (to != own && to->step > 0) return to;
    if (KERNEL(make_sign_bytes)(x, rows / SIGN_ROWS, to)) return to;
    to->step = 0;
    return NULL;
}

static void KERNEL(byte_sign_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    struct sign_bytes own;
    const size_t apart = kv_stripes_apart(stripes);
    const uint32_t most = GROUPS * SIGN_ROWS;
    for (uint32_t first = 0, rows; first < stripes->depth; first += rows) {
        const uint32_t left = stripes->depth - first, quads = left / (QUAD * SIGN_ROWS);
        rows = left > most ? most : quads ? quads * QUAD * SIGN_ROWS : left;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(KV_STRIPE_SIGN, first);
        const struct sign_bytes *bytes = quads ? KERNEL(sign_bytes_of)(stripes, x + first, rows, &own) : NULL;
        if (!bytes) {
            KERNEL(add_floats)(stripes, first, rows, x, sums);
            continue;
        }
        for (uint32_t i = 0; i < stripes->n; i++, codes += apart)
            KERNEL(add_sign_bytes)
            (codes, rows / (QUAD * SIGN_ROWS), bytes, sums + (size_t)i * KV_STRIPE);
    }
}

#endif
