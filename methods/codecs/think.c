/* think: the key channels that queries use least are dropped (Xu et al., ThinK, arXiv 2407.21018,
 * section 3).
 *
 * Per KV head, keys as recorded. score_j = (mean over prompt keys, the last 32 left out, of k_j^2)
 * * (mean over the last 32 prompt queries of the group's heads of q_j^2), which orders channels as
 * |q_j k_j^T|_F does. Kept: the d - floor(ratio * d) best (of equal ones the lower); a dropped
 * channel reads as 0. The newest 32 keys stay whole. Values are not touched: they go to the inner
 * codec as they are.
 *
 * Bytes: the inner codec's (default f16) for rows of the kept channels; a mask of one bit a
 * channel, ceil(d / 8), basis of this prompt; 32 exact rows a head.
 *
 * Departures: keys only; with a prompt of at most 32 tokens the scores are over all of it. */
#include <stdlib.h>
#include <string.h>

#include "methods/parts/wrapper.h"
#include "methods/policy.h"

extern const struct kv_codec kv_codec_think;

enum { WINDOW = 32 };

struct config {
    double ratio;
};

static const struct kv_param params[] = {{"ratio", KV_PARAM_REAL, offsetof(struct config, ratio),
                                          0.4, 0, 0.99, NULL,
                                          "share of the key channels that is dropped"},
                                         {0}};

struct think_code {
    struct kv_code code, *inner;
    struct kv_pool *pool;
    uint32_t kept, *channels; /* [kept] ascending */
    float *rows;              /* [block][kept] */
};

static void wants(const void *config, struct kv_wants *wants)
{
    (void)config;
    wants->queries = true;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (setup->side == KV_VALUES) return kv_create_code(out, setup->rest, setup, setup->dim, err);
    if (setup->side == KV_BOTH_SIDES || setup->n_heads != 1)
        return kv_fail(err, KV_EUNSUPPORTED, "think: serves one head and side, not a span");
    struct think_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "think: no memory");
    self->pool = setup->pool;
    self->kept = setup->dim - (uint32_t)(config->ratio * setup->dim + 1e-9);
    const int status = kv_create_code(&self->inner, setup->rest, setup, self->kept, err);
    if (status) return status;
    self->code = kv_wrap_code(&kv_codec_think, setup->dim, self->inner);
    self->channels = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->kept * sizeof(uint32_t));
    self->rows = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                 (size_t)self->code.block * self->kept * sizeof(float));
    if (!self->channels || !self->rows) return kv_fail(err, KV_EMEMORY, "think: no memory");
    for (uint32_t i = 0; i < self->kept; i++) self->channels[i] = i;
    self->code.tiers.recent += WINDOW;
    *out = &self->code;
    return KV_OK;
}

static void weigh_channels(double *scores, const struct kv_sample *sample, uint32_t dim)
{
    const uint32_t window = sample->n < WINDOW ? sample->n : WINDOW;
    const uint32_t before = sample->n > WINDOW ? sample->n - WINDOW : sample->n;
    for (uint32_t c = 0; c < dim; c++) {
        double keys = 0, queries = 0;
        for (uint32_t i = 0; i < before; i++) {
            const double x = sample->rows[(size_t)i * dim + c];
            keys += x * x;
        }
        for (uint32_t i = 0; i < sample->n_queries; i++) {
            const double x = sample->queries[(size_t)i * dim + c];
            if (i % sample->n >= sample->n - window) queries += x * x;
        }
        scores[c] = keys * queries;
    }
}

/* The best `kept` channels, ascending. */
static void choose_channels(struct think_code *self, const double *scores)
{
    const uint32_t dim = self->code.dim;
    uint32_t n = 0;
    for (uint32_t c = 0; c < dim; c++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < dim; j++)
            better += scores[j] > scores[c] || (j < c && !(scores[j] < scores[c]));
        if (better < self->kept) self->channels[n++] = c;
    }
}

static void pick(const struct kv_code *code, const float *row, float *picked)
{
    const struct think_code *self = (const struct think_code *)code;
    for (uint32_t i = 0; i < self->kept; i++) picked[i] = row[self->channels[i]];
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct think_code *self = (struct think_code *)code;
    if (!sample->queries)
        return kv_fit_lacks(sample, "think", "queries", "the trace has no queries", err);
    double *scores = calloc(code->dim, sizeof *scores);
    if (!scores) return kv_fail(err, KV_EMEMORY, "think: no memory for %u scores", code->dim);
    weigh_channels(scores, sample, code->dim);
    choose_channels(self, scores);
    free(scores);
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, (code->dim + 7) / 8);
    return kv_fit_inner(code, self->inner, sample, pick, KV_MAP_OTHER, err);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct think_code *self = (struct think_code *)code;
    for (uint32_t t = 0; t < code->block; t++)
        pick(code, rows + (size_t)t * code->dim, self->rows + (size_t)t * self->kept);
    self->inner->type->encode(self->inner, self->rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct think_code *self = (const struct think_code *)code;
    memset(out, 0, (size_t)n_atoms * code->block * n_columns * sizeof *out);
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, 0, self->kept,
                                  self->rows);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns)
            for (uint32_t i = 0; i < self->kept; i++) {
                const uint32_t c = self->channels[i] - first_column;
                if (c < n_columns) out[c] = self->rows[(size_t)t * self->kept + i];
            }
    }
}

const struct kv_codec kv_codec_think = {.name = "think",
                                        .summary = "drops the key channels that queries use least",
                                        .paper = "ThinK (Xu et al., arXiv 2407.21018)",
                                        .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_FITS_ONLINE,
                                        .params = params,
                                        .config_size = sizeof(struct config),
                                        .wants = wants,
                                        .create = create,
                                        .fit = fit,
                                        .encode = encode,
                                        .decode = decode,
                                        .used = kv_wrapped_used};
