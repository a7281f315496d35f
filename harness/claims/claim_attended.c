/* Claims about rows of attention, from recorded queries and keys: sinks (StreamingLLM, arXiv 2309.17453, figure
 * 2), persistence (Scissorhands, 2305.17118, figure 2), cumulated weight (Keyformer, 2403.09054, figure 1; Quest,
 * 2406.10774, figure 3) and the votes of a window (SnapKV, 2404.14469, figures 2 and 3). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claim_layers.h"

/* One query head's weights, all rows that a measure asks for. */
struct rows {
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    uint32_t q_head, n, prefill;
    float *keys, *row;                    /* [n][key_dim], [n] */
    double *sums, *others;                /* [n] scratch */
};

struct figure;
typedef double row_measure(const struct figure *figure, struct rows *rows);

struct figure {
    const struct kv_measuring *measuring;
    const char *setting;
    row_measure *measure;
    uint32_t from, until;                 /* layers of the model */
    double above;                         /* with `above`: the share of layers whose mean is larger */
    double sum;
    uint32_t n;
};

static double mean_of_heads(const struct figure *figure, const struct kv_layer *layer, struct kv_error *err,
                            int *status)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const size_t n = geometry->tokens;
    struct rows rows = {.layer = layer, .kernels = figure->measuring->kernels, .n = geometry->tokens,
                        .prefill = geometry->prefill, .keys = malloc(n * geometry->key_dim * sizeof(float)),
                        .row = malloc(n * sizeof(float)), .sums = malloc(n * sizeof(double)),
                        .others = malloc(n * sizeof(double))};
    double sum = 0.0;
    *status = rows.keys && rows.row && rows.sums && rows.others ? KV_OK
                                                                : kv_fail(err, KV_EMEMORY, "claim: no memory");
    for (uint32_t h = 0; *status == KV_OK && h < geometry->q_heads; h++) {
        rows.q_head = h;
        if (h % geometry->group == 0)
            kv_tensor_widen(&layer->k, h / geometry->group, 0, geometry->tokens, rows.keys);
        sum += figure->measure(figure, &rows);
    }
    free(rows.keys), free(rows.row), free(rows.sums), free(rows.others);
    return sum / geometry->q_heads;
}

static int visit(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    struct figure *figure = data;
    int status = KV_OK;
    if (layer->info->index < figure->from || layer->info->index > figure->until) return KV_OK;
    const double mean = mean_of_heads(figure, layer, err, &status);
    figure->sum += isnan(figure->above) ? mean : mean > figure->above;
    figure->n++;
    return status;
}

/* The mean of a measure over heads and layers, or the share of layers above a bar. */
static int measure_rows(row_measure *measure, double *figure, const char *setting,
                        const struct kv_measuring *measuring, char reason[256], struct kv_error *err)
{
    struct figure all = {.measuring = measuring, .setting = setting, .measure = measure,
                         .from = (uint32_t)kv_setting_number(setting, "from", 0),
                         .until = (uint32_t)kv_setting_number(setting, "until", 1e6),
                         .above = kv_setting_number(setting, "above", NAN)};
    const int status = kv_claim_each_layer(measuring, visit, &all, figure, reason, err);
    if (status == KV_OK && all.n) *figure = all.sum / all.n;
    else if (status == KV_OK && measuring->n_traces) strcpy(reason, "no such layer is recorded");
    return status;
}

static void attend(struct rows *rows, uint32_t token)
{
    kv_claim_weights(rows->layer, rows->kernels, rows->q_head, token, rows->keys, rows->n, rows->row);
}

static int descending(const void *left, const void *right)
{
    const float a = *(const float *)left, b = *(const float *)right;
    return (a < b) - (a > b);
}

/* ---- sinks ---- */

/* Weight on the first `first` tokens, mean over the decode queries. */
static double sink_mass(const struct figure *figure, struct rows *rows)
{
    const uint32_t first = (uint32_t)kv_setting_number(figure->setting, "first", 4);
    double sum = 0.0;
    for (uint32_t t = rows->prefill; t < rows->n; t++) {
        attend(rows, t);
        for (uint32_t j = 0; j < first; j++) sum += rows->row[j];
    }
    return sum / (rows->n - rows->prefill);
}

int kv_claim_sink_mass(double *figure, const char *setting, const struct kv_measuring *measuring,
                       char reason[256], struct kv_error *err)
{
    return measure_rows(sink_mass, figure, setting, measuring, reason, err);
}

/* ---- persistence ---- */

/* pivotal[j] = 1 where some query of from .. until - 1 gives j more than 1 / (its number of keys). */
static void mark_pivotal(struct rows *rows, uint32_t from, uint32_t until, double *pivotal)
{
    memset(pivotal, 0, rows->n * sizeof *pivotal);
    for (uint32_t t = from; t < until; t++) {
        attend(rows, t);
        const float bar = 1.0f / (float)(t + 1);
        for (uint32_t j = 0; j <= t; j++)
            if (rows->row[j] > bar) pivotal[j] = 1.0;
    }
}

