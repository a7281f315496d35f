/* kvquant: keys before the rotary position per channel, values per token, on signposts that are
 * dense where it matters, outliers apart (Hooper et al., arXiv 2401.18079; its code
 * SqueezeAILab/KVQuant 57a2383). A row is all heads of the layer (span heads).
 *
 * fit, on the prompt's rows but the sinks. Keys: L, U of each channel, the share/2 and 1 - share/2
 * quantiles (outliers=0: the ends); offset = f16((L + U) / 2), range = f16((U - L) / 2); y = (x -
 * offset) / range; outliers |y| > 1. Values: of each token the n largest and n smallest are
 * outliers, n = dim - ceil((1 - share/2)(dim - 1)), the others' ends give offset and range. One
 * table of 2^bits signposts a layer and side: weighted k-means of the y that are no outliers
 * (parts/kmeans.h), f16.
 *
 * weights=fisher: F range^2 (equation 7), F the squares of the Fisher probes' gradients by the
 * entry (harness/replay/probe_squares.h); label: of the loss's gradient (the paper's F); code: that
 * without range^2 (the published code); none: 1. Probes lie on decode steps of the same trace,
 * which no system knows while it encodes: such rows say calibration oracle. Without probes they are
 * skipped.
 *
 * encode: nearest signpost (of two equally near the lower); outliers as f16 with a 16-bit index.
 * decode: signpost range + offset. q_norm (on at 2 bits): signposts are read moved and stretched so
 * that mean and deviation of the fitted y come out right. The first token stays exact (sinks=1).
 *
 * Bytes of a token: ceil(bits dim / 8); values 4 (offset, range) + 8 n; keys with outliers 4 (their
 * number: the row pointer of a sparse row) + 4 an outlier, as many as there are. Basis: 2 * 2^bits
 * for the table (twice with q_norm), keys 4 dim for the channels.
 *
 * Departures: the paper fits on 16 texts of 2048 tokens, here the prompt (or --calibrate); k-means
 * from quantiles instead of a random start; values' outliers have no row pointer, as their number
 * is fixed; the deployed kernel keeps an outlier less the end of the table, here the value itself.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/ends.h"
#include "methods/parts/kmeans.h"
#include "methods/parts/sort.h"
#include "methods/parts/wrapper.h"
#include "methods/policy.h"
#include "methods/codec.h"

extern const struct kv_codec kv_codec_kvquant;

enum weights { WEIGHTS_FISHER, WEIGHTS_LABEL, WEIGHTS_CODE, WEIGHTS_NONE };
enum q_norm { Q_NORM_AUTO, Q_NORM_ON, Q_NORM_OFF };

struct config {
    double outliers;
    uint32_t bits, weights, uniform, q_norm;
};

#define FIELD(name) offsetof(struct config, name)
static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, FIELD(bits), 4, 1, 8, NULL, "bits a code: signposts are 2^bits"},
    {"outliers", KV_PARAM_REAL, FIELD(outliers), 0.01, 0, 0.5, NULL,
     "share of values kept in 16 bits with their index"},
    {"weights", KV_PARAM_CHOICE, FIELD(weights), WEIGHTS_FISHER, 0, 0, "fisher|label|code|none",
     "what a value weighs in the fit: gradients of the trace's probes, or 1"},
    {"signposts", KV_PARAM_CHOICE, FIELD(uniform), 0, 0, 0, "nuq|uniform",
     "fitted, or evenly spaced"},
    {"q_norm", KV_PARAM_CHOICE, FIELD(q_norm), Q_NORM_AUTO, 0, 0, "auto|on|off",
     "signposts are read with the mean and deviation of what was fitted; auto: at 2 bits"},
    {0}};

struct kvquant_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    struct config config;
    bool keys;
    uint32_t kept;             /* outliers at each end of a value row */
    float *offset, *range;     /* keys: [dim]; values: of the row at hand, [0] */
    float *y;                  /* [dim] */
    uint8_t *outlying, *codes; /* [dim], [dim + 7] */
    float *thresholds, *table; /* [2^bits - 1], [2^bits] as read */
};

/* ---- create ---- */

static uint32_t kept_per_end(const struct config *config, uint32_t dim)
{
    if (!(config->outliers > 0)) return 0;
    const double at = (1 - 0.5 * config->outliers) * (dim - 1);
    const uint32_t n = dim - (uint32_t)ceil(at - 1e-9), most = (dim - 1) / 2;
    return n < most ? n : most;
}

