/* Integer grids for the SIMD sets: rows whose groups have a grid each, channels that do.
 * Extremes of all groups first, then their grids side by side in the lanes of vectors, then codes,
 * so that no group waits for the divisions and conversions of the one before it.
 *
 * Codes without a division: two multiples of x - minimum enclose the contract's rounded quotient,
 * and rounding keeps order; where both give one integer it is the contract's. Only steps in which
 * they differ somewhere (quotients 2^-22 from the middle of two codes) are divided. */
#ifndef KVBENCH_METHODS_KERNELS_GRIDS_H
#define KVBENCH_METHODS_KERNELS_GRIDS_H

/* Here, and not with the other conversions, since it is the f16 codec's encoder. */
static void KERNEL(narrow_finite)(const float *in, uint16_t *out, size_t n)
{
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLLED for (uint32_t k = 0; k < 4 * LANES; k += LANES)
            store_finite_half(out + i + k, load(in + i + k));
    for (; i + LANES <= n; i += LANES) store_finite_half(out + i, load(in + i));
    if (i == n) return;
    uint16_t rest[LANES];
    store_finite_half(rest, load_part(in + i, n - i));
    memcpy(out + i, rest, (n - i) * sizeof *out);
}

enum { STEP_VECS = LANES < 16 ? 4 : 2, GRID_STEP = STEP_VECS * LANES }; /* groups of 32 are common */
enum { CHANNEL_VECS = 4, CHANNEL_STEP = CHANNEL_VECS * LANES };
static const float MAGIC = 0x1.8p23f; /* added, leaves rint(x) in the low bits */

/* LANES grids: x -> (x - minimum) / scale, which below * and above * enclose. */
struct grids {
    vec minimum, below, above, scale;
    uint16_t kept[2][LANES]; /* scale, minimum */
};

/* Halves, none infinite, NaN as the largest, and what they say. */
ALWAYS_INLINE vec keep_finite(uint16_t *kept, vec v)
{
    const float largest = 65504.0f;
    return keep_halves(kept, larger(smaller(v, spread(largest)), spread(-largest)));
}

/* Of `low` and `high`, in grids; largest quotient of each. Scale 0 gives multiples 0. */
ALWAYS_INLINE vec make_grids(struct grids *grids, vec low, vec high,
                             const struct kv_grid_shape *shape)
{
    const float most = (float)((1u << (shape->bits - (shape->symmetric != 0))) - 1u);
    const vec size = shape->symmetric ? larger(high, sub(zeros(), low)) : sub(high, low);
    const vec scale = keep_finite(grids->kept[0], divide(size, spread(most)));
    const vec minimum = keep_finite(grids->kept[1], shape->symmetric ? zeros() : low);
    const vec inverse = unless_below(divide(spread(1.0f), scale), scale, spread(0x1p-24f));
    grids->scale = scale;
    grids->minimum = minimum;
    grids->below = mul(inverse, spread(1.0f - 0x1p-22f));
    grids->above = mul(inverse, spread(1.0f + 0x1p-22f));
    return mul(larger(sub(high, minimum), sub(minimum, low)), inverse);
}

/* Whether multiples may stand for quotients: a scale is a half, hence its inverse a float; words
 * hold what is below 2^14. */
ALWAYS_INLINE int are_usual(vec reach)
{
    return max_lanes(reach) < 0x1p14f;
}

/* Writes the first n grids, and returns where the next begin. */
ALWAYS_INLINE uint8_t *write_kept(uint8_t *kept, const struct grids *grids, uint32_t n,
                                  const struct kv_grid_shape *shape)
{
    if (shape->symmetric) {
        memcpy(kept, grids->kept[0], 2 * (size_t)n);
        return kept + 2 * (size_t)n;
    }
    uint16_t pairs[2 * LANES];
    store_in_turn(pairs, grids->kept[0], grids->kept[1]);
    memcpy(kept, pairs, 4 * (size_t)n);
    return kept + 4 * (size_t)n;
}

/* Code of 0. */
ALWAYS_INLINE uint32_t zero_code(const struct kv_grid_shape *shape)
{
    return shape->symmetric ? 1u << (shape->bits - 1) : 0;
}

