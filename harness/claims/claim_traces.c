/* Claims about codecs on recorded rows: KIVI's axis asymmetry (arXiv 2402.02750, table 2) and
 * the harm that TurboQuant's 1-bit sketch does to attention. Prompt rows are encoded as they
 * were recorded (keys post-rotary, as KIVI's code has them); queries are decode tokens, evenly
 * spread. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claim_codec.h"
#include "harness/claims/claim_layers.h"

/* Rows of both codecs' blocks: a multiple of 128 is one of every block in use. */
enum { BLOCK = 128, QUERIES = 16 };

enum error_kind { OF_ROWS, OF_ELEMENTS, OF_WEIGHTS, OF_OUTPUTS };

struct pair {                             /* two codecs on the same rows */
    const struct kv_measuring *measuring;
    char specs[2][128];
    enum kv_side side;
    enum error_kind kind;
    double sums[2];                       /* of the errors, over heads */
    uint32_t heads, worse;                /* KV heads; those where the first is worse */
};

struct head {                             /* one KV head under test */
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    uint32_t index, n;                    /* rows */
    float *keys, *values, *decoded;       /* [n][dim] */
    float *exact, *answer;                /* [n] weights, or [value_dim] outputs */
};

static double squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static double difference_squares(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)x[i] - y[i];
        sum += difference * difference;
    }
    return sum;
}

/* KIVI prints |(X - X') / X|_F, element by element; elements near 0 would decide alone, so |X| is
 * taken as at least a hundredth of its root mean square. */
static double element_error(const float *rows, const float *decoded, size_t n)
{
    const double least = 0.01 * sqrt(squares(rows, n) / (double)n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double share = ((double)rows[i] - decoded[i]) / fmax(fabs(rows[i]), least);
        sum += share * share;
    }
    return sqrt(sum / (double)n);
}

static uint32_t query_token(const struct head *head, uint32_t i)
{
    const struct kv_geometry *geometry = &head->layer->info->geometry;
    return geometry->prefill + (uint32_t)((uint64_t)i * (geometry->tokens - geometry->prefill) /
                                          QUERIES);
}

/* |A - A_hat| / |A| over the queries of the group, A from exact and from decoded keys. */
static double weight_error(struct head *head)
{
    const uint32_t group = head->layer->info->geometry.group;
    double top = 0, bottom = 0;
    for (uint32_t i = 0; i < QUERIES * group; i++) {
        const uint32_t q_head = head->index * group + i % group;
        const uint32_t token = query_token(head, i / group);
        kv_claim_weights(head->layer, head->kernels, q_head, token, head->keys, head->n,
                         head->exact);
        kv_claim_weights(head->layer, head->kernels, q_head, token, head->decoded, head->n,
                         head->answer);
        top += difference_squares(head->exact, head->answer, head->n);
        bottom += squares(head->exact, head->n);
    }
    return bottom > 0 ? sqrt(top / bottom) : NAN;
}

static double mean_divergence(struct head *head)
{
    const uint32_t group = head->layer->info->geometry.group;
    double sum = 0;
    for (uint32_t i = 0; i < QUERIES * group; i++) {
        const uint32_t q_head = head->index * group + i % group;
        const uint32_t token = query_token(head, i / group);
        kv_claim_weights(head->layer, head->kernels, q_head, token, head->keys, head->n,
                         head->exact);
        kv_claim_weights(head->layer, head->kernels, q_head, token, head->decoded, head->n,
                         head->answer);
        sum += kv_claim_divergence(head->answer, head->exact, head->n);
    }
    return sum / (QUERIES * group);
}

/* |A (V_hat - V)| and |A V|, squared, of one row of weights. */
static void add_output(const struct head *head, uint32_t dim, double *top, double *bottom)
{
    for (uint32_t c = 0; c < dim; c++) {
        double delta = 0, output = 0;
        for (uint32_t j = 0; j < head->n; j++) {
            const size_t at = (size_t)j * dim + c;
            delta += head->exact[j] * ((double)head->decoded[at] - head->values[at]);
            output += head->exact[j] * (double)head->values[at];
        }
        *top += delta * delta, *bottom += output * output;
    }
}

static double output_error(struct head *head)
{
    const struct kv_geometry *geometry = &head->layer->info->geometry;
    double top = 0, bottom = 0;
    for (uint32_t i = 0; i < QUERIES * geometry->group; i++) {
        kv_claim_weights(head->layer, head->kernels,
                         head->index * geometry->group + i % geometry->group,
                         query_token(head, i / geometry->group), head->keys, head->n, head->exact);
        add_output(head, geometry->value_dim, &top, &bottom);
    }
    return bottom > 0 ? sqrt(top / bottom) : NAN;
}

static double error_of(struct head *head, const struct pair *pair)
{
    const struct kv_geometry *geometry = &head->layer->info->geometry;
    const bool keys = pair->side == KV_KEYS;
    const float *rows = keys ? head->keys : head->values;
    const size_t n = (size_t)head->n * (keys ? geometry->key_dim : geometry->value_dim);
    switch (pair->kind) {
    case OF_ELEMENTS: return element_error(rows, head->decoded, n);
    case OF_WEIGHTS: return weight_error(head);
    case OF_OUTPUTS: return output_error(head);
    case OF_ROWS: break;
    }
    return sqrt(difference_squares(rows, head->decoded, n) / squares(rows, n));
}

