/* minicache: two neighbouring layers share the direction of a row (Liu et al., MiniCache,
 * arXiv 2405.14366, section 4).
 *
 * Layers from the model's depth `start` on are paired (those recorded; a last one without a partner
 * stays as it is, in halves, and so do all before). Per token, KV head and side, x1 and x2 of the
 * two layers: u = x / |x|, W the angle between u1 and u2; e = sin((1 - t) W) / sin W u1 + sin(t W)
 * / sin W u2; where sin W < 1e-6, (1 - t) u1 + t u2 brought to length 1. x_hat = |x| e. Rows of
 * extreme angle are kept as they are beside it: retain=largest, the ceil(retained * n) prompt rows
 * of largest angle (the paper's intent, and KVCache-Factory's code); retain=below, those at or
 * below d_min + (d_max - d_min) * retained (what xKV's code does); all rows of the last angle. A
 * decoded row is held to the same. A row of zeros has no direction and is at angle 0: e is the
 * other layer's. Rotation leaves angles and interpolation alone: keys as recorded.
 *
 * Bytes of a pair of rows: e in halves, 2 d; two norms in f32, 8; of a retained pair also both rows
 * in halves and an index, 4 d + 4. A group's bytes are parted evenly between its layers.
 *
 * Departures: one angle decides for tokens to come (the paper speaks of the prompt). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/codec.h"
#include "methods/kernels/angle.h"
#include "methods/rotary.h"
#include "methods/parts/codes.h"

extern const struct kv_codec kv_codec_minicache;

enum { LARGEST, BELOW };

struct config {
    double t, retained;
    struct kv_budget start;
    uint32_t retain;
};

static const struct kv_param params[] = {
    {"t", KV_PARAM_REAL, offsetof(struct config, t), 0.6, 0, 1, NULL,
     "where between the first layer (0) and the second (1)"},
    {"retained", KV_PARAM_REAL, offsetof(struct config, retained), 0.05, 0, 1, NULL,
     "share of rows (below: of the range of angles) kept as they are"},
    {"start", KV_PARAM_BUDGET, offsetof(struct config, start), 0.5, 0, 1024, NULL,
     "first layer of the model that is merged: a number, or a share of its layers"},
    {"retain", KV_PARAM_CHOICE, offsetof(struct config, retain), LARGEST, 0, 0, "largest|below",
     "which angles are extreme"},
    {0}};

struct mini_code {
    struct kv_code code;
    struct config config;
    double threshold; /* angle from (to) which rows are retained */
    float *row;       /* [2][width] */
};

static uint32_t layer_group(const void *config, const struct kv_geometry *layer)
{
    const struct config *own = config;
    return layer->layer >= kv_budget_tokens(own->start, layer->model_layers) ? 2 : 1;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const uint32_t lanes = setup->n_layers > 1 ? setup->n_layers : 1, width = setup->dim / lanes;
    if (config->start.share > 0 && setup->geometry->layer >= setup->geometry->model_layers)
        return kv_fail(err, KV_ESKIPPED,
                       "minicache: start: the trace does not say how many layers the model has");
    if (lanes < 2) return kv_create_code(out, NULL, setup, setup->dim, err);
    if (setup->n_heads != 1 || setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED, "minicache: serves one head and side, not a span");
    struct mini_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "minicache: no memory");
    self->row = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim * sizeof(float));
    if (!self->row) return kv_fail(err, KV_EMEMORY, "minicache: no memory for a row");
    self->config = *config;
    self->threshold = config->retain == LARGEST ? INFINITY : -INFINITY;
    self->code = (struct kv_code){.type = &kv_codec_minicache,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = 2 * width,
                                  .metadata_bytes = 8 + 4 * width + 4,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

static double norm_of(const float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t c = 0; c < n; c++) sum += (double)x[c] * x[c];
    return sqrt(sum);
}

/* The angle between two rows; 0 where one has no direction. */
static double angle_between(const float *a, const float *b, uint32_t n)
{
    const double length[2] = {norm_of(a, n), norm_of(b, n)};
    double apart = 0, along = 0;
    if (!(length[0] > 0) || !(length[1] > 0)) return 0;
    for (uint32_t c = 0; c < n; c++) {
        const double x = a[c] / length[0], y = b[c] / length[1];
        apart += (x - y) * (x - y), along += (x + y) * (x + y);
    }
    return 2 * kv_angle_of(sqrt(apart), sqrt(along));
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct mini_code *self = (struct mini_code *)code;
    const uint32_t width = code->dim / 2, n = sample->n;
    double *angles = calloc((size_t)n + 1, sizeof *angles);
    if (!angles) return kv_fail(err, KV_EMEMORY, "minicache: no memory for %u angles", n);
    for (uint32_t i = 0; i < n; i++) {
        const float *row = sample->rows + (size_t)i * code->dim;
        angles[i] = angle_between(row, row + width, width);
    }
    qsort(angles, n, sizeof *angles, descending);
    const uint32_t count = (uint32_t)ceil(self->config.retained * n - 1e-9);
    if (self->config.retain == BELOW && self->config.retained > 0)
        self->threshold = angles[n - 1] + (angles[0] - angles[n - 1]) * self->config.retained;
    if (self->config.retain == LARGEST && count > 0) self->threshold = angles[count - 1];
    free(angles);
    return KV_OK;
}