static void set_table(struct kvquant_code *self, const double *signposts)
{
    const uint32_t n = 1u << self->config.bits;
    for (uint32_t i = 0; i < n; i++)
        self->table[i] = kv_half_to_float(kv_finite_half((float)signposts[i]));
    for (uint32_t i = 0; i + 1 < n; i++)
        self->thresholds[i] = (self->table[i] + self->table[i + 1]) * 0.5f;
}

static void set_even(struct kvquant_code *self)
{
    double signposts[256];
    const uint32_t n = 1u << self->config.bits;
    for (uint32_t i = 0; i < n; i++) signposts[i] = -1 + 2.0 * i / (n - 1);
    set_table(self, signposts);
}

static int reserve(struct kvquant_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const size_t dim = setup->dim, n = (size_t)1 << self->config.bits;
    float *floats = kv_pool_reserve(setup->pool, KV_WORKSPACE, (3 * dim + 2 * n) * sizeof *floats);
    uint8_t *bytes = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * dim + 7);
    if (!floats || !bytes)
        return kv_fail(err, KV_EMEMORY, "kvquant: no memory for rows of %u", setup->dim);
    self->offset = floats, self->range = floats + dim, self->y = floats + 2 * dim;
    self->table = floats + 3 * dim, self->thresholds = self->table + n;
    self->outlying = bytes, self->codes = bytes + dim;
    for (size_t c = 0; c < dim; c++) self->range[c] = 1;
    set_even(self);
    return KV_OK;
}

static uint32_t most_metadata(const struct kvquant_code *self, uint32_t dim)
{
    if (!self->keys) return 4 + 8 * self->kept;
    return self->config.outliers > 0 ? 4 + 4 * dim : 0;
}

