/* gqa: KV heads of a layer pooled into fewer (Ainslie et al., GQA, arXiv 2305.13245, section 2.1:
 * mean pooling), as they are or aligned first (arXiv 2412.20677). heads=1 is multi-query attention.
 *
 * Head h of H belongs to group floor(h * G / H). Stored per group: p = mean over its heads of x_h
 * R_h, rows as recorded (rotation and mean commute); read: x_hat_h = p R_h^T. align=none: R = I.
 * align=procrustes, the first head of a group being its reference: values, R_h = U V^T of the SVD
 * of X_h^T X_ref, the orthogonal matrix that brings X_h nearest to X_ref; keys, one angle for each
 * rotary pair (what commutes with the rotation): atan2(sum x_h y_ref - y_h x_ref, sum x_h x_ref +
 * y_h y_ref); dimensions that do not rotate stay. In a layer that rotates nothing keys turn as
 * values do. Maps are halves.
 *
 * Bytes: the inner codec's (default f16) for rows of G d columns; of every aligned head that is no
 * reference 2 d (cosines and sines) or, turned freely, 2 d^2, which weights could absorb.
 *
 * Departures: one reference, no iteration to a mean and no search for good groups; nothing is
 * trained, so the error is that of a model switched over. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/polar.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_gqa;

enum { NONE, PROCRUSTES };

struct config {
    struct kv_budget heads;
    uint32_t align;
};

static const struct kv_param params[] = {
    {"heads", KV_PARAM_BUDGET, offsetof(struct config, heads), 0.5, 1, 65536, NULL,
     "KV heads that are left: a number, or a share"},
    {"align", KV_PARAM_CHOICE, offsetof(struct config, align), NONE, 0, 0, "none|procrustes",
     "turn heads onto the first of their group before they are pooled"},
    {0}};

struct gqa_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    const struct kv_rope *rope; /* keys that rotate; NULL: turns are free */
    uint32_t heads, groups, width;
    float *turns, *back; /* [heads][width][width]: R_h, and its transpose */
    float *rows, *part;  /* [block][groups * width]; [width] */
};

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_HEADS;
}

static uint32_t group_of(const struct gqa_code *self, uint32_t head)
{
    return head * self->groups / self->heads;
}

static uint32_t reference_of(const struct gqa_code *self, uint32_t head)
{
    const uint32_t group = group_of(self, head);
    while (head > 0 && group_of(self, head - 1) == group) head--;
    return head;
}

static void pool_heads(const struct kv_code *code, const float *row, float *pooled)
{
    const struct gqa_code *self = (const struct gqa_code *)code;
    const uint32_t width = self->width;
    for (uint32_t g = 0, h = 0; g < self->groups; g++) {
        float *out = pooled + (size_t)g * width;
        uint32_t n = 0;
        memset(out, 0, width * sizeof *out);
        for (; h < self->heads && group_of(self, h) == g; h++, n++) {
            const float *x = row + (size_t)h * width;
            if (self->turns) {
                self->kernels->rotate(self->turns + (size_t)h * width * width, width, width, x,
                                      self->part);
                x = self->part;
            }
            for (uint32_t c = 0; c < width; c++) out[c] += x[c];
        }
        for (uint32_t c = 0; c < width; c++) out[c] /= (float)n;
    }
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct gqa_code *self = (struct gqa_code *)code;
    const size_t stored = (size_t)self->groups * self->width;
    for (uint32_t t = 0; t < code->block; t++)
        pool_heads(code, rows + (size_t)t * code->dim, self->rows + t * stored);
    self->inner->type->encode(self->inner, self->rows, atom);
}

/* Columns of one head of one row. */
static void read_head(const struct gqa_code *self, const float *pooled, uint32_t head,
                      uint32_t from, uint32_t n, float *out)
{
    const uint32_t width = self->width;
    const float *row = pooled + (size_t)group_of(self, head) * width;
    if (self->back) {
        self->kernels->rotate(self->back + (size_t)head * width * width, width, width, row,
                              self->part);
        row = self->part;
    }
    memcpy(out, row + from, n * sizeof *out);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct gqa_code *self = (const struct gqa_code *)code;
    const uint32_t stored = self->groups * self->width, end = first_column + n_columns;
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, 0, stored,
                                  self->rows);
        for (uint32_t t = 0; t < code->block; t++)
            for (uint32_t c = first_column, n; c < end; c += n, out += n) {
                const uint32_t from = c % self->width;
                n = self->width - from < end - c ? self->width - from : end - c;
                read_head(self, self->rows + (size_t)t * stored, c / self->width, from, n, out);
            }
    }
}

static void set_turn(struct gqa_code *self, uint32_t head, uint32_t r, uint32_t c, double value)
{
    const size_t first = (size_t)head * self->width * self->width;
    const float kept = kv_half_to_float(kv_finite_half((float)value));
    self->turns[first + (size_t)r * self->width + c] = kept;
    self->back[first + (size_t)c * self->width + r] = kept;
}