/* One vector of one grid a lane, divided: n codes. */
ALWAYS_INLINE void divide_codes(vec x, vec minimum, vec scale, size_t n,
                                const struct kv_grid_shape *shape, uint8_t *codes)
{
    uint8_t found[LANES];
    const float zero = (float)zero_code(shape), top = (float)((1u << shape->bits) - 1u) - zero;
    const vec divisor = scale, q = divide(sub(x, minimum), divisor);
    const vec rounded =
        sub(add(smaller(larger(q, spread(-zero)), spread(top)), spread(MAGIC)), spread(MAGIC));
    store_codes(found, add(rounded, spread(zero)));
    memcpy(codes, found, n);
}

/* -- rows -------------------------------------------------------------------------------------- */

enum { SOME_GROUPS = 8 }; /* made ready at a time */

/* Of group g: 2 g its scale, 2 g + 1 its minimum; 2 g multiples. */
struct row_grids {
    float kept[2 * SOME_GROUPS], below[2 * SOME_GROUPS], above[2 * SOME_GROUPS];
};

/* Two groups, one in each half of four floats. False where a quotient is too large for words. */
ALWAYS_INLINE int make_pair(struct row_grids *grids, uint32_t g, const float low[2],
                            const float high[2], const struct kv_grid_shape *shape,
                            uint16_t halves[4])
{
    const float most = (float)((1u << (shape->bits - (shape->symmetric != 0))) - 1u);
    float minima[2] = {0, 0}, size[2];
    for (int i = 0; i < 2; i++) {
        const float below = 0.0f - low[i];
        if (!shape->symmetric) minima[i] = low[i];
        size[i] = !shape->symmetric ? high[i] - low[i] : high[i] > below ? high[i] : below;
    }
    const quad sizes = quad_of(size[0], minima[0], size[1], minima[1]);
    const quad kept = quad_keep_halves(
        halves, quad_clamp(quad_divide(sizes, quad_of(most, 1, most, 1)), 65504.0f));
    const quad inverse = quad_unless_below(quad_divide(quad_of(1, 1, 1, 1), kept), kept, 0x1p-24f);
    const float less = 1.0f - 0x1p-22f, more = 1.0f + 0x1p-22f;
    float *scales = grids->kept + 2 * g, *above = grids->above + 2 * g;
    quad_store(scales, kept);
    quad_store(grids->below + 2 * g, quad_mul(inverse, quad_of(less, 0, less, 0)));
    quad_store(above, quad_mul(inverse, quad_of(more, 0, more, 0)));
    int usual = 1;
    for (int i = 0; i < 2; i++)
        usual &= ((high[i] - scales[2 * i + 1]) * above[2 * i] < 0x1p14f) &
                 ((scales[2 * i + 1] - low[i]) * above[2 * i] < 0x1p14f);
    return usual;
}

/* n values of one grid. */
static void KERNEL(divide_span)(const float *x, size_t n, const float kept[2],
                                const struct kv_grid_shape *shape, uint8_t *codes)
{
    if (kept[0] == 0.0f) {
        memset(codes, (int)zero_code(shape), n);
        return;
    }
    for (size_t i = 0; i < n; i += LANES) {
        const size_t width = n - i < LANES ? n - i : LANES;
        divide_codes(load_part(x + i, width), spread(kept[1]), spread(kept[0]), width, shape,
                     codes + i);
    }
}

/* n values of grid g. */
ALWAYS_INLINE void code_span(const float *x, size_t n, const struct row_grids *grids, uint32_t g,
                             const struct kv_grid_shape *shape, int usual, uint8_t *codes)
{
    const float *kept = grids->kept + 2 * g;
    const vec low = spread(kept[1]), magic = spread(MAGIC + (float)zero_code(shape));
    const vec below = spread(grids->below[2 * g]), above = spread(grids->above[2 * g]);
    const uint32_t top = (1u << shape->bits) - 1u;
    size_t i = 0;
    for (; usual && i + GRID_STEP <= n; i += GRID_STEP) {
        vec t[STEP_VECS];
        vec_int doubt = no_counts();
        UNROLLED for (uint32_t k = 0; k < STEP_VECS; k++)
        {
            const vec v = sub(load(x + i + k * LANES), low);
            t[k] = fused(v, below, magic);
            doubt = or_difference(doubt, t[k], fused(v, above, magic));
        }
        store_steps(codes + i, t, top);
        if (any(doubt)) KERNEL(divide_span)(x + i, GRID_STEP, kept, shape, codes + i);
    }
    if (i < n) KERNEL(divide_span)(x + i, n - i, kept, shape, codes + i);
}

