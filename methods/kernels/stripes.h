/* One query over stored codes, for every SIMD set: the second half of bodies.h. A row of 64 codes
 * becomes vectors, times x[row], onto 64 / LANES sums; software prefetch runs ahead, since the
 * codes of a long context lie in memory (worth 1.6 to 2.8 times the speed on the machines
 * measured). */
#ifndef KVBENCH_METHODS_KERNELS_STRIPES_H
#define KVBENCH_METHODS_KERNELS_STRIPES_H

/* ROWS: rows in flight, so that the sums are at least 8 chains. AHEAD: bytes between use and
 * prefetch. GROUPS: tables of sign that are ready at a time, four rows each. */
enum { VECS = KV_STRIPE / LANES, ROWS = VECS < 8 ? 2 : 1, AHEAD = 1536, GROUPS = 64 };

ALWAYS_INLINE void prefetch_row(const uint8_t *row, uint32_t bytes)
{
    for (uint32_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + AHEAD + b);
}

/* Values of one row; `table` is store_lut's. Columns of nibbles, book and sign come in the set's own
 * order, and nibbles with NIBBLE_BASE on top. */
ALWAYS_INLINE void read_row(enum kv_stripe_format format, const uint8_t *row, const void *table,
                            vec values[VECS])
{
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        if (format == KV_STRIPE_HALF) values[k] = load_half(halves + k * LANES);
        if (format == KV_STRIPE_BYTE) values[k] = load_codes(row + k * LANES);
    }
    if (format == KV_STRIPE_NIBBLE) read_nibbles(row, values);
    if (format == KV_STRIPE_BOOK) look_up_row(row, table, values);
}

/* sums[64] += total, its columns put in order, less `base` in each. */
ALWAYS_INLINE void add_total(enum kv_stripe_format format, vec total[VECS], float base, float *sums)
{
    if (format == KV_STRIPE_NIBBLE) settle_nibbles(total);
    if (format == KV_STRIPE_BOOK || format == KV_STRIPE_SIGN) settle_columns(total);
    UNROLLED for (uint32_t k = 0; k < VECS; k++) {
        float *place = sums + k * LANES;
        store(place, add(load(place), sub(total[k], spread(base))));
    }
}

/* Adds one stripe to sums[64]; base = NIBBLE_BASE * the sum of x for nibbles, else 0. */
ALWAYS_INLINE void add_stripe(enum kv_stripe_format format, const struct kv_stripes *stripes,
                              const uint8_t *codes, const void *table, const float *x, float base,
                              float *sums)
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
    add_total(format, total[0], base, sums);
}

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
    add_total(KV_STRIPE_SIGN, total, 0, sums);
}

static void KERNEL(sign_stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    uint8_t luts[GROUPS][LUT_BYTES] __attribute__((aligned(64)));
    const size_t bytes = kv_stripe_bytes(KV_STRIPE_SIGN, stripes->depth);
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

static float KERNEL(total_of)(const float *x, uint32_t n)
{
    vec sums[4] = {zeros(), zeros(), zeros(), zeros()};
    for (uint32_t i = 0; i < n; i += LANES) {
        const uint32_t left = n - i < LANES ? n - i : LANES, k = i / LANES % 4;
        sums[k] = add(sums[k], left == LANES ? load(x + i) : load_part(x + i, left));
    }
    return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

static void KERNEL(stripes)(const struct kv_stripes *stripes, const float *x, float *sums)
{
    uint8_t lut[LUT_BYTES] __attribute__((aligned(64))) = {0};
    const size_t bytes = kv_stripe_bytes(stripes->format, stripes->depth);
    const uint8_t *codes = stripes->codes;
    float base = 0;
    if (stripes->format == KV_STRIPE_NIBBLE) base = NIBBLE_BASE * KERNEL(total_of)(x, stripes->depth);
    if (stripes->format == KV_STRIPE_BOOK) store_lut(stripes->table, lut);
    if (stripes->format == KV_STRIPE_SIGN) {
        KERNEL(sign_stripes)(stripes, x, sums);
        return;
    }
    for (uint32_t i = 0; i < stripes->n; i++, codes += bytes, sums += KV_STRIPE)
        switch (stripes->format) {
        case KV_STRIPE_HALF: add_stripe(KV_STRIPE_HALF, stripes, codes, lut, x, 0, sums); break;
        case KV_STRIPE_BYTE: add_stripe(KV_STRIPE_BYTE, stripes, codes, lut, x, 0, sums); break;
        case KV_STRIPE_NIBBLE: add_stripe(KV_STRIPE_NIBBLE, stripes, codes, lut, x, base, sums); break;
        default: add_stripe(KV_STRIPE_BOOK, stripes, codes, lut, x, 0, sums); break;
        }
}

#endif
