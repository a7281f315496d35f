/* Every inner loop of the project, once: what it computes, shapes and rounding.
 *
 * `generic` is the definition: plain loops in the documented order. The SIMD sets overlay the
 * entries they have, weakest first; an entry is never NULL. Where a contract says "exact", every
 * set gives the same bits; elsewhere a SIMD set may reassociate sums and use FMA, and the bound is
 * stated. No libm: exp is a polynomial of our own. Pointers need no alignment unless stated; loads
 * and stores never touch a byte outside the stated arrays. NaN stays NaN where it can be stored,
 * with whatever payload; minimum, maximum and codes of NaN are unspecified. eps = 2^-23. */
#ifndef KVBENCH_METHODS_KERNELS_H
#define KVBENCH_METHODS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- one query over stored codes ------------------------------------------------------------- */

/* Codes of a matrix [depth][64 n], in n stripes of 64 columns, one after the other: a stripe is its
 * rows of 64 codes. Keys lie with a key a column and a dimension a row (no sum runs across the lanes of
 * a vector), values with a dimension a column and a token a row; missing columns are any codes.
 *
 *     half     64 halves                                                         128 bytes a row
 *     byte     four rows at once: byte r % 4 of column c's four is row r, 0 .. 255  64
 *     nibble   eight rows at once: nibble r % 8 of column c's four bytes, the low half of a byte
 *              before its high half, is row r, 0 .. 15                            32
 *     book     column c in the low half of byte c, column 32 + c in its high half; the value is
 *              table[code]                                                        32
 *     sign     likewise for four rows at once, bit b of a code being row 4 i + b: 1 is +1,
 *              0 is -1; depth is a multiple of 4                                  8
 *
 * Rows that fill up a stripe's last four or eight are any codes. */
enum kv_stripe_format { KV_STRIPE_HALF, KV_STRIPE_BYTE, KV_STRIPE_NIBBLE, KV_STRIPE_BOOK, KV_STRIPE_SIGN,
                        KV_STRIPE_FORMATS };
enum { KV_STRIPE = 64 };

/* Codes are prefetched so many bytes ahead: to L1, and to L2 from where memory's latency is covered. */
enum { KV_STRIPE_NEAR = 2048, KV_STRIPE_FAR = 16384 };

struct kv_stripes {
    enum kv_stripe_format format;
    uint32_t n, depth;
    const uint8_t *codes;
    const float *table;                        /* [16] of book */
    void *kept;                                /* KV_STRIPE_KEPT bytes at a multiple of 64, at first 0: what a set
                                                * makes of x, for more calls with the same x, depth and table;
                                                * NULL: nothing stays */
    size_t apart;                              /* bytes from a stripe to the next; 0: they lie side by side */
};
enum { KV_STRIPE_KEPT = 1 << 14 };

/* Rows that lie together: a word of 32 bits a column has that many. */
static inline uint32_t kv_stripe_rows(enum kv_stripe_format format)
{
    return format == KV_STRIPE_BYTE ? 4 : format == KV_STRIPE_NIBBLE ? 8 : 1;
}

/* Bytes of one stripe. */
static inline size_t kv_stripe_bytes(enum kv_stripe_format format, uint32_t depth)
{
    static const uint8_t row_bytes[KV_STRIPE_FORMATS] = {128, 64, 32, 32, 8};
    const size_t rows = kv_stripe_rows(format);
    return row_bytes[format] * ((depth + rows - 1) / rows * rows);
}

static inline size_t kv_stripes_apart(const struct kv_stripes *stripes)
{
    return stripes->apart ? stripes->apart : kv_stripe_bytes(stripes->format, stripes->depth);
}

/* Ways to sum what codes of four bits stand for, out of a table of 16: floats of a book, joined from
 * planes of three bytes or permuted whole, times x (one multiply-add a vector); whole numbers of 23
 * bits, x times the book's entries in one unit, as many as a float's significand stores, byte planes
 * of which are summed exactly; +-x0 +-x1 +-x2 +-x3 for four rows' signs in the same three forms, of 16
 * bits where they are whole; and x of one row whose sign is flipped. Codes that are their values are
 * multiplied by x as a whole number of three bytes. Not among them: look-ups in memory (gathers, tables
 * of two codes), whole numbers that are cut shorter (which the bound of `stripes` would allow for
 * thousands of rows), sums that drop bits, products of x and a book's entries as whole numbers, and
 * permutes of bytes that read a book's entries times x of four rows: their tables take three vectors
 * for 128 bytes of codes, which one query's values are read against but once. */
