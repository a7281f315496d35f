/* Budgets of layers; see layer_budget.h. */
#include "methods/layer_budget.h"

#include <math.h>

struct shape {
    uint32_t base, window, n, layer, layers, beta;
};

/* Layers l and L - 1 - l are rounded in opposite directions. */
static uint32_t in_pairs(double exact, const struct shape *s)
{
    return (uint32_t)(2 * s->layer < s->layers ? floor(exact + 0.5) : ceil(exact - 0.5));
}

static uint32_t pyramid(const struct shape *s, uint32_t average, bool integers)
{
    if (s->base == 0 || s->n < average || s->n < 2 * s->base) return average;
    uint32_t most = 2 * s->base - s->base / s->beta;
    if (most > s->n - s->window) most = s->n - s->window;
    const uint32_t least = 2 * s->base - most;
    if (integers) return most - s->layer * ((most - least) / (s->layers - 1)) + s->window;
    return in_pairs(most - (double)s->layer * (most - least) / (s->layers - 1), s) + s->window;
}

static uint32_t half_to_even(double x)
{
    const double whole = floor(x), rest = x - whole;
    const bool up = rest > 0.5 || (!(rest < 0.5) && fmod(whole, 2.0) > 0.0);
    return (uint32_t)(whole + up);
}

static uint32_t pyramid_of_kvpress(const struct shape *s, uint32_t average)
{
    double least = (double)average / s->beta, most = 2.0 * average - least;
    const double room = (double)s->n - s->window;
    if (most >= room) most = room, least = 2.0 * average - most;
    if (!(s->n >= most && most >= least && least >= s->window)) return average;
    return half_to_even(most - s->layer * (most - least) / (s->layers - 1));
}

/* Shares in rows, before rounding: proportional to preference, none above room. */
static double share_of(const struct kv_survey *survey, uint32_t index, double total, double room)
{
    double left = total, weight = 0.0;
    uint32_t open = survey->n, cut = 0;
    /* A layer is cut at most once and every round cuts one or ends: at most n rounds. The layers
     * with preference above `bar` are cut. */
    double bar = INFINITY;
    for (bool more = true; more;) {
        more = false, weight = 0.0, open = 0;
        for (uint32_t i = 0; i < survey->n; i++)
            if (survey->preference[i] <= bar) weight += survey->preference[i], open++;
        cut = survey->n - open, left = total - cut * room;
        if (!(weight > 0.0)) break;
        const double highest = room * weight / left;
        for (uint32_t i = 0; i < survey->n && !more; i++)
            if (survey->preference[i] <= bar && survey->preference[i] > highest)
                bar = highest, more = true;
    }
    if (survey->preference[index] > bar) return room;
    return weight > 0.0 ? left * survey->preference[index] / weight : left / open;
}

static uint32_t by_preference(const struct shape *s, const struct kv_survey *survey,
                              uint32_t average)
{
    if (s->base == 0 || s->n <= average) return average;
    const double total = (double)s->base * survey->n, room = (double)s->n - s->window;
    const double own = share_of(survey, survey->here, total, room),
                 remainder = own - floor(own + 1e-9);
    double given = 0.0;
    uint32_t before = 0; /* layers whose remainder is served first */
    for (uint32_t i = 0; i < survey->n; i++) {
        const double share = share_of(survey, i, total, room), rest = share - floor(share + 1e-9);
        given += floor(share + 1e-9);
        const double apart = floor(rest * 1e9 + 0.5) - floor(remainder * 1e9 + 0.5);
        before += apart > 0.5 || (apart > -0.5 && i < survey->here);
    }
    const bool one_more = before < total - given - 0.5;
    return (uint32_t)floor(own + 1e-9) + one_more + s->window;
}

static uint32_t rows_of_layer(const struct kv_trim *trim, const struct kv_geometry *geometry,
                              const struct kv_survey *survey, uint32_t average)
{
    const uint32_t judges = trim->judges < geometry->prefill ? trim->judges : geometry->prefill;
    struct shape shape = {.base = average > judges ? average - judges : 0,
                          .window = judges,
                          .n = trim->prompt_only ? geometry->prefill : geometry->tokens,
                          .layer = geometry->layer,
                          .layers = geometry->model_layers,
                          .beta = trim->beta ? trim->beta : 20};
    if (trim->layer_budget == KV_LAYERS_UNIFORM) return average;
    if (trim->layer_budget == KV_LAYERS_CAKE) return by_preference(&shape, survey, average);
    if (shape.layers < 2 || shape.layer >= shape.layers) return average;
    if (trim->layer_budget == KV_LAYERS_INVERTED) shape.layer = shape.layers - 1 - shape.layer;
    if (trim->layer_budget == KV_LAYERS_PYRAMID_KVPRESS) return pyramid_of_kvpress(&shape, average);
    return pyramid(&shape, average, trim->layer_budget == KV_LAYERS_PYRAMID_INTEGER);
}

uint32_t kv_layer_budget(const struct kv_trim *trim, const struct kv_geometry *geometry,
                         const struct kv_survey *survey, uint32_t average)
{
    const uint32_t rows = rows_of_layer(trim, geometry, survey, average);
    return rows > 0 || average == 0 ? rows : 1;
}

const struct kv_survey *kv_survey_alike(struct kv_pool *pool, uint32_t n, uint32_t here)
{
    struct kv_survey *survey = kv_pool_take(pool, sizeof *survey);
    double *preference = kv_pool_take(pool, n * sizeof *preference);
    if (!survey || !preference) return NULL;
    for (uint32_t i = 0; i < n; i++) preference[i] = 1.0;
    *survey = (struct kv_survey){.n = n, .here = here, .preference = preference};
    return survey;
}