static const struct kv_codec steady;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const uint32_t dim = setup->dim;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(
            err, KV_EUNSUPPORTED,
            "kvquant: keys go by channel and values by token, a span must not join them");
    if (dim > UINT16_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "kvquant: an index of 16 bits cannot tell %u columns",
                       dim);
    struct kvquant_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "kvquant: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool;
    self->config = *(const struct config *)setup->config;
    self->keys = setup->side == KV_KEYS;
    self->kept = kept_per_end(&self->config, dim);
    self->code = (struct kv_code){
        .type = self->keys && self->config.outliers > 0 ? &kv_codec_kvquant : &steady,
        .dim = dim,
        .block = 1,
        .payload_bytes = kv_packed_bytes(dim, self->config.bits),
        .metadata_bytes = most_metadata(self, dim),
        .tiers = {.sinks = 1, .flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return reserve(self, setup, err);
}

/* ---- a row normalised, its outliers marked ---- */

static float finite_half(float value)
{
    return kv_half_to_float(kv_finite_half(value));
}

/* offset and range of a value row, from what is no outlier. */
static void measure_row(struct kvquant_code *self, const float *row)
{
    float low = INFINITY, high = -INFINITY;
    memcpy(self->y, row, self->code.dim * sizeof *row);
    kv_mark_ends(self->kernels, self->y, self->code.dim, self->kept, self->outlying);
    for (uint32_t c = 0; c < self->code.dim; c++)
        if (!self->outlying[c])
            low = row[c] < low ? row[c] : low, high = row[c] > high ? row[c] : high;
    self->offset[0] = finite_half((low + high) * 0.5f),
    self->range[0] = finite_half((high - low) * 0.5f);
}

static void normalise(struct kvquant_code *self, const float *row)
{
    const uint32_t dim = self->code.dim;
    float *restrict y = self->y;
    if (!self->keys) {
        measure_row(self, row);
        const float offset = self->offset[0], range = self->range[0];
        for (uint32_t c = 0; c < dim; c++) y[c] = range > 0 ? (row[c] - offset) / range : 0;
        return;
    }
    self->kernels->channel_quotients(row, dim, self->offset, self->range, y, self->outlying);
    if (!(self->config.outliers > 0)) memset(self->outlying, 0, dim);
}

/* ---- fit ---- */

/* The quantile between two neighbours, linearly. */
static double quantile(const float *sorted, uint32_t n, double share)
{
    const double at = share * (n - 1);
    const uint32_t low = (uint32_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (at - low) * ((double)sorted[high] - sorted[low]);
}

static int fit_channels(struct kvquant_code *self, const float *rows, uint32_t n,
                        struct kv_error *err)
{
    const uint32_t dim = self->code.dim;
    float *column = malloc((n + 1) * sizeof *column);
    if (!column) return kv_fail(err, KV_EMEMORY, "kvquant: no memory for a channel");
    for (uint32_t c = 0; n && c < dim; c++) {
        for (uint32_t t = 0; t < n; t++) column[t] = rows[(size_t)t * dim + c];
        kv_sort_floats(column, n);
        const float low = (float)quantile(column, n, 0.5 * self->config.outliers);
        const float high = (float)quantile(column, n, 1 - 0.5 * self->config.outliers);
        self->offset[c] = finite_half((low + high) * 0.5f);
        self->range[c] = finite_half((high - low) * 0.5f);
    }
    free(column);
    return KV_OK;
}

static double weight_of(const struct kvquant_code *self, const float *squares, uint32_t c)
{
    const double range = self->range[self->keys ? c : 0];
    if (!squares) return 1;
    return self->config.weights == WEIGHTS_CODE ? squares[c] : squares[c] * range * range;
}

/* y of all rows that are no outliers, with their weights; how many. */
static size_t collect(struct kvquant_code *self, const float *rows, const float *squares,
                      uint32_t n, struct kv_weighted *points)
{
    const uint32_t dim = self->code.dim;
    size_t found = 0;
    for (uint32_t t = 0; t < n; t++) {
        const size_t at = (size_t)t * dim;
        normalise(self, rows + at);
        for (uint32_t c = 0; c < dim; c++)
            if (!self->outlying[c])
                points[found++] = (struct kv_weighted){
                    .value = self->y[c],
                    .weight = weight_of(self, squares ? squares + at : NULL, c)};
    }
    return found;
}

struct moments {
    double mean, deviation;
};

static struct moments moments_of(const struct kvquant_code *self, const struct kv_weighted *points,
                                 size_t n, bool coded)
{
    double sum = 0, square = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++) {
            const float y = (float)points[i].value;
            uint8_t code = 0;
            if (coded)
                self->kernels->bucket(&y, 1, self->thresholds, (1u << self->config.bits) - 1,
                                      &code);
            const double value = coded ? self->table[code] : points[i].value;
            if (pass == 0)
                sum += value / n;
            else
                square += (value - sum) * (value - sum) / n;
        }
    return (struct moments){sum, sqrt(square)};
}

static void apply_q_norm(struct kvquant_code *self, const struct kv_weighted *points, size_t n)
{
    const struct moments wanted = moments_of(self, points, n, false),
                         found = moments_of(self, points, n, true);
    const double factor = found.deviation > 0 ? wanted.deviation / found.deviation : 1;
    for (uint32_t i = 0; i < 1u << self->config.bits; i++)
        self->table[i] = finite_half((float)((self->table[i] - found.mean) * factor + wanted.mean));
}

static bool has_q_norm(const struct config *config)
{
    return config->q_norm == Q_NORM_ON || (config->q_norm == Q_NORM_AUTO && config->bits == 2);
}

static int fit_table(struct kvquant_code *self, const float *rows, const float *squares, uint32_t n,
                     struct kv_error *err)
{
    struct kv_weighted *points = malloc(((size_t)n * self->code.dim + 1) * sizeof *points);
    if (!points) return kv_fail(err, KV_EMEMORY, "kvquant: no memory for %u rows", n);
    const size_t found = collect(self, rows, squares, n, points);
    double signposts[256];
    if (found && !self->config.uniform) {
        kv_kmeans(points, found, 1u << self->config.bits, signposts);
        set_table(self, signposts);
    }
    if (found && has_q_norm(&self->config)) apply_q_norm(self, points, found);
    free(points);
    return KV_OK;
}

static const char *const missing[] = {
    [WEIGHTS_FISHER] =
        "weights=fisher needs the trace's Fisher probes (grad/); weights=none does without",
    [WEIGHTS_LABEL] =
        "weights=label needs the trace's label probes (grad/); weights=none does without",
    [WEIGHTS_CODE] =
        "weights=code needs the trace's label probes (grad/); weights=none does without"};

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct kvquant_code *self = (struct kvquant_code *)code;
    const uint32_t kind = self->config.weights;
    const float *squares = kind == WEIGHTS_FISHER ? sample->fisher
                           : kind == WEIGHTS_NONE ? NULL
                                                  : sample->label;
    if (!squares && kind != WEIGHTS_NONE)
        return kv_fit_lacks(sample, "kvquant", "weights: squares of gradients", missing[kind], err);
    const int64_t tables = ((int64_t)2 << self->config.bits) * (has_q_norm(&self->config) ? 2 : 1);
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, tables + (self->keys ? 4 * (int64_t)code->dim : 0));
    if (sample->sizes_only) return KV_OK;
    uint32_t first = 0;
    while (first < sample->n && sample->positions[first] < code->tiers.sinks) first++;
    const size_t skipped = (size_t)first * code->dim;
    const uint32_t n = sample->n - first;
    int status = self->keys ? fit_channels(self, sample->rows + skipped, n, err) : KV_OK;
    if (!status)
        status =
            fit_table(self, sample->rows + skipped, squares ? squares + skipped : NULL, n, err);
    return status;
}