/* What is kept of one or two groups; returns where the next begin. */
ALWAYS_INLINE uint8_t *write_pair(uint8_t *kept, const uint16_t halves[4], uint32_t groups,
                                  int symmetric)
{
    if (symmetric) {
        memcpy(kept, halves, 2);
        if (groups > 1) memcpy(kept + 2, halves + 2, 2);
        return kept + 2 * (size_t)groups;
    }
    if (groups > 1)
        memcpy(kept, halves, 8);
    else
        memcpy(kept, halves, 4);
    return kept + 4 * (size_t)groups;
}

/* The grids of up to SOME_GROUPS groups of n values; what is kept of them is written. */
ALWAYS_INLINE int make_row_grids(struct row_grids *grids, const float *x, size_t n, uint32_t width,
                                 const struct kv_grid_shape *shape, uint8_t **kept)
{
    int usual = 1;
    for (uint32_t g = 0; n && g < SOME_GROUPS; g += 2) {
        float low[2] = {0}, high[2] = {0};
        uint16_t halves[4];
        uint32_t groups = 0;
        for (; n && groups < 2; groups++) {
            const size_t many = n < width ? n : width;
            extremes(x, many, low + groups, high + groups);
            x += many, n -= many;
        }
        usual &= make_pair(grids, g, low, high, shape, halves);
        *kept = write_pair(*kept, halves, groups, shape->symmetric);
    }
    return usual;
}

ALWAYS_INLINE void code_row(const float *x, size_t n, uint32_t width,
                            const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    while (n) {
        struct row_grids grids;
        const int usual = make_row_grids(&grids, x, n, width, shape, &kept);
        for (uint32_t g = 0; n && g < SOME_GROUPS; g++) {
            const uint32_t many = n < width ? (uint32_t)n : width;
            code_span(x, many, &grids, g, shape, usual, codes);
            x += many, codes += many, n -= many;
        }
    }
}

/* Each kind of grid its own code. */
static void KERNEL(grid_row)(const float *x, size_t n, uint32_t width,
                             const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    const struct kv_grid_shape plain = {shape->bits, 0}, symmetric = {shape->bits, 1};
    if (shape->symmetric)
        code_row(x, n, width, &symmetric, kept, codes);
    else
        code_row(x, n, width, &plain, kept, codes);
}

/* -- channels ---------------------------------------------------------------------------------- */

/* Channels beside each other: some rows of all, some of these. */
struct channels {
    const float *rows;
    uint8_t *codes;
    uint32_t n_rows, stride;
};

ALWAYS_INLINE void channel_extremes(const struct channels *at, uint32_t width, vec *low, vec *high)
{
    const float *row = at->rows;
    vec first = width == LANES ? load(row) : load_part(row, width);
    *low = *high = first;
    for (uint32_t t = 1; t < at->n_rows; t++) {
        row += at->stride;
        const vec v = width == LANES ? load(row) : load_part(row, width);
        *low = smaller(*low, v);
        *high = larger(*high, v);
    }
    *low = add(*low, zeros()); /* -0 becomes +0 */
    *high = add(*high, zeros());
}

/* One row of `width` channels, each divided. */
static void KERNEL(divide_channels)(const float *row, uint32_t width, const struct grids *grids,
                                    const struct kv_grid_shape *shape, uint8_t *codes)
{
    float divisor[LANES];
    store(divisor, grids->scale);
    for (uint32_t i = 0; i < LANES; i++) divisor[i] = divisor[i] != 0.0f ? divisor[i] : INFINITY;
    divide_codes(load_part(row, width), grids->minimum, load(divisor), width, shape, codes);
}