enum kv_look_up { KV_LOOK_UP_JOINED, KV_LOOK_UP_PERMUTED, KV_LOOK_UP_WHOLES, KV_LOOK_UP_JOINED_SIGNS,
                  KV_LOOK_UP_PERMUTED_SIGNS, KV_LOOK_UP_WHOLE_SIGNS, KV_LOOK_UP_FLIPPED_SIGNS,
                  KV_LOOK_UP_PRODUCTS, KV_LOOK_UPS };

/* Operations on vectors of 512 bits (two where a set has 256), below 128 of a kind, for each KV_CODING values that
 * are coded: on lanes, by any unit that computes; shifts and what moves or packs lanes, by fewer units; and the
 * bytes that are written. */
enum { KV_CODING = 128 };

struct kv_coding {
    uint32_t lanes, shifts, shuffles, bytes;
    bool floats;              /* halves are stored as floats in between and loaded again: coders are given those */
};

/* -- codes of one scalar table --------------------------------------------------------------- */

/* Ascending thresholds whose codes many values ask for, made ready once (kv_cells_prepare): y = (x *
 * factor) * unit, code = the number of thresholds below y. The rest is a short cut of narrow
 * vectors: w = rint(x * (factor * steps)) keeps the order of y but where it meets a threshold's own
 * word. w lies in one of 32 cells of 2048, and a cell has at most one threshold: only a w that is
 * its cell's edge, the word of that threshold, is compared in full. `base` is the code at and below
 * the edge. A cell without a threshold has the least word of all as its edge, and its codes are
 * base + 1 as well: what is out of range becomes that word and is compared in full, too. steps 0: no
 * such cells, no short cut.
 *
 * Sets that look up words need one table where there are at most KV_SUMMED thresholds: w + sums[upper
 * 5 bits of w], of 16 bits, has the code in its upper 4 bits, and the others are 0 only where w is
 * the edge. */
enum { KV_CELLS = 32, KV_CELL = 2048, KV_OUT_OF_CELLS = -32768, KV_SUMMED = 15 };

struct kv_cells {
    const float *thresholds;                   /* [n], n <= 255 */
    uint32_t n;
    float unit, steps;                         /* steps: words a unit of x * factor, or 0 */
    uint8_t base[KV_CELLS];                    /* by cell - KV_CELLS / 2 */
    uint8_t low[KV_CELLS], high[KV_CELLS];     /* bytes of the edge */
    uint16_t sums[KV_CELLS];                   /* by (cell - KV_CELLS / 2) mod KV_CELLS */
};

/* Rows with a factor each, whose codes of `bits` bits are packed, `apart` bytes from row to row. */
struct kv_cell_rows {
    const float *x, *factors;                  /* [n_rows][n], [n_rows] */
    uint32_t n_rows, n, bits;
    size_t apart;
};

/* thresholds stay the caller's. */
void kv_cells_prepare(struct kv_cells *cells, const float *thresholds, uint32_t n, float unit);

/* -- integer grids ---------------------------------------------------------------------------- */

/* What the groups of a row, or the channels of some rows, become: see methods/parts/grid.h, whose
 * equations these are. Kept a group: scale and minimum as halves, or a symmetric grid's scale. */
struct kv_grid_shape {
    uint32_t bits;             /* 1 .. 8; symmetric: 2 .. 8 */
    int symmetric;
};

/* -- llama.cpp's blocks ------------------------------------------------------------------------ */

/* Formats of 32 values a block, bytes as there; the codec of that name has the equations. */
enum kv_block_format { KV_BLOCK_Q4_0, KV_BLOCK_Q4_1, KV_BLOCK_Q5_0, KV_BLOCK_Q5_1, KV_BLOCK_Q8_0,
                       KV_BLOCK_IQ4_NL, KV_BLOCK_FORMATS };
enum { KV_BLOCK = 32 };