/* One angle for each rotary pair. */
static void align_keys(struct gqa_code *self, const struct kv_sample *sample, uint32_t head)
{
    const uint32_t half = self->rope->dims / 2;
    const bool interleaved = self->rope->layout == KV_ROPE_INTERLEAVED;
    const size_t own = (size_t)head * self->width,
                 other = (size_t)reference_of(self, head) * self->width;
    for (uint32_t i = 0; i < half; i++) {
        const uint32_t x = interleaved ? 2 * i : i, y = interleaved ? 2 * i + 1 : i + half;
        double along = 0, across = 0;
        for (uint32_t t = 0; t < sample->n; t++) {
            const float *a = sample->rows + (size_t)t * self->code.dim + own;
            const float *b = sample->rows + (size_t)t * self->code.dim + other;
            along += (double)a[x] * b[x] + (double)a[y] * b[y];
            across += (double)a[x] * b[y] - (double)a[y] * b[x];
        }
        const double length = sqrt(along * along + across * across);
        const double cosine = length > 0 ? along / length : 1,
                     sine = length > 0 ? across / length : 0;
        set_turn(self, head, x, x, cosine), set_turn(self, head, y, y, cosine);
        set_turn(self, head, x, y, sine), set_turn(self, head, y, x, -sine);
    }
}

static int align_freely(struct gqa_code *self, const struct kv_sample *sample, uint32_t head,
                        double *matrix, struct kv_error *err)
{
    const uint32_t width = self->width;
    const size_t own = (size_t)head * width, other = (size_t)reference_of(self, head) * width;
    memset(matrix, 0, (size_t)width * width * sizeof *matrix);
    for (uint32_t t = 0; t < sample->n; t++) {
        const float *a = sample->rows + (size_t)t * self->code.dim + own;
        const float *b = sample->rows + (size_t)t * self->code.dim + other;
        for (uint32_t r = 0; r < width; r++)
            for (uint32_t c = 0; c < width; c++)
                matrix[(size_t)r * width + c] += (double)a[r] * b[c];
    }
    const int status = kv_nearest_orthogonal(matrix, width, err);
    for (uint32_t r = 0; !status && r < width; r++)
        for (uint32_t c = 0; c < width; c++)
            set_turn(self, head, r, c, matrix[(size_t)r * width + c]);
    return status;
}

static int align(struct gqa_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    const uint32_t width = self->width;
    double *matrix = calloc((size_t)width * width, sizeof *matrix);
    int status = matrix ? KV_OK : kv_fail(err, KV_EMEMORY, "gqa: no memory to align heads");
    for (uint32_t h = 0; status == KV_OK && h < self->heads; h++) {
        if (reference_of(self, h) == h) continue;
        if (self->rope)
            align_keys(self, sample, h);
        else if (!sample->sizes_only)
            status = align_freely(self, sample, h, matrix, err);
        kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * (int64_t)width * (self->rope ? 1 : width));
    }
    free(matrix);
    return status;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct gqa_code *self = (struct gqa_code *)code;
    const int status = self->turns ? align(self, sample, err) : KV_OK;
    return status ? status : kv_fit_inner(code, self->inner, sample, pool_heads, KV_MAP_OTHER, err);
}

/* Without anything to fit the cache need not gather rows. */
static const struct kv_codec plain = {.name = "gqa",
                                      .traits = KV_LEAVES_ROWS,
                                      .encode = encode,
                                      .decode = decode,
                                      .used = kv_wrapped_used};

static int reserve(struct gqa_code *self, const struct kv_setup *setup, bool aligned,
                   struct kv_error *err)
{
    const size_t square = (size_t)self->width * self->width,
                 stored = (size_t)self->groups * self->width;
    self->rows =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, self->code.block * stored * sizeof(float));
    self->part = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->width * sizeof(float));
    if (aligned) {
        self->turns =
            kv_pool_reserve(setup->pool, KV_WORKSPACE, self->heads * square * sizeof(float));
        self->back =
            kv_pool_reserve(setup->pool, KV_WORKSPACE, self->heads * square * sizeof(float));
    }
    if (!self->rows || !self->part || (aligned && (!self->turns || !self->back)))
        return kv_fail(err, KV_EMEMORY, "gqa: no memory for %u heads", self->heads);
    for (uint32_t h = 0; aligned && h < self->heads; h++)
        for (uint32_t c = 0; c < self->width; c++) set_turn(self, h, c, c, 1.0);
    return KV_OK;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const uint32_t wanted = kv_budget_tokens(config->heads, setup->n_heads);
    const bool aligned = config->align == PROCRUSTES && wanted < setup->n_heads;
    if (setup->side == KV_BOTH_SIDES || setup->n_layers > 1)
        return kv_fail(err, KV_EUNSUPPORTED, "gqa: pools one side of one layer");
    if (setup->n_heads > 1 && kv_lanes_in_row(setup) == 1)
        return kv_fail(err, KV_EUNSUPPORTED, "gqa: expected rows of heads, found latents, which are no head's");
    if (wanted > setup->n_heads)
        return kv_fail(err, KV_EUNSUPPORTED, "gqa: %u heads of %u", wanted, setup->n_heads);
    struct gqa_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "gqa: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool;
    self->heads = setup->n_heads, self->groups = wanted ? wanted : 1;
    self->width = setup->dim / setup->n_heads;
    const bool rotates = setup->side == KV_KEYS && setup->geometry->rope.layout != KV_ROPE_NONE;
    self->rope = rotates ? &setup->geometry->rope : NULL;
    int status = kv_create_code(&self->inner, setup->rest, setup, self->groups * self->width, err);
    if (status) return status;
    const bool fits = aligned || self->inner->type->fit;
    self->code = kv_wrap_code(fits ? &kv_codec_gqa : &plain, setup->dim, self->inner);
    status = reserve(self, setup, aligned, err);
    *out = &self->code;
    return status;
}

const struct kv_codec kv_codec_gqa = {
    .name = "gqa",
    .summary = "KV heads pooled into fewer, as they are or aligned",
    .paper = "GQA (Ainslie et al., arXiv 2305.13245); aligned pooling (arXiv 2412.20677)",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_ORDERED_HEADS,
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used};