/* |S(0..t) and S(t+1..l)| / |{x <= t} and S(t+1..l)| at t = l / 2. */
static double persistence(const struct figure *figure, struct rows *rows)
{
    (void)figure;
    const uint32_t half = rows->n / 2;
    uint32_t both = 0, later = 0;
    mark_pivotal(rows, 0, half, rows->sums);
    mark_pivotal(rows, half, rows->n, rows->others);
    for (uint32_t j = 0; j < half; j++)
        if (rows->others[j] > 0.0) later++, both += rows->sums[j] > 0.0;
    return later ? (double)both / later : 1.0;
}

int kv_claim_persistence(double *figure, const char *setting, const struct kv_measuring *measuring,
                         char reason[256], struct kv_error *err)
{
    return measure_rows(persistence, figure, setting, measuring, reason, err);
}

/* ---- cumulated weight ---- */

/* Every 4th decode row, sorted: neighbours look alike. */
static void sort_row(struct rows *rows, uint32_t t)
{
    attend(rows, t);
    qsort(rows->row, t + 1, sizeof *rows->row, descending);
}

/* Weight on the heaviest `share` of the keys. */
static double heavy_mass(const struct figure *figure, struct rows *rows)
{
    const double share = kv_setting_number(figure->setting, "share", 0.4);
    double sum = 0.0;
    uint32_t n = 0;
    for (uint32_t t = rows->prefill; t < rows->n; t += 4, n++) {
        sort_row(rows, t);
        for (uint32_t j = 0; j < (uint32_t)(share * (t + 1)); j++) sum += rows->row[j];
    }
    return sum / n;
}

int kv_claim_heavy_mass(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    return measure_rows(heavy_mass, figure, setting, measuring, reason, err);
}

/* Share of the keys that are not needed for `mass` of the weight. */
static double idle_share(const struct figure *figure, struct rows *rows)
{
    const double mass = kv_setting_number(figure->setting, "mass", 0.99);
    double sum = 0.0;
    uint32_t n = 0;
    for (uint32_t t = rows->prefill; t < rows->n; t += 4, n++) {
        double have = 0.0;
        uint32_t needed = 0;
        sort_row(rows, t);
        while (needed <= t && have < mass) have += rows->row[needed++];
        sum += 1.0 - (double)needed / (t + 1);
    }
    return sum / n;
}

int kv_claim_idle_share(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    return measure_rows(idle_share, figure, setting, measuring, reason, err);
}

/* ---- the votes of a window ---- */

/* sums[j] = weight that the queries from .. until - 1 give to j, j < prefix. */
static void sum_window(struct rows *rows, uint32_t from, uint32_t until, uint32_t prefix, double *sums)
{
    memset(sums, 0, rows->n * sizeof *sums);
    for (uint32_t t = from; t < until; t++) {
        attend(rows, t);
        for (uint32_t j = 0; j < prefix; j++) sums[j] += rows->row[j];
    }
}

/* The k-th largest of values[0 .. n-1]. */
static double kth_largest(const struct rows *rows, const double *values, uint32_t n, uint32_t k)
{
    for (uint32_t j = 0; j < n; j++) rows->row[j] = (float)values[j];
    qsort(rows->row, n, sizeof *rows->row, descending);
    return rows->row[k - 1];
}

/* Of the `share` of prompt rows before the window that generation looks at most, how many are among the same
 * share by the votes of the window that ends `back` windows before the prompt does. */
static double hit_rate(const struct figure *figure, struct rows *rows)
{
    const uint32_t window = (uint32_t)kv_setting_number(figure->setting, "window", 32);
    const uint32_t back = (uint32_t)kv_setting_number(figure->setting, "back", 0);
    const double share = kv_setting_number(figure->setting, "share", 0.1);
    const uint32_t most = (uint32_t)kv_setting_number(figure->setting, "windows", 8);
    if (rows->prefill < 2 * most * window) return NAN;
    const uint32_t prefix = rows->prefill - most * window, until = rows->prefill - back * window;
    const uint32_t k = share * prefix >= 1.0 ? (uint32_t)(share * prefix) : 1;
    sum_window(rows, until - window, until, prefix, rows->sums);
    sum_window(rows, rows->prefill, rows->n, prefix, rows->others);
    const double vote = kth_largest(rows, rows->sums, prefix, k);
    const double bar = kth_largest(rows, rows->others, prefix, k);
    uint32_t hits = 0;
    for (uint32_t j = 0; j < prefix; j++)
        hits += (float)rows->sums[j] >= (float)vote && (float)rows->others[j] >= (float)bar;
    return (double)hits / k;
}

/* With `minus`: the rate of window `back` less that of window `minus`. */
static double hit_rate_gain(const struct figure *figure, struct rows *rows)
{
    char setting[64];
    const double minus = kv_setting_number(figure->setting, "minus", -1.0);
    const double rate = hit_rate(figure, rows);
    if (minus < 0.0) return rate;
    struct figure other = *figure;
    snprintf(setting, sizeof setting, "back=%g", minus);
    other.setting = setting;
    return rate - hit_rate(&other, rows);
}

int kv_claim_hit_rate(double *figure, const char *setting, const struct kv_measuring *measuring,
                      char reason[256], struct kv_error *err)
{
    const int status = measure_rows(hit_rate_gain, figure, setting, measuring, reason, err);
    if (status == KV_OK && isnan(*figure) && measuring->n_traces) strcpy(reason, "the prompt is too short");
    return status;
}
