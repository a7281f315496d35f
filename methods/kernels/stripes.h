/* One query over stored codes, for the AVX2 and NEON sets: the second half of bodies.h. A row of 64
 * codes becomes vectors, times x[row], onto 64 / LANES sums. */
#ifndef KVBENCH_METHODS_KERNELS_STRIPES_H
#define KVBENCH_METHODS_KERNELS_STRIPES_H

#include "methods/kernels/stripe_rows.h"

/* ROWS: rows in flight, so that the sums are at least 8 chains. GROUPS: tables of sign that are ready
 * at a time, four rows each. */
enum { VECS = KV_STRIPE / LANES, ROWS = VECS < 8 ? 2 : 1, GROUPS = 64 };

/* Values of one row; `table` is store_lut's. Columns of book come in the set's own order. */
ALWAYS_INLINE void read_row(enum kv_stripe_format format, const uint8_t *row, const void *table,
                            vec values[VECS])
{
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        if (format == KV_STRIPE_HALF) values[k] = load_half(halves + k * LANES);
    }
    if (format == KV_STRIPE_BOOK) look_up_row(row, table, values);
}

/* sums[64] += total, its columns put in order. */
ALWAYS_INLINE void add_total(enum kv_stripe_format format, vec total[VECS], float *sums)
{
    if (format == KV_STRIPE_BOOK || format == KV_STRIPE_SIGN) settle_columns(total);
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        float *place = sums + k * LANES;
        store(place, add(load(place), total[k]));
    }
}

/* Adds one stripe to sums[64]. */
ALWAYS_INLINE void add_stripe(enum kv_stripe_format format, const struct kv_stripes *stripes,
                              const uint8_t *codes, const void *table, const float *x, float *sums)
{
    const uint32_t bytes = (uint32_t)kv_stripe_bytes(format, 1), depth = stripes->depth;
    vec total[ROWS][VECS];
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        total[0][k] = zeros();
        total[ROWS - 1][k] = zeros();
    }
    for (uint32_t r = 0; r < depth; r += ROWS)
        UNROLLED for (uint32_t i = 0; i < ROWS; i++) {
            if (r + i >= depth) break;
            vec values[VECS];
            const vec factor = spread(x[r + i]);
            prefetch_row(codes, bytes);
            read_row(format, codes, table, values);
            UNROLLED for (uint32_t k = 0; k < VECS; k++)
                total[i][k] = fused(values[k], factor, total[i][k]);
            codes += bytes;
        }
    UNROLLED for (uint32_t k = 0; ROWS > 1 && k < VECS; k++)
        total[0][k] = add(total[0][k], total[ROWS - 1][k]);
    add_total(format, total[0], sums);
}

#if BOOK_PARTS > 1
/* A row's columns in parts, each over all rows: a part's sums, the planes of the table and what joins
 * them fit into the registers. */
static void KERNEL(add_book)(const struct kv_stripes *stripes, const uint8_t *codes,
                             const void *table, const float *x, float *sums)
{
    enum { PART = VECS / BOOK_PARTS };
    const uint32_t bytes = (uint32_t)kv_stripe_bytes(KV_STRIPE_BOOK, 1);
    vec total[VECS];
    UNROLLED for (uint32_t part = 0; part < BOOK_PARTS; part++) {
        const uint8_t *row = codes;
        vec *const place = total + part * PART;
        UNROLLED for (uint32_t k = 0; k < PART; k++) place[k] = zeros();
        for (uint32_t r = 0; r < stripes->depth; r++, row += bytes) {
            vec values[PART];
            const vec factor = spread(x[r]);
            if (!part) prefetch_row(row, bytes);
            look_up_part(row, part, table, values);
            UNROLLED for (uint32_t k = 0; k < PART; k++)
                place[k] = fused(values[k], factor, place[k]);
        }
    }
    add_total(KV_STRIPE_BOOK, total, sums);
}
#else
static void KERNEL(add_book)(const struct kv_stripes *stripes, const uint8_t *codes,
                             const void *table, const float *x, float *sums)
{
    add_stripe(KV_STRIPE_BOOK, stripes, codes, table, x, sums);
}
#endif

/* -- words: codes of several rows in a word a column ------------------------------------------ */

/* Rows whose sums are added before the next: what a set makes ready of them fits the stack. */
enum { CHUNK_ROWS = 1024 };