/* The same of CHANNEL_STEP channels, vectors beside each other: none waits for its own last row. */
ALWAYS_INLINE void step_extremes(const struct channels *at, vec low[CHANNEL_VECS],
                                 vec high[CHANNEL_VECS])
{
    const float *row = at->rows;
    UNROLLED for (uint32_t k = 0; k < CHANNEL_VECS; k++) low[k] = high[k] = load(row + k * LANES);
    for (uint32_t t = 1; t < at->n_rows; t++) {
        row += at->stride;
        UNROLLED for (uint32_t k = 0; k < CHANNEL_VECS; k++)
        {
            const vec v = load(row + k * LANES);
            low[k] = smaller(low[k], v);
            high[k] = larger(high[k], v);
        }
    }
    UNROLLED for (uint32_t k = 0; k < CHANNEL_VECS; k++)
        low[k] = add(low[k], zeros()), high[k] = add(high[k], zeros());
}

/* What codes of CHANNEL_STEP channels ask of their grids: in registers, since a byte that is written
 * might be anything's in memory. */
struct channel_steps {
    vec minimum[CHANNEL_VECS], below[CHANNEL_VECS], above[CHANNEL_VECS];
};

/* One row; false where a code is in doubt. */
ALWAYS_INLINE int code_step(const float *row, const struct channel_steps *steps, vec magic,
                            uint32_t top, uint8_t *codes)
{
    vec t[CHANNEL_VECS];
    vec_int doubt = no_counts();
    UNROLLED for (uint32_t k = 0; k < CHANNEL_VECS; k++)
    {
        const vec v = sub(load(row + k * LANES), steps->minimum[k]);
        t[k] = fused(v, steps->below[k], magic);
        doubt = or_difference(doubt, t[k], fused(v, steps->above[k], magic));
    }
    store_four_steps(codes, t, top);
    return !any(doubt);
}

ALWAYS_INLINE int is_sure(vec x, const struct grids *grids, vec magic)
{
    const vec v = sub(x, grids->minimum);
    return !any(difference(fused(v, grids->below, magic), fused(v, grids->above, magic)));
}

/* CHANNEL_STEP channels. */
ALWAYS_INLINE uint8_t *code_channels(const struct channels *at, const struct kv_grid_shape *shape,
                                     uint8_t *kept)
{
    struct grids grids[CHANNEL_VECS];
    struct channel_steps steps;
    const vec magic = spread(MAGIC + (float)zero_code(shape));
    const uint32_t top = (1u << shape->bits) - 1u;
    vec reach = zeros(), low[CHANNEL_VECS], high[CHANNEL_VECS];
    step_extremes(at, low, high);
    UNROLLED for (uint32_t k = 0; k < CHANNEL_VECS; k++)
    {
        reach = larger(make_grids(&grids[k], low[k], high[k], shape), reach);
        steps.minimum[k] = grids[k].minimum;
        steps.below[k] = grids[k].below, steps.above[k] = grids[k].above;
        kept = write_kept(kept, &grids[k], LANES, shape);
    }
    const int usual = are_usual(reach);
    for (uint32_t t = 0; t < at->n_rows; t++) {
        const float *row = at->rows + (size_t)t * at->stride;
        uint8_t *codes = at->codes + (size_t)t * at->stride;
        if (usual && code_step(row, &steps, magic, top, codes)) continue;
        for (uint32_t k = 0; k < CHANNEL_VECS; k++) {
            if (usual && is_sure(load(row + k * LANES), &grids[k], magic)) continue;
            KERNEL(divide_channels)(row + k * LANES, LANES, &grids[k], shape, codes + k * LANES);
        }
    }
    return kept;
}

static void KERNEL(grid_columns)(const float *rows, uint32_t n_rows, uint32_t n,
                                 const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    struct channels at = {rows, codes, n_rows, n};
    uint32_t left = n;
    for (; left >= CHANNEL_STEP; left -= CHANNEL_STEP, at.rows += CHANNEL_STEP, at.codes += CHANNEL_STEP)
        kept = code_channels(&at, shape, kept);
    while (left) {
        const uint32_t width = left < LANES ? left : LANES;
        struct grids grids;
        vec low, high;
        channel_extremes(&at, width, &low, &high);
        make_grids(&grids, low, high, shape);
        kept = write_kept(kept, &grids, width, shape);
        for (size_t i = 0; i < (size_t)n_rows * n; i += n)
            KERNEL(divide_channels)(at.rows + i, width, &grids, shape, at.codes + i);
        left -= width, at.rows += width, at.codes += width;
    }
}

#endif