/* What its bytes are: d and maybe m as halves, fifth bits, then nibbles, or bytes of signed codes. */
struct kv_block_shape {
    uint8_t bits, minimum, bytes;
};

static inline struct kv_block_shape kv_block_shape(enum kv_block_format format)
{
    static const struct kv_block_shape shapes[KV_BLOCK_FORMATS] = {
        {4, 0, 18}, {4, 1, 20}, {5, 0, 22}, {5, 1, 24}, {8, 0, 34}, {4, 0, 18}};
    return shapes[format];
}

/* -- floats of at most 8 bits ------------------------------------------------------------------- */

/* Nearest even, saturated at the largest finite number, subnormal numbers kept, the sign kept with
 * zero; a NaN becomes the largest. A code's sign lies above its exponent, and that above its mantissa. */
struct kv_minifloat {
    uint32_t exponent_bits, mantissa_bits, bias;
    float largest;
};

/* E2M1 codes whose groups of `width` (the last may be short) have a scale of 8 bits, from a = max |x|:
 *
 *     FLOOR   scale - 127 = e = floor(log2 a) - 2, a step of 2^e; -127 <= e <= 125
 *     CEIL    the same with ceil(log2(a / 6))
 *     E4M3    scale = E4M3(a / (6 unit)), a step of its value * unit; all codes 0 where that is 0 */
enum kv_fp4_scale { KV_FP4_FLOOR, KV_FP4_CEIL, KV_FP4_E4M3 };

struct kv_fp4_shape {
    enum kv_fp4_scale scale;
    uint32_t width;
    float unit;                /* of E4M3 */
};

/* -- angles that are nearly so: see near_angles, and angle.h for how near ----------------------- */

#define KV_NEAR_ANGLE 5e-6f
#define KV_LEAST_SIZE 0x1p-60f

/* -- random projections ------------------------------------------------------------------------ */

/* Projections of rows of `columns` floats: `rows` sums, by a matrix that lies as rotate's, a column's
 * entries `stride` >= rows floats behind those of the one before it. */
struct kv_projections {
    const float *matrix;       /* [columns][stride], finite */
    uint32_t rows, columns, stride;
    float reach;               /* at least sqrt(sum_c matrix[c][r]^2) of every r */
};

/* -- softmax from columns to columns ----------------------------------------------------------- */

/* Of each row: its shift, the largest logit so far, which moves on; what sums of its weights so far shrink by,
 * exp(shift before - shift), 0 where there was none; and the sum of the weights that were added. Logits are what
 * rows hold, times unit > 0. A SIMD set leaves a shift where it is while no logit is above it by more than the
 * slack: sums that stay as they are need not be touched, and weights below 2^12 are as precise as those below 1. */
enum { KV_SOFT_SLACK = 8 };

struct kv_softmax {
    float *largest, *factors, *added;
    float unit;
};

/* Rows of logits beside others of the same lines, `stride` floats apart, and what compares the two: of each
 * row the sum of the others' weights times the difference (others minus these), all in the same unit; of
 * columns that are marked by 1 (others by 0), unless `marked` is NULL, the sums of the others' weights and of
 * these rows' own. */
struct kv_beside {
    const float *logits;
    uint32_t stride;
    struct kv_softmax softmax;
    const float *marked;       /* [n] */
    float *shifts, *marked_sums[2];
};

struct kv_pair_turn { double cosine, sine; uint32_t row; };

enum { KV_PRODUCT_LINE = 32 };   /* numbers of a line of add_products */

struct kv_kernels {
    const char *isa;          /* the strongest set in use: "generic", "avx2", ... */
    uint32_t panel;           /* columns of a packed key panel, see pack_keys; divides 64, and is whole cells
                               * where there are such */
    uint32_t strip;           /* accumulate is faster where many rows meet so many columns of values that lie
                               * together, once for all: more are laid so at each call; 0: it is not */
    uint32_t ready_cell;      /* floats of a cell, see ready_keys; 0: the set has no such entries */
    float ready_least;        /* what its products may lose beside roundings */