/* Adds `depth` rows of one stripe, each column one chain of multiply-adds. */
ALWAYS_INLINE void add_words(enum kv_stripe_format format, const uint8_t *codes, const float *x,
                             uint32_t depth, float *sums)
{
    const uint32_t rows = kv_stripe_rows(format), bits = 32 / rows;
    float padded[8];
    vec total[VECS];
    UNROLLED for (uint32_t k = 0; k < VECS; k++) total[k] = zeros();
    for (uint32_t r = 0; r < depth; r += rows, codes += 4 * KV_STRIPE) {
        const float *factors = whole_rows(x + r, depth - r, rows, padded);
        prefetch_row(codes, 4 * KV_STRIPE);
        UNROLLED for (uint32_t j = 0; j < rows; j++) {
            const vec factor = spread(factors[j]);
            UNROLLED for (uint32_t k = 0; k < VECS; k++)
                total[k] = fused(load_field(codes + 4 * LANES * k, bits * j, bits), factor, total[k]);
        }
    }
    add_total(format, total, sums);
}

static void KERNEL(word_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    const size_t bytes = kv_stripes_apart(stripes);
    for (uint32_t r = 0; r < stripes->depth; r += CHUNK_ROWS) {
        const uint32_t left = stripes->depth - r, depth = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        const uint8_t *codes = stripes->codes + kv_stripe_bytes(stripes->format, r);
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes) {
            if (stripes->format == KV_STRIPE_BYTE)
                add_words(KV_STRIPE_BYTE, codes, x + r, depth, sums + (size_t)i * KV_STRIPE);
            else
                add_words(KV_STRIPE_NIBBLE, codes, x + r, depth, sums + (size_t)i * KV_STRIPE);
        }
    }
}

/* -- signs ------------------------------------------------------------------------------------ */

/* Four rows of signs are one look-up of +-x0 +-x1 +-x2 +-x3. */
static void KERNEL(store_sign_luts)(const float *x, uint32_t groups, uint8_t (*luts)[LUT_BYTES])
{
    for (uint32_t g = 0; g < groups; g++, x += 4) {
        float table[16];
        for (uint32_t code = 0; code < 16; code++) {
            const float a = code & 1 ? x[0] : -x[0], b = code & 2 ? x[1] : -x[1];
            const float c = code & 4 ? x[2] : -x[2], d = code & 8 ? x[3] : -x[3];
            table[code] = (a + b) + (c + d);
        }
        store_lut(table, luts[g]);
    }
}

static void KERNEL(add_signs)(const uint8_t *codes, uint32_t groups, uint8_t (*luts)[LUT_BYTES],
                              float *sums)
{
    vec total[VECS];
    UNROLLED for (uint32_t k = 0; k < VECS; k++) total[k] = zeros();
    for (uint32_t g = 0; g < groups; g++, codes += KV_STRIPE / 2) {
        vec values[VECS];
        prefetch_row(codes, KV_STRIPE / 2);
        look_up_row(codes, luts[g], values);
        UNROLLED for (uint32_t k = 0; k < VECS; k++) total[k] = add(total[k], values[k]);
    }
    add_total(KV_STRIPE_SIGN, total, sums);
}

static void KERNEL(sign_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    uint8_t luts[GROUPS][LUT_BYTES] __attribute__((aligned(64)));
    const size_t bytes = kv_stripes_apart(stripes);
    const uint32_t all = stripes->depth / 4;
    for (uint32_t first = 0; first < all; first += GROUPS) {
        const uint32_t groups = all - first < GROUPS ? all - first : GROUPS;
        KERNEL(store_sign_luts)(x + 4 * (size_t)first, groups, luts);
        for (uint32_t i = 0; i < stripes->n; i++)
            KERNEL(add_signs)
            (stripes->codes + i * bytes + (size_t)first * KV_STRIPE / 2, groups, luts,
             sums + (size_t)i * KV_STRIPE);
    }
}

static void KERNEL(stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    uint8_t lut[LUT_BYTES] __attribute__((aligned(64))) = {0};
    const size_t bytes = kv_stripes_apart(stripes);
    const uint8_t *codes = stripes->codes;
    switch (stripes->format) {
    case KV_STRIPE_HALF:
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes, sums += KV_STRIPE)
            add_stripe(KV_STRIPE_HALF, stripes, codes, lut, x, sums);
        break;
    case KV_STRIPE_BOOK:
        store_lut(stripes->table, lut);
        for (uint32_t i = 0; i < stripes->n; i++, codes += bytes, sums += KV_STRIPE)
            KERNEL(add_book)(stripes, codes, lut, x, sums);
        break;
    case KV_STRIPE_SIGN: KERNEL(sign_stripes)(stripes, x, sums); break;
    default: KERNEL(word_stripes)(stripes, x, sums); break;
    }
}

#endif
