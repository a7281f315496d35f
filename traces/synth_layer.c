/* The numbers of a synthetic layer.
 *
 * Keys are noise (or low rank) plus constant outlier channels, rotated; then each group of tokens
 * that draws attention (sinks, heavy hitters, needles) gets a direction u of its own, in which only
 * its keys have a component, of length sqrt(head_dim). A query first sees the other keys: with L
 * the logarithm of the sum of their exponentials, a group ends with mass m when its own is L +
 * log(m / rest), and that fixes the query's component along u. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/geometry.h"
#include "harness/base/half.h"
#include "traces/portable.h"
#include "traces/synth_private.h"

enum { DIRECTIONS = KV_SYNTH_GROUPS };   /* [0] is the drift's, then one a group */

struct head {                     /* one KV head in the making */
    const struct kv_synth_layer *layer;
    uint32_t index;
    double *keys;                 /* [dim][tokens] once rounded: a query meets many keys at once */
    double *row, *basis;          /* [dim]; [rank][dim] */
    double *direction[DIRECTIONS];/* [dim] orthonormal; zero on outlier channels */
    double *factor;               /* [dim] of an outlier channel, signed; 0 elsewhere */
    double *logits;               /* [tokens] */
};

void kv_synth_store(void *words, size_t i, double value, enum kv_dtype dtype)
{
    if (dtype == KV_F32) ((float *)words)[i] = (float)value;
    else if (dtype == KV_F16) ((uint16_t *)words)[i] = kv_float_to_half((float)value);
    else ((uint16_t *)words)[i] = kv_float_to_bfloat((float)value);
}

static double load(const void *words, size_t i, enum kv_dtype dtype)
{
    if (dtype == KV_F32) return (double)((const float *)words)[i];
    const uint16_t word = ((const uint16_t *)words)[i];
    return (double)(dtype == KV_F16 ? kv_half_to_float(word) : kv_bfloat_to_float(word));
}