    /* -- conversions, exact -------------------------------------------------------------------- */
    void (*widen_half)(const uint16_t *in, float *out, size_t n);
    void (*widen_bfloat)(const uint16_t *in, float *out, size_t n);
    void (*narrow_half)(const float *in, uint16_t *out, size_t n);   /* nearest even, or infinity */
    void (*narrow_bfloat)(const float *in, uint16_t *out, size_t n);
    /* narrow_half where what would be infinite becomes the largest half, 65504 */
    void (*narrow_finite)(const float *in, uint16_t *out, size_t n);

    /* -- attention ----------------------------------------------------------------------------- */
    /* keys [n][dim] -> panels [ceil(n / panel)][dim][panel]: column j of a panel is one key.
     * Missing columns of the last panel become 0. */
    void (*pack_keys)(const float *keys, uint32_t n, uint32_t dim, float *panels);
    /* logits[r][j] = scale * sum_c queries[r][c] * key_j[c], summed over c in ascending order, for
     * all columns 0 .. columns-1 (a multiple of 16 or of panel). queries [rows][dim], logits rows are
     * `stride` floats apart. |error| <= (dim + 2) * eps * scale * sum_c |q_c k_c|. */
    void (*logits)(const float *queries, uint32_t rows, uint32_t dim, const float *panels,
                   uint32_t columns, float scale, float *logits, uint32_t stride);
    /* outputs[r][c] = outputs[r][c] * factors[r] + sum_j weights[r][j] * values[j][c], j ascending, n > 0;
     * values [n][dim], rows of outputs `apart` floats apart; factors NULL: 1; where a factor is 0 (else 2^-60 at
     * least) outputs may be anything */
    void (*accumulate)(const float *weights, uint32_t rows, uint32_t stride, const float *values,
                       uint32_t n, uint32_t dim, const float *factors, float *outputs, uint32_t apart);
    /* For many rows, of sets that multiply faster in another format than floats: what the rows meet is
     * made ready once, in cells of 32 lines by 32 columns (of lines and of dim; ready lies at a multiple of
     * 64 bytes). Panels of so many columns, a multiple of 32; values [n][dim]. NULL where ready_cell is 0. */
    void (*ready_keys)(const float *panels, uint32_t columns, uint32_t dim, float *ready);
    void (*ready_values)(const float *values, uint32_t n, uint32_t dim, float *ready);
    /* logits and accumulate with panels from column `first` on and values from line `first` on, a multiple
     * of 32; as near to exact sums, but that a product may lose ready_least. The order of a sum is its own,
     * and depends on a line's place mod 64 behind `first`. */
    void (*ready_logits)(const float *queries, uint32_t rows, uint32_t dim, const float *ready,
                         uint32_t first, uint32_t columns, float scale, float *logits, uint32_t stride);
    void (*ready_sums)(const float *weights, uint32_t rows, uint32_t stride, const float *ready,
                       uint32_t first, uint32_t n, uint32_t dim, const float *factors, float *outputs);
    /* x[i] = exp(y), y = x[i] unit - shift as a float, rounded once or twice, and exactly 0 where y < -60 ln 2:
     * subnormal weights cost some CPUs dearly and change no sum. Returns the sum. x[i] may be -infinity
     * (gives 0); y above 88 counts as 88. Relative error of each term at most 4 eps, of the sum
     * (n / 16 + 5) eps more. Each term enters a partial sum that depends on i mod 64 only: whole
     * 64s of zeros in front change no bit. */
    float (*exp_sum)(float *x, size_t n, float unit, float shift);
    float (*max)(const float *x, size_t n);    /* exact; -infinity for n = 0; a zero is +0 */
    /* Logits of rows `stride` floats apart become weights: of each row of n (a multiple of 16) floats
     * largest becomes the max of itself and theirs (of the largest float, times unit; or see the slack), and
     * they what exp_sum makes of logits with that shift, or 0 where it still is -infinity; a float times unit,
     * less the shift, is rounded once or twice. Errors of factors and sums are those of exp_sum. */
    void (*soften)(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                   const struct kv_softmax *softmax);
    /* soften, and the same of rows beside them, which stay what they are, and may be x: where x becomes a
     * weight of 0 the difference counts as 0, whatever it is. Sums are those of exp_sum and dot; in a SIMD set,
     * where all columns are marked, those of exp_sum alone. */
    void (*soften_beside)(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                          const struct kv_softmax *softmax, const struct kv_beside *beside);
    void (*scale)(float *x, size_t n, float factor);   /* exact: x[i] *= factor */
    /* exact: of rows `stride` floats apart, in their order, sums[i] += (double)(x[i] * the row's factor), the
     * product rounded */
    void (*add_wide)(const float *x, uint32_t rows, size_t stride, size_t n, const float *factors, double *sums);
    /* Floats that lie side by side and their places among n, a multiple of 16: bit i % 16 of places[i /
     * 16] is set where one belongs. out[i] = the next of `close`, or rest; and back. Exact. */
    void (*spread_out)(const float *close, const uint16_t *places, size_t n, float rest, float *out);
    void (*close_up)(const float *x, const uint16_t *places, size_t n, float *close);
    /* x[i], and beside[i] unless that is NULL, become -infinity but where begin[i] <= token < end[i];
     * returns at how many places they do not. Exact. */
    uint32_t (*hide)(const int32_t *begin, const int32_t *end, int32_t token, size_t n, float *x,
                     float *beside);
    /* x[i] = cap * tanh(x[i] / cap), by exp; relative error at most 16 eps */
    void (*softcap)(float *x, size_t n, float cap);
    /* sum of a[i] * b[i]; |error| <= n * eps * sum |a_i b_i|; order by i mod 64 as in exp_sum */
    float (*dot)(const float *a, const float *b, size_t n);