static void wants(const void *config, struct kv_wants *wanted)
{
    const uint32_t kind = ((const struct config *)config)->weights;
    wanted->fisher |= kind == WEIGHTS_FISHER;
    wanted->label |= kind == WEIGHTS_LABEL || kind == WEIGHTS_CODE;
}

/* ---- encode and decode: payload, [offset, range], [count], outliers by ascending column ---- */

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kvquant_code *self = (struct kvquant_code *)code;
    uint8_t *at = atom + code->payload_bytes;
    normalise(self, rows);
    self->kernels->bucket(self->y, code->dim, self->thresholds, (1u << self->config.bits) - 1,
                          self->codes);
    self->kernels->pack_bits(self->codes, code->dim, self->config.bits, atom);
    if (!self->keys) {
        kv_keep_half(at, self->offset[0]);
        kv_keep_half(at + 2, self->range[0]);
    }
    if (!(self->config.outliers > 0)) return;
    uint32_t count = 0;
    uint8_t *pairs = at + 4;
    for (uint32_t c = 0; (c = kv_next_marked(self->outlying, c, code->dim)) < code->dim; c++) {
        const uint16_t column = (uint16_t)c;
        kv_keep_half(pairs + 4 * count, rows[c]);
        memcpy(pairs + 4 * count++ + 2, &column, sizeof column);
    }
    if (self->keys) memcpy(at, &count, sizeof count);
}

/* How many outliers an atom of keys says that it has; what is no number of columns is none. */
static uint32_t count_of(const struct kv_code *code, const uint8_t *atom)
{
    uint32_t count;
    memcpy(&count, atom + code->payload_bytes, sizeof count);
    return count <= code->dim ? count : 0;
}

static uint32_t used(const struct kv_code *code, const uint8_t *atom)
{
    const struct kvquant_code *self = (const struct kvquant_code *)code;
    if (!atom) return 4 + 4 * (uint32_t)(self->config.outliers * code->dim + 0.5);
    return 4 + (atom == kv_smallest_atom ? 0 : 4 * count_of(code, atom));
}

static void decode_row(const struct kvquant_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    const uint8_t *at = atom + self->code.payload_bytes;
    const uint8_t *codes =
        kv_unpack_some(self->kernels, atom, first, n, self->config.bits, self->codes);
    self->kernels->lookup(codes, n, self->table, 1.0f, out);
    if (self->keys) {
        for (uint32_t c = 0; c < n; c++)
            out[c] = out[c] * self->range[first + c] + self->offset[first + c];
    } else {
        const float offset = kv_kept_half(at), range = kv_kept_half(at + 2);
        for (uint32_t c = 0; c < n; c++) out[c] = out[c] * range + offset;
    }
    if (!(self->config.outliers > 0)) return;
    const uint32_t count = self->keys ? count_of(&self->code, atom) : 2 * self->kept;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t column;
        memcpy(&column, at + 4 + 4 * i + 2, sizeof column);
        if (column >= first && column - first < n)
            out[column - first] = kv_kept_half(at + 4 + 4 * i);
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row((const struct kvquant_code *)code, atoms + a * kv_atom_bytes(code), first_column,
                   n_columns, out + (size_t)a * n_columns);
}

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_HEADS;
}

/* The face of rows that all have as many bytes: values, and keys without outliers. */
static const struct kv_codec steady = {
    .name = "kvquant", .fit = fit, .encode = encode, .decode = decode};

const struct kv_codec kv_codec_kvquant = {
    .name = "kvquant",
    .summary =
        "fitted signposts: keys before the rotation per channel, values per token, outliers apart",
    .paper = "KVQuant (Hooper et al., arXiv 2401.18079)",
    .traits = KV_FITS_PROMPT | KV_UNROTATED_KEYS,
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .wants = wants,
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = used};