static double dot(const double *a, const double *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* a -= (a . u) u */
static void remove_direction(double *a, const double *u, uint32_t n)
{
    const double along = dot(a, u, n);
    for (uint32_t i = 0; i < n; i++) a[i] -= along * u[i];
}

static struct kv_rng stream(const struct head *head, uint32_t purpose)
{
    return kv_rng_stream(head->layer->synth->seed, head->layer->index, head->index, purpose);
}

/* The partner of channel i in the rotation, or i itself. */
static uint32_t partner(const struct kv_synth_layer *layer, uint32_t i)
{
    const uint32_t half = layer->rope_dims / 2;
    if (i >= layer->rope_dims) return i;
    if (layer->synth->rope == KV_ROPE_INTERLEAVED) return i ^ 1u;
    return i < half ? i + half : i - half;
}

/* Outlier channels, one to a rotary pair, so that a pair is not hit twice. */
static void choose_outliers(struct head *head)
{
    const struct kv_synth *synth = head->layer->synth;
    struct kv_rng rng = stream(head, KV_DRAW_OUTLIERS);
    for (uint32_t n = 0; n < synth->outliers;) {
        const uint32_t i = kv_rng_below(&rng, synth->head_dim);
        if (head->factor[i] != 0 || head->factor[partner(head->layer, i)] != 0) continue;
        head->factor[i] = kv_rng_below(&rng, 2) ? synth->outlier_factor : -synth->outlier_factor;
        n++;
    }
}

/* Random orthonormal directions away from the outliers, by Gram and Schmidt. */
static void choose_directions(struct head *head)
{
    const uint32_t dim = head->layer->synth->head_dim;
    struct kv_rng rng = stream(head, KV_DRAW_DIRECTIONS);
    for (int n = 0; n < DIRECTIONS; n++) {
        double *u = head->direction[n];
        for (uint32_t i = 0; i < dim; i++) {
            const double draw = kv_rng_normal(&rng);
            const bool outlier = head->factor[i] != 0 || head->factor[partner(head->layer, i)] != 0;
            u[i] = outlier ? 0 : draw;
        }
        for (int before = 0; before < n; before++)
            remove_direction(u, head->direction[before], dim);
        const double length = sqrt(dot(u, u, dim));
        for (uint32_t i = 0; i < dim; i++) u[i] /= length;
    }
}

/* A row of mean square 1 a channel: Gaussian, or a Gaussian mixture of `rank` directions + noise.
 */
static void draw_row(double *row, struct kv_rng *rng, const struct kv_synth *synth,
                     const double *basis, uint32_t dim)
{
    if (synth->rank == 0) {
        for (uint32_t i = 0; i < dim; i++) row[i] = kv_rng_normal(rng);
        return;
    }
    const double noise = synth->rank_noise, signal = sqrt((1 - noise * noise) / synth->rank);
    for (uint32_t i = 0; i < dim; i++) row[i] = noise * kv_rng_normal(rng);
    for (uint32_t r = 0; r < synth->rank; r++) {
        const double weight = signal * kv_rng_normal(rng);
        for (uint32_t i = 0; i < dim; i++) row[i] += weight * basis[(size_t)r * dim + i];
    }
}

static void draw_basis(double *basis, struct kv_rng *rng, uint32_t rank, uint32_t dim)
{
    for (size_t i = 0; i < (size_t)rank * dim; i++) basis[i] = kv_rng_normal(rng);
}

static void rotate(double *row, const struct kv_synth_layer *layer, uint32_t position)
{
    const uint32_t half = layer->rope_dims / 2;
    const bool interleaved = layer->synth->rope == KV_ROPE_INTERLEAVED;
    for (uint32_t i = 0; i < half; i++) {
        double *x = &row[interleaved ? 2 * i : i], *y = &row[interleaved ? 2 * i + 1 : i + half];
        double sine, cosine;
        kv_portable_sincos(position * layer->inv_freq[i], &sine, &cosine);
        const double turned = *x * cosine - *y * sine;
        *y = *y * cosine + *x * sine;
        *x = turned;
    }
}

/* An outlier channel is an offset with a little noise: 0.95^2 + 0.3122...^2 = 1. */
static void add_outliers(double *row, const struct head *head)
{
    const double steady = 0.95, moving = sqrt(1 - 0.95 * 0.95);
    for (uint32_t i = 0; i < head->layer->synth->head_dim; i++)
        if (head->factor[i] != 0) row[i] = head->factor[i] * (steady + moving * row[i]);
}

static void make_keys(struct head *head)
{
    const struct kv_synth_layer *layer = head->layer;
    const struct kv_synth *synth = layer->synth;
    const uint32_t dim = synth->head_dim;
    const double length = sqrt((double)dim);
    struct kv_rng rng = stream(head, KV_DRAW_KEYS);
    draw_basis(head->basis, &rng, synth->rank, dim);
    for (uint32_t t = 0; t < synth->tokens; t++) {
        draw_row(head->row, &rng, synth, head->basis, dim);
        add_outliers(head->row, head);
        rotate(head->row, layer, t);
        for (int n = 1; n < DIRECTIONS; n++) remove_direction(head->row, head->direction[n], dim);
        const double *own = layer->role[t] == KV_REST ? NULL : head->direction[layer->role[t]];
        const double moved = synth->drift * length * t / (synth->tokens - 1);
        for (uint32_t i = 0; i < dim; i++) {
            const double value = head->row[i] + moved * head->direction[0][i]
                               + (own ? length * own[i] : 0);
            const size_t at = ((size_t)head->index * synth->tokens + t) * dim + i;
            kv_synth_store(layer->k, at, value, (enum kv_dtype)synth->dtype);
            head->keys[(size_t)i * synth->tokens + t] =
                load(layer->k, at, (enum kv_dtype)synth->dtype);
        }
    }
}

/* Values of sinks are small, as models make them. */
static void make_values(struct head *head)
{
    const struct kv_synth_layer *layer = head->layer;
    const struct kv_synth *synth = layer->synth;
    const uint32_t dim = layer->value_dim;
    struct kv_rng rng = stream(head, KV_DRAW_VALUES);
    draw_basis(head->basis, &rng, synth->rank, dim);
    for (uint32_t t = 0; t < synth->tokens; t++) {
        const double size = layer->role[t] == KV_SINKS ? 0.1 : 1;
        draw_row(head->row, &rng, synth, head->basis, dim);
        for (uint32_t i = 0; i < dim; i++)
            kv_synth_store(layer->v, ((size_t)head->index * synth->tokens + t) * dim + i,
                           size * head->row[i], (enum kv_dtype)synth->dtype);
    }
}

static double capped(double logit, double softcap)
{
    return softcap > 0 ? softcap * kv_portable_tanh(logit / softcap) : logit;
}

/* log(exp(extra) + sum of exp(logits + shift)) over the tokens first..last of the groups in
 * `groups` (bits); -infinity when there is none. extra may be -infinity. */
static double log_sum(const struct head *head, uint32_t first, uint32_t last, unsigned groups,
                      double shift, double extra)
{
    const double softcap = head->layer->synth->softcap;
    double top = extra, sum = 0;
    for (uint32_t j = first; j <= last; j++)
        if (groups >> head->layer->role[j] & 1)
            top = fmax(top, capped(head->logits[j] + shift, softcap));
    if (top == -INFINITY) return top;
    if (extra != -INFINITY) sum = kv_portable_exp(extra - top);
    for (uint32_t j = first; j <= last; j++)
        if (groups >> head->layer->role[j] & 1)
            sum += kv_portable_exp(capped(head->logits[j] + shift, softcap) - top);
    return top + kv_portable_log(sum);
}

/* What to add to the logits of a group so that their log-sum becomes target; false when a softcap
 * does not let them rise that far. */
static bool find_shift(double *shift, const struct head *head, uint32_t first, uint32_t last,
                       enum kv_synth_group group, double target)
{
    const double softcap = head->layer->synth->softcap;
    if (softcap <= 0) {
        *shift = target - log_sum(head, first, last, 1u << group, 0, -INFINITY);
        return true;
    }
    double low = -8 * softcap, high = 8 * softcap;
    if (log_sum(head, first, last, 1u << group, high, -INFINITY) < target) return false;
    for (int step = 0; step < 60; step++) {
        *shift = 0.5 * (low + high);
        if (log_sum(head, first, last, 1u << group, *shift, -INFINITY) < target) low = *shift;
        else high = *shift;
    }
    return true;
}

static double mass_of(const struct kv_synth_layer *layer, uint32_t group, uint32_t t)
{
    const struct kv_synth *synth = layer->synth;
    switch (group) {
    case KV_SINKS: return synth->sink_mass;
    case KV_HEAVY: return synth->heavy_mass;
    case KV_NEEDLES: return t >= layer->question_start ? synth->needle_mass : 0;
    default: return 0;
    }
}

static void find_logits(struct head *head, const double *query, uint32_t first, uint32_t last)
{
    const struct kv_synth *synth = head->layer->synth;
    const double scale = 1 / sqrt((double)synth->head_dim);
    for (uint32_t j = first; j <= last; j++) head->logits[j] = 0;
    for (uint32_t i = 0; i < synth->head_dim; i++) {
        const double *keys = head->keys + (size_t)i * synth->tokens;
        for (uint32_t j = first; j <= last; j++) head->logits[j] += query[i] * keys[j];
    }
    for (uint32_t j = first; j <= last; j++) head->logits[j] *= scale;
}

/* Gives the query at t its components along the groups that it sees. */
static bool aim(struct head *head, double *query, uint32_t t, double extra)
{
    const struct kv_synth_layer *layer = head->layer;
    const uint32_t window = layer->window, first = window && t + 1 > window ? t + 1 - window : 0;
    unsigned drawn = 0, seen = 0;
    double rest = 1;
    bool draws = false;   /* without this, a text where nothing draws costs its square */
    for (uint32_t group = 1; group < KV_SYNTH_GROUPS; group++) draws |= mass_of(layer, group, t) > 0;
    if (!draws) return true;
    for (uint32_t j = first; j <= t; j++) seen |= 1u << layer->role[j];
    for (uint32_t group = 1; group < KV_SYNTH_GROUPS; group++) {
        if (!(seen >> group & 1) || mass_of(layer, group, t) <= 0) continue;
        drawn |= 1u << group;
        rest -= mass_of(layer, group, t);
    }
    if (!drawn) return true;
    find_logits(head, query, first, t);
    const double others = log_sum(head, first, t, ~drawn, 0, extra);
    if (others == -INFINITY) return true; /* nothing but the groups is there to compare with */
    for (uint32_t group = 1; group < KV_SYNTH_GROUPS; group++) {
        if (!(drawn >> group & 1)) continue;
        const double target = others + kv_portable_log(mass_of(layer, group, t) / rest);
        double shift;
        if (!find_shift(&shift, head, first, t, (enum kv_synth_group)group, target)) return false;
        /* scale * sqrt(dim) = 1: the component is the shift itself. */
        for (uint32_t i = 0; i < layer->synth->head_dim; i++)
            query[i] += shift * head->direction[group][i];
    }
    return true;
}

static bool make_queries(struct head *head, uint32_t q_head)
{
    const struct kv_synth_layer *layer = head->layer;
    const struct kv_synth *synth = layer->synth;
    const uint32_t dim = synth->head_dim;
    struct kv_rng rng = kv_rng_stream(synth->seed, layer->index, q_head, KV_DRAW_QUERIES);
    const double extra = layer->sink_logits ? (double)layer->sink_logits[q_head] : -INFINITY;
    for (uint32_t t = 0; t < synth->tokens; t++) {
        for (uint32_t i = 0; i < dim; i++) {
            const double factor =
                fmax(fabs(head->factor[i]), fabs(head->factor[partner(layer, i)]));
            head->row[i] = synth->spread * kv_rng_normal(&rng) / (factor > 1 ? factor : 1);
        }
        for (int n = 0; n < DIRECTIONS; n++) remove_direction(head->row, head->direction[n], dim);
        if (!aim(head, head->row, t, extra)) return false;
        for (uint32_t i = 0; i < dim; i++)
            kv_synth_store(layer->q, ((size_t)q_head * synth->tokens + t) * dim + i, head->row[i],
                           (enum kv_dtype)synth->dtype);
    }
    return true;
}

/* All memory of a head in one block. */
static double *allocate_head(struct head *head)
{
    const struct kv_synth *synth = head->layer->synth;
    const size_t dim = synth->head_dim, value_dim = head->layer->value_dim, tokens = synth->tokens;
    const size_t widest = dim > value_dim ? dim : value_dim;
    const size_t n = tokens * dim + tokens + widest * (1 + synth->rank) + dim * (1 + DIRECTIONS);
    double *memory = calloc(n, sizeof *memory), *next = memory;
    if (!memory) return NULL;
    head->keys = next, next += tokens * dim;
    head->logits = next, next += tokens;
    head->row = next, next += widest;
    head->basis = next, next += widest * synth->rank;
    head->factor = next, next += dim;
    for (int n_direction = 0; n_direction < DIRECTIONS; n_direction++, next += dim)
        head->direction[n_direction] = next;
    return memory;
}

int kv_synth_attention(const struct kv_synth_layer *layer, struct kv_error *err)
{
    const struct kv_synth *synth = layer->synth;
    const uint32_t group = synth->q_heads / synth->kv_heads;
    bool reached = true;
    for (uint32_t h = 0; h < synth->kv_heads && reached; h++) {
        struct head head = {.layer = layer, .index = h};
        double *memory = allocate_head(&head);
        if (!memory) return kv_fail(err, KV_EMEMORY, "trace synth: out of memory");
        choose_outliers(&head);
        choose_directions(&head);
        make_keys(&head);
        if (layer->v) make_values(&head);
        for (uint32_t g = 0; g < group && reached; g++)
            reached = make_queries(&head, h * group + g);
        free(memory);
    }
    if (reached) return KV_OK;
    return kv_fail(err, KV_EUSAGE,
                   "trace synth: softcap=%g: expected a cap that lets logits reach the"
                   " asked masses, found one too low",
                   synth->softcap);
}