    /* sums[64 i + c] += sum_r x[r] * value of row r, column c of stripe i: one query's logits from
     * stored keys (x the query), or its output from stored values (x the weights), before the scales
     * of keys, or with those of tokens in x. |error| <= (depth + 8) * eps * (|sums| + sum_r |x v|). */
    void (*stripes)(const struct kv_stripes *stripes, const float *x, float *sums);

    /* -- quantizers, all exact (codes must not depend on the CPU) ---------------------------- */
    void (*min_max)(const float *x, size_t n, float *min, float *max);  /* n > 0; a zero is +0 */
    /* codes[i] = clamp(rint_half_even((x[i] - minimum) / scale), 0, levels - 1); scale 0 -> code 0.
     * A true division: reciprocals round differently. */
    void (*grid_encode)(const float *x, size_t n, float minimum, float scale, uint32_t levels,
                        uint8_t *codes);
    /* Groups of `width` of n > 0 values, the last maybe short: what is kept of each, in turn and
     * wherever, and all codes. */
    void (*grid_row)(const float *x, size_t n, uint32_t width, const struct kv_grid_shape *shape,
                     uint8_t *kept, uint8_t *codes);
    /* The same where a channel's n_rows > 0 values are a group: rows and codes [n_rows][n]. */
    void (*grid_columns)(const float *rows, uint32_t n_rows, uint32_t n,
                         const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes);
    /* n blocks of 32 values, and back. A d or m that would be infinite is the largest half, a d whose
     * inverse is infinite gives the code of 0. */
    void (*encode_blocks)(enum kv_block_format format, const float *x, size_t n, uint8_t *blocks);
    void (*decode_blocks)(enum kv_block_format format, const uint8_t *blocks, size_t n, float *out);
    /* codes[i] of x[i] / divisor; out[i] = value * factor of codes that encode makes */
    void (*minifloat_encode)(const struct kv_minifloat *format, const float *x, size_t n,
                             float divisor, uint8_t *codes);
    void (*minifloat_decode)(const struct kv_minifloat *format, const uint8_t *codes, size_t n,
                             float factor, float *out);
    /* Codes of x / step, one a byte, and the groups' scales; value * step of columns first .. first +
     * n - 1, whose codes lie at `codes`, where `scales` are those of all groups. */
    void (*fp4_encode)(const struct kv_fp4_shape *shape, const float *x, size_t n, uint8_t *scales,
                       uint8_t *codes);
    void (*fp4_decode)(const struct kv_fp4_shape *shape, const uint8_t *scales, size_t first,
                       const uint8_t *codes, size_t n, float *out);
    /* out[i] = codes[i] * scale + minimum, two roundings (no FMA) */
    void (*grid_decode)(const uint8_t *codes, size_t n, float minimum, float scale, float *out);
    /* The same where every value has a grid of its own, scales[i] >= 0. */
    void (*channel_encode)(const float *x, size_t n, const float *minima, const float *scales,
                           uint32_t levels, uint8_t *codes);
    void (*channel_decode)(const uint8_t *codes, size_t n, const float *minima, const float *scales,
                           float *out);
    /* out[i] = (x[i] - centers[i]) / reaches[i], 0 where a reach (>= 0) is 0, and never -0; outside[i] =
     * |x[i] - centers[i]| > reaches[i]. */
    void (*channel_quotients)(const float *x, size_t n, const float *centers, const float *reaches,
                              float *out, uint8_t *outside);
    /* radii[i] = sqrt(x[i]^2 + y[i]^2), each operation rounded; angles[i] that of (x[i], y[i]) in
     * [0, 2 pi), by methods/kernels/angle.h, within 1e-15; 0 where both are 0. angles may be NULL. */
    void (*polar)(const double *x, const double *y, size_t n, double *radii, double *angles);
    /* Radii and angles of finite floats, as floats: what polar gives, rounded once more. */
    void (*polar_floats)(const float *x, const float *y, size_t n, float *radii, float *angles);
    /* The angles of polar within KV_NEAR_ANGLE, and sizes[i] = |x[i]| + |y[i]| as a float, where that is
     * above KV_LEAST_SIZE and below 2^100: mostly enough to tell on which side of a threshold one is. */
    void (*near_angles)(const double *x, const double *y, size_t n, float *angles, float *sizes);
    /* codes[i] = number of thresholds below x[i] (thresholds ascending, n_thresholds <= 255):
     * x equal to a threshold takes the lower code. */
    void (*bucket)(const float *x, size_t n, const float *thresholds, uint32_t n_thresholds,
                   uint8_t *codes);
    /* The same of y = (x[i] * factor) * cells->unit, each product rounded, and thresholds made ready:
     * for tables that many rows share. */
    void (*cell_codes)(const struct kv_cells *cells, const float *x, size_t n, float factor,
                       uint8_t *codes);
    /* cell_codes of each row, packed as by pack_bits; all codes are below 2^bits. */
    void (*pack_cells)(const struct kv_cells *cells, const struct kv_cell_rows *rows,
                       uint8_t *packed);
    /* out[i] = table[codes[i]] * factor */
    void (*lookup)(const uint8_t *codes, size_t n, const float *table, float factor, float *out);
    /* The same of codes packed as by pack_bits, and a table of 2^bits entries. */
    void (*lookup_packed)(const uint8_t *packed, size_t n, uint32_t bits, const float *table,
                          float factor, float *out);
    /* n codes of `bits` (1..8) bits, little-endian bit order, into ceil(n * bits / 8) bytes; the
     * last byte's spare bits are 0. unpack is its inverse. */
    void (*pack_bits)(const uint8_t *codes, size_t n, uint32_t bits, uint8_t *packed);
    void (*unpack_bits)(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes);
    /* Bit i, packed so, is 1 where x[i] > 0; the last byte's spare bits are 0. */
    void (*sign_bits)(const float *x, size_t n, uint8_t *bits);
    /* Of each row of x [rows][n] the Walsh-Hadamard transform of the n = 2^k (2..4096) floats factors[i] * x[i],
     * x[i] where factors is NULL, in natural (Sylvester) order, not normalised: butterflies of span 1, 2, 4, ...
     * in that order. Exact. out, of the same shape, may be x. */
    void (*hadamard)(const float *x, const float *factors, float *out, size_t n, size_t rows);
    /* out[r] = sum_c matrix[c][r] * x[c]: the matrix lies by columns, [columns][rows]; each sum in
     * ascending c, product rounded, then added (no FMA): exact, since a rotation decides codes. */
    void (*rotate)(const float *matrix, uint32_t rows, uint32_t columns, const float *x,
                   float *out);
    /* Of each of the n rows x [n][columns]: bit r of its signs, which begin `apart` bytes after those
     * of the row before, is 1 where rotate's sum for r is above 0; the last byte's spare bits are 0.
     * Exact: a sum that another order leaves in doubt is made again in this one. */
    void (*project_signs)(const struct kv_projections *projections, const float *x, uint32_t n,
                          uint8_t *signs, size_t apart);
    /* Sum of squares with 8 partial sums (index mod 8), then ((0+1)+(2+3))+((4+5)+(6+7)); no FMA:
     * exact. */
    float (*sum_squares)(const float *x, size_t n);
    /* Sum of magnitudes with 4 partial sums in double: index mod 4 in whole fours, the rest in the first;
     * then (0+1)+(2+3): exact. */
    double (*sum_magnitudes)(const float *x, size_t n);
    /* Sum of x[i] * factors[i], or x[i] where factors is NULL, in double with 8 partial sums (index mod
     * 8), added as those of sum_squares; products of floats are exact there: exact. */
    double (*sum_wide)(const float *x, const float *factors, size_t n);
    /* Column i's (x[i] - exact[i])^2 enters errors[i mod 8], and exact[i]^2 squares[i mod 8], in double, each
     * operation rounded: exact. */
    void (*add_errors)(const float *x, const float *exact, size_t n, double errors[8], double squares[8]);
    /* sums[r * stride + c] += x[i][r] y[i][c], r and c < KV_PRODUCT_LINE, for each of n lines i in their order; x and
     * y: [n][KV_PRODUCT_LINE]. Every product and every sum is rounded; exact_products: of floats, which need no
     * rounding: exact. */
    void (*add_products)(const double *x, const double *y, uint32_t n, bool exact_products, double *sums,
                         size_t stride);
    /* Turns in their order: of rows a = turn.row and b = a + 1, `apart` doubles apart, the first n entries become
     * cosine a - sine b and sine a + cosine b; every product and every sum rounded: exact. */
    void (*turn_rows)(const struct kv_pair_turn *turns, uint32_t n_turns, double *rows, size_t apart, size_t n);
    /* hadamard, and the sum_squares of each row of x: exact. out may not be x. */
    void (*hadamard_squares)(const float *x, const float *factors, float *out, size_t n, size_t rows,
                             float *squares);