static void merge(const struct mini_code *self, const float *rows, double angle, float *shared)
{
    const uint32_t width = self->code.dim / 2;
    const double lengths[2] = {norm_of(rows, width), norm_of(rows + width, width)};
    double weights[2] = {1 - self->config.t, self->config.t}, cosine, sine, square = 0;
    kv_cos_sin(angle, &cosine, &sine);
    const bool flat = sine < 1e-6;
    for (int l = 0; l < 2; l++) {
        double part;
        kv_cos_sin(weights[l] * angle, &cosine, &part);
        if (!flat) weights[l] = part / sine;
        weights[l] = lengths[l] > 0 ? weights[l] / lengths[l] : 0;
    }
    for (uint32_t c = 0; c < width; c++) {
        const double x = weights[0] * rows[c] + weights[1] * rows[width + c];
        shared[c] = (float)x;
        square += x * x;
    }
    for (uint32_t c = 0; c < width && flat && square > 0; c++)
        shared[c] = (float)(shared[c] / sqrt(square));
}

/* Atom: e; norms, the first of them negative in a retained pair; index and both rows. */
static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct mini_code *self = (struct mini_code *)code;
    const uint32_t width = code->dim / 2;
    const double angle = angle_between(rows, rows + width, width);
    const bool retained =
        self->config.retain == LARGEST ? angle >= self->threshold : angle <= self->threshold;
    float norms[2] = {(float)norm_of(rows, width), (float)norm_of(rows + width, width)};
    merge(self, rows, angle, self->row);
    for (uint32_t c = 0; c < width; c++) kv_keep_half(atom + 2 * (size_t)c, self->row[c]);
    if (retained) norms[0] = -norms[0];
    memcpy(atom + 2 * (size_t)width, norms, sizeof norms);
    uint8_t *whole = atom + 2 * (size_t)width + 8 + 4;
    for (uint32_t c = 0; c < code->dim; c++) kv_keep_half(whole + 2 * (size_t)c, rows[c]);
}

static bool is_retained(const struct kv_code *code, const uint8_t *atom, float norms[2])
{
    memcpy(norms, atom + code->dim, 2 * sizeof *norms);
    return signbit(norms[0]);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const uint32_t width = code->dim / 2;
    for (uint32_t a = 0; a < n_atoms; a++, out += n_columns) {
        const uint8_t *atom = atoms + a * kv_atom_bytes(code), *whole = atom + code->dim + 12;
        float norms[2];
        const bool retained = is_retained(code, atom, norms);
        for (uint32_t i = 0; i < n_columns; i++) {
            const uint32_t c = first_column + i;
            out[i] = retained ? kv_kept_half(whole + 2 * (size_t)c)
                              : norms[c >= width] * kv_kept_half(atom + 2 * (size_t)(c % width));
        }
    }
}

static uint32_t used(const struct kv_code *code, const uint8_t *atom)
{
    const struct mini_code *self = (const struct mini_code *)code;
    const uint32_t more = 2 * code->dim + 4;
    float norms[2];
    if (atom == kv_smallest_atom) return 8;
    if (!atom && self->config.retain == BELOW) return 8; /* a share of angles is none of rows */
    if (!atom) return 8 + (uint32_t)(self->config.retained * more + 0.5);
    return is_retained(code, atom, norms) ? 8 + more : 8;
}

const struct kv_codec kv_codec_minicache = {.name = "minicache",
                                            .summary =
                                                "pairs of layers share the direction of a row",
                                            .paper = "MiniCache (Liu et al., arXiv 2405.14366)",
                                            .traits = KV_FITS_PROMPT | KV_FITS_ONLINE,
                                            .params = params,
                                            .config_size = sizeof(struct config),
                                            .layer_group = layer_group,
                                            .create = create,
                                            .fit = fit,
                                            .encode = encode,
                                            .decode = decode,
                                            .used = used};