static int round_trip(struct head *head, const struct pair *pair, const char *spec,
                      struct kv_error *err)
{
    const struct kv_geometry *geometry = &head->layer->info->geometry;
    const bool keys = pair->side == KV_KEYS;
    struct kv_claim_codec codec;
    const int status = kv_claim_codec_open(&codec, spec,
                                           keys ? geometry->key_dim : geometry->value_dim,
                                           pair->side, head->index, pair->measuring->seed,
                                           head->kernels, err);
    if (status != KV_OK) return status;
    kv_claim_round_trip(&codec, keys ? head->keys : head->values, head->n, head->decoded);
    kv_claim_codec_close(&codec);
    return KV_OK;
}

static void free_head(struct head *head)
{
    free(head->keys);
    free(head->values);
    free(head->decoded);
    free(head->exact);
    free(head->answer);
}

static int make_head(struct head *head, const struct kv_layer *layer, uint32_t index,
                     const struct kv_kernels *kernels, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n = geometry->prefill - geometry->prefill % BLOCK;
    const uint32_t wider = geometry->key_dim > geometry->value_dim ? geometry->key_dim
                                                                   : geometry->value_dim;
    *head = (struct head){.layer = layer, .kernels = kernels, .index = index, .n = n};
    if (!n)
        return kv_fail(err, KV_EUNSUPPORTED, "needs a prompt of %d tokens or more, found %u", BLOCK,
                       geometry->prefill);
    head->keys = malloc((size_t)n * geometry->key_dim * sizeof(float));
    head->values = malloc((size_t)n * geometry->value_dim * sizeof(float));
    head->decoded = malloc((size_t)n * wider * sizeof(float));
    head->exact = malloc(n * sizeof(float));
    head->answer = malloc(n * sizeof(float));
    if (!head->keys || !head->values || !head->decoded || !head->exact || !head->answer)
        return kv_fail(err, KV_EMEMORY, "claim: no memory");
    kv_tensor_widen(&layer->k, index, 0, n, head->keys);
    kv_tensor_widen(&layer->v, index, 0, n, head->values);
    return KV_OK;
}

static int measure_head(struct pair *pair, struct head *head, bool divergence,
                        struct kv_error *err)
{
    double errors[2] = {0};
    for (int side = 0; side < 2; side++) {
        const int status = round_trip(head, pair, pair->specs[side], err);
        if (status != KV_OK) return status;
        errors[side] = divergence ? mean_divergence(head) : error_of(head, pair);
    }
    if (isnan(errors[0]) || isnan(errors[1])) return KV_OK;
    pair->sums[0] += errors[0], pair->sums[1] += errors[1];
    pair->worse += errors[0] > errors[1];
    pair->heads++;
    return KV_OK;
}

static int visit_heads(struct pair *pair, const struct kv_layer *layer, bool divergence,
                       struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < layer->info->geometry.kv_heads; h++) {
        struct head head;
        status = make_head(&head, layer, h, pair->measuring->kernels, err);
        if (status == KV_OK) status = measure_head(pair, &head, divergence, err);
        free_head(&head);
    }
    return status;
}

static int visit_errors(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return visit_heads(data, layer, false, err);
}

static int visit_divergences(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return visit_heads(data, layer, true, err);
}

static int read_pair(struct pair *pair, const char *setting, const struct kv_measuring *measuring,
                     struct kv_error *err)
{
    static const char *const kinds[] = {"rows", "elements", "weights", "outputs"};
    char side[16] = "keys", kind[16] = "rows";
    *pair = (struct pair){.measuring = measuring};
    kv_setting_text(setting, "side", side, sizeof side);
    kv_setting_text(setting, "error", kind, sizeof kind);
    pair->side = strcmp(side, "values") == 0 ? KV_VALUES : KV_KEYS;
    for (int k = 0; k < 4; k++)
        if (strcmp(kind, kinds[k]) == 0) pair->kind = (enum error_kind)k;
    if (kv_setting_text(setting, "spec", pair->specs[0], sizeof pair->specs[0]) &&
        kv_setting_text(setting, "against", pair->specs[1], sizeof pair->specs[1]))
        return KV_OK;
    return kv_fail(err, KV_EINPUT, "claim: expected a setting with spec= and against=, found %s",
                   setting);
}

int kv_claim_axis_ratio(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    struct pair pair;
    int status = read_pair(&pair, setting, measuring, err);
    if (status == KV_OK)
        status = kv_claim_each_layer(measuring, visit_errors, &pair, figure, reason, err);
    if (status == KV_OK && pair.heads) *figure = pair.sums[0] / pair.sums[1];
    return kv_claim_cannot(status, figure, reason, err);
}

int kv_claim_sketch_hurts(double *figure, const char *setting,
                          const struct kv_measuring *measuring, char reason[256],
                          struct kv_error *err)
{
    struct pair pair;
    int status = read_pair(&pair, setting, measuring, err);
    if (status == KV_OK)
        status = kv_claim_each_layer(measuring, visit_divergences, &pair, figure, reason, err);
    if (status == KV_OK && pair.heads) *figure = (double)pair.worse / pair.heads;
    return kv_claim_cannot(status, figure, reason, err);
}