    /* -- the yardstick ------------------------------------------------------------------------- */
    /* Nothing but independent multiply-adds in registers; returns how many floating-point
     * operations that were. What logits and accumulate are measured against. */
    double (*peak)(size_t rounds);
    /* The same among as many instructions that do nothing as the register tile of logits and accumulate has loads:
     * what no such tile can exceed where a core, or the share of it that its other thread leaves, takes in few. */
    double (*issuing_peak)(size_t rounds);
    /* The same where one operand of each multiply-add is made by one bitwise operation, as codes that
     * share a word are to be told apart: what no product with such codes can exceed. */
    double (*isolating_peak)(size_t rounds);
    /* Nothing but look-ups of codes and their sums in registers, by one of the ways below; returns how
     * many codes that were, 0 where the set has no such ways. */
    double (*look_up_peak)(enum kv_look_up way, size_t rounds);
    /* Of n halves, KV_CODING at a time, each is widened from where it lies (NULL: none is), such
     * operations are done in registers, none of which waits for another, and bytes are written from
     * `to` on: what coders that need them cannot exceed. Returns how many values that were, 0 where
     * the set has no such operations. */
    double (*coding_peak)(const struct kv_coding *coding, const uint16_t *halves, size_t n,
                          uint8_t *to);
};

/* One overlay: fills its entries of *kernels and returns. Each set exports exactly this one symbol,
 * kv_kernels_set_NAME. */
typedef void kv_kernel_set(struct kv_kernels *kernels);

struct kv_isa {
    const char *name;         /* "generic", "avx2", "avx512", "neon" */
    const char *summary;      /* what it needs */
    int built, runs;          /* compiled into this binary; this CPU has every bit it needs */
    kv_kernel_set *set;       /* NULL when not built */
};

/* All sets the program knows, weakest first, ended by a NULL name. */
const struct kv_isa *kv_isa_list(void);

/* Fills kernels for the ceiling `name` ("auto" = the strongest that runs): generic, then every set
 * up to it that runs. Unknown name: KV_EUSAGE; not built or cannot run here: KV_EENVIRONMENT. */
struct kv_error;
int kv_kernels_fill(struct kv_kernels *kernels, const char *name, struct kv_error *err);

#endif
