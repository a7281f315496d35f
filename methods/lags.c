/* As complex numbers z = x + iy, rotary pairs a and b turn by e^(i w_a lag) and e^(i w_b lag): of
 * z_a conj(z_b) and z_a z_b, which say all about the pairs' four products, the first meets the mean
 * over lags of e^(i (w_a - w_b) lag) and the second that of e^(i (w_a + w_b) lag). A column that
 * does not rotate is the real part of a pair at w = 0. With u_t = e^(i w position_t), a mean is the
 * sum over queries t of u_t conj(sum of u_s over the keys s that t sees), over the number of pairs:
 * one pass over the tokens, whatever their positions. */
#include "methods/lags.h"

#include "methods/rotary.h"

struct phase {
    double re, im;
};

struct lags {
    const struct kv_geometry *geometry;
    uint32_t n, half;     /* tokens; rotary pairs */
    struct phase *phases; /* [half + 1][n], the last of what does not rotate */
};

static struct phase times(struct phase a, struct phase b)
{
    return (struct phase){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static bool fill_phases(struct lags *lags, uint32_t first, struct kv_pool *pool)
{
    const struct kv_geometry *geometry = lags->geometry;
    const int32_t *positions = geometry->positions + first;
    lags->phases = kv_pool_take(pool, (size_t)(lags->half + 1) * lags->n * sizeof *lags->phases);
    struct phase *phase = lags->phases;
    for (uint32_t a = 0; phase && a <= lags->half; a++)
        for (uint32_t t = 0; t < lags->n; t++, phase++) {
            const double frequency = a < lags->half ? geometry->rope.inv_freq[a] : 0.0;
            kv_cos_sin(((double)positions[t] - positions[0]) * frequency, &phase->re, &phase->im);
        }
    return lags->phases != NULL;
}

/* Mean over lags of e^(i (w_a + sign * w_b) lag). */
static struct phase mean_turn(const struct lags *lags, uint32_t a, uint32_t b, double sign)
{
    const struct phase *of_a = lags->phases + (size_t)a * lags->n;
    const struct phase *of_b = lags->phases + (size_t)b * lags->n;
    const uint32_t n = lags->n, window = lags->geometry->window ? lags->geometry->window : n;
    struct phase seen = {0}, sum = {0};
    double pairs = 0;
    for (uint32_t t = 0; t < n; t++) {
        const struct phase u = times(of_a[t], (struct phase){of_b[t].re, sign * of_b[t].im});
        seen.re += u.re, seen.im += u.im;
        if (t >= window) {
            const struct phase left = of_b[t - window];
            const struct phase gone =
                times(of_a[t - window], (struct phase){left.re, sign * left.im});
            seen.re -= gone.re, seen.im -= gone.im;
        }
        sum.re += u.re * seen.re + u.im * seen.im, sum.im += u.im * seen.re - u.re * seen.im;
        pairs += t < window ? t + 1 : window;
    }
    return (struct phase){sum.re / pairs, sum.im / pairs};
}

/* Columns of a pair, and how large they are in a product that was scaled twice. */
struct pair {
    uint32_t x, y;
    double scale;
};

static struct pair pair_of(const struct lags *lags, uint32_t a)
{
    const struct kv_rope *rope = &lags->geometry->rope;
    const bool interleaved = rope->layout == KV_ROPE_INTERLEAVED;
    return (struct pair){interleaved ? 2 * a : a, interleaved ? 2 * a + 1 : a + lags->half,
                         rope->scale * rope->scale};
}

/* The four products of pairs a and b, and their mirror images. */
static void average_pairs(const struct lags *lags, double *squares, uint32_t a, uint32_t b)
{
    const size_t dim = lags->geometry->key_dim;
    const struct pair p = pair_of(lags, a), q = pair_of(lags, b);
    const double xx = squares[p.x * dim + q.x], xy = squares[p.x * dim + q.y];
    const double yx = squares[p.y * dim + q.x], yy = squares[p.y * dim + q.y];
    const struct phase apart = times((struct phase){xx + yy, yx - xy}, mean_turn(lags, a, b, -1.0));
    const struct phase along = times((struct phase){xx - yy, yx + xy}, mean_turn(lags, a, b, 1.0));
    const double half = 0.5 * p.scale * q.scale;
    squares[p.x * dim + q.x] = squares[q.x * dim + p.x] = half * (along.re + apart.re);
    squares[p.y * dim + q.y] = squares[q.y * dim + p.y] = half * (apart.re - along.re);
    squares[p.y * dim + q.x] = squares[q.x * dim + p.y] = half * (along.im + apart.im);
    squares[p.x * dim + q.y] = squares[q.y * dim + p.x] = half * (along.im - apart.im);
}

/* The products of pair a and column c, which does not rotate. */
static void average_column(const struct lags *lags, double *squares, uint32_t a, uint32_t c,
                           struct phase turn)
{
    const size_t dim = lags->geometry->key_dim;
    const struct pair p = pair_of(lags, a);
    const struct phase z =
        times((struct phase){squares[p.x * dim + c], squares[p.y * dim + c]}, turn);
    squares[p.x * dim + c] = squares[c * dim + p.x] = p.scale * z.re;
    squares[p.y * dim + c] = squares[c * dim + p.y] = p.scale * z.im;
}

bool kv_lags_average(double *squares, const struct kv_geometry *geometry, uint32_t first,
                     uint32_t n, struct kv_pool *pool)
{
    struct lags lags = {.geometry = geometry, .n = n, .half = geometry->rope.dims / 2};
    if (geometry->rope.layout == KV_ROPE_NONE) return true;
    if (!fill_phases(&lags, first, pool)) return false;
    for (uint32_t a = 0; a < lags.half; a++) {
        for (uint32_t b = 0; b <= a; b++) average_pairs(&lags, squares, a, b);
        const struct phase turn = mean_turn(&lags, a, lags.half, 1.0);
        for (uint32_t c = 2 * lags.half; c < geometry->key_dim; c++)
            average_column(&lags, squares, a, c, turn);
    }
    return true;
}
