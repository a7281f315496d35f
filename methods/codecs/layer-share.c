/* layer-share: some layers keep no rows and read those of an earlier one (CLA, Brandon et al.,
 * arXiv 2405.12981; KVSharer, Yang et al., arXiv 2410.18517).
 *
 * map=0-0-2-2: layer i of the model reads the rows of layer map[i]; one that names itself stores. A
 * layer named that itself reads another stands for that one. It must come earlier, or nothing could
 * be decoded: a circle, a later layer, a layer without an entry are refused, and so is one whose
 * rows are not recorded beside it, of the same kind and shape.
 *
 * Without a map pairs are chosen, once, on the prompt or the calibration. Distance of layers i > j:
 * (mean over heads and tokens of |K_i - K_j| + the same of V) / 2. Pairs in order of distance, the
 * most unlike first (choose=dissimilar, the paper's) or the most alike (similar); the later layer
 * reads the earlier one from then on, with all who read it; a layer that reads already is passed
 * over. It ends when `shared` layers read others, one at least. Ties: the lower layers.
 *
 * A reader's rows stand in for its own at the same positions, keys as recorded, its own queries
 * unchanged. Bytes: the inner codec's (default f16) for rows of all layers that store, heads and
 * both sides; readers nothing; a chosen map 2 a layer. Rows that the inner codec keeps exact are
 * exact in every layer, and charged in every layer.
 *
 * Departures: KVSharer tries each pair on the model and takes it where the last hidden state keeps
 * a cosine above 0.5: a recording has no model to try, so every pair is taken. The distance is that
 * of the published code, where the paper flattens. CLA trains: here no weight adapts. Errors are of
 * each layer alone, as everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_layer_share;

enum { DISSIMILAR, SIMILAR };
enum { ALL_LAYERS = 1024 };

struct config {
    struct kv_list map;
    uint32_t choose;
    struct kv_budget shared;
};

static const struct kv_param params[] = {
    {"map", KV_PARAM_LIST, offsetof(struct config, map), 0, 0, ALL_LAYERS - 1, NULL,
     "which layer each layer of the model reads; none: pairs are chosen"},
    {"choose", KV_PARAM_CHOICE, offsetof(struct config, choose), DISSIMILAR, 0, 0,
     "dissimilar|similar", "which pairs share first, without a map"},
    {"shared", KV_PARAM_BUDGET, offsetof(struct config, shared), 0.25, 1, ALL_LAYERS, NULL,
     "layers that read others, without a map: a number, or a share of those joined"},
    {0}};

struct share_code {
    struct kv_code code, *inner;
    struct kv_pool *pool;
    uint32_t n_layers, n_stored, width; /* width: columns of a layer */
    uint32_t heads, dims[2];            /* a head's columns: of each side that the rows have */
    uint32_t wanted, choose;            /* readers to choose; 0: none */
    uint32_t *source, *place;           /* [n_layers] who is read; where it is among the stored */
    float *rows;                        /* [block][n_stored * width] */
};

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_HEADS | KV_SPAN_SIDES;
}

/* The layer that stores what this one reads; UINT32_MAX where the map has no end. */
static uint32_t root_of(const struct kv_list *map, uint32_t layer)
{
    for (uint32_t steps = 0; steps <= map->n && layer < map->n; steps++) {
        if (map->at[layer] == layer) return layer;
        layer = map->at[layer];
    }
    return UINT32_MAX;
}

/* A layer of the map that nobody reads and that reads nobody needs no company. */
static uint32_t layer_group(const void *config, const struct kv_geometry *layer)
{
    const struct kv_list *map = &((const struct config *)config)->map;
    bool alone = map->n > layer->layer && map->at[layer->layer] == layer->layer;
    for (uint32_t i = 0; alone && i < map->n; i++)
        alone = i == layer->layer || map->at[i] != layer->layer;
    return alone ? 1 : ALL_LAYERS;
}

static int check_map(const struct kv_list *map, const struct kv_geometry *layer,
                     struct kv_error *err)
{
    const bool known = layer->layer < layer->model_layers;
    if (known && map->n > layer->model_layers)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "layer-share: map: %u entries for a model of %u layers", map->n,
                       layer->model_layers);
    if (map->n <= layer->layer || (known && map->n < layer->model_layers))
        return kv_fail(err, KV_EUNSUPPORTED,
                       "layer-share: map: a hole: layer %u of the model has no entry", map->n);
    for (uint32_t i = 0; i < map->n; i++)
        if (map->at[i] >= map->n)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "layer-share: map: a hole: layer %u reads layer %u, which has no entry",
                           i, map->at[i]);
    for (uint32_t i = 0; i < map->n; i++)
        if (root_of(map, i) == UINT32_MAX)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "layer-share: map: a cycle: from layer %u on none stores its own rows",
                           i);
    for (uint32_t i = 0; i < map->n; i++)
        if (map->at[i] > i)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "layer-share: map: layer %u reads layer %u, which comes after it", i,
                           map->at[i]);
    return KV_OK;
}

/* From layers of the model to places in the object. */
static int take_map(struct share_code *self, const struct kv_list *map,
                    const struct kv_setup *setup, struct kv_error *err)
{
    const int status = check_map(map, setup->geometry, err);
    for (uint32_t l = 0; status == KV_OK && l < self->n_layers; l++) {
        const uint32_t own = setup->layers ? setup->layers[l]->layer : setup->geometry->layer;
        const uint32_t root = root_of(map, own);
        for (uint32_t s = 0; s < l && root != own; s++)
            if (setup->layers[s]->layer == root) self->source[l] = s;
        if (root != own && self->source[l] == l)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "layer-share: map: layer %u reads layer %u, which is not stored beside"
                           " it: not recorded, left exact, or of another kind",
                           own, root);
    }
    return status;
}

static void number_stored(struct share_code *self)
{
    self->n_stored = 0;
    for (uint32_t l = 0; l < self->n_layers; l++)
        if (self->source[l] == l) self->place[l] = self->n_stored++;
    for (uint32_t l = 0; l < self->n_layers; l++) self->place[l] = self->place[self->source[l]];
}

/* -- choosing --------------------------------------------------------------------------------- */

/* Mean over tokens and heads of the distance of two layers' rows, halved over the sides. */
static double distance(const struct share_code *self, const struct kv_sample *sample, uint32_t i,
                       uint32_t j)
{
    double mean[2] = {0, 0};
    for (uint32_t t = 0; t < sample->n; t++) {
        const float *row = sample->rows + (size_t)t * self->code.dim;
        const float *a = row + (size_t)i * self->width, *b = row + (size_t)j * self->width;
        for (uint32_t h = 0; h < self->heads; h++)
            for (int side = 0; side < 2; a += self->dims[side], b += self->dims[side], side++) {
                double square = 0;
                for (uint32_t c = 0; c < self->dims[side]; c++) {
                    const double d = (double)a[c] - b[c];
                    square += d * d;
                }
                mean[side] += sqrt(square);
            }
    }
    return (mean[0] + mean[1]) / ((double)sample->n * self->heads);
}

/* The next pair whose later layer still stores its own rows; later > earlier. */
static void next_pair(const struct share_code *self, const double *distances, uint32_t *later,
                      uint32_t *earlier)
{
    double best = 0;
    *later = 0;
    for (uint32_t i = 1; i < self->n_layers; i++)
        for (uint32_t j = 0; j < i && self->source[i] == i; j++) {
            const double d = distances[(size_t)i * self->n_layers + j];
            if (*later && (self->choose == SIMILAR ? d >= best : d <= best)) continue;
            best = d, *later = i, *earlier = j;
        }
}

static int choose_pairs(struct share_code *self, const struct kv_sample *sample,
                        struct kv_error *err)
{
    const uint32_t n = self->n_layers;
    double *distances = calloc((size_t)n * n, sizeof *distances);
    if (!distances) return kv_fail(err, KV_EMEMORY, "layer-share: no memory for %u layers", n);
    for (uint32_t i = 0; i < n; i++) {
        self->source[i] = i;
        for (uint32_t j = 0; j < i; j++)
            distances[(size_t)i * n + j] = sample->sizes_only ? 0 : distance(self, sample, i, j);
    }
    for (uint32_t k = 0; k < self->wanted; k++) {
        uint32_t later, earlier = 0;
        next_pair(self, distances, &later, &earlier);
        self->source[later] = earlier;
        /* Ascending: what a layer reads is at its end already. */
        for (uint32_t l = 0; l < n; l++) self->source[l] = self->source[self->source[l]];
    }
    free(distances);
    number_stored(self);
    return KV_OK;
}

/* -- rows ------------------------------------------------------------------------------------- */

static void pack(const struct kv_code *code, const float *row, float *stored)
{
    const struct share_code *self = (const struct share_code *)code;
    for (uint32_t l = 0; l < self->n_layers; l++)
        if (self->source[l] == l)
            memcpy(stored + (size_t)self->place[l] * self->width, row + (size_t)l * self->width,
                   self->width * sizeof *stored);
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct share_code *self = (struct share_code *)code;
    for (uint32_t t = 0; t < code->block; t++)
        pack(code, rows + (size_t)t * code->dim,
             self->rows + (size_t)t * self->n_stored * self->width);
    self->inner->type->encode(self->inner, self->rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct share_code *self = (const struct share_code *)code;
    const uint32_t width = self->width, layer = first_column / width,
                   end = first_column + n_columns;
    const uint32_t stored = self->n_stored * width;
    if (end <= (layer + 1) * width) { /* one layer's: the usual reader */
        self->inner->type->decode(self->inner, atoms, n_atoms,
                                  self->place[layer] * width + first_column % width, n_columns,
                                  out);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++) {
        self->inner->type->decode(self->inner, atoms + a * kv_atom_bytes(code), 1, 0, stored,
                                  self->rows);
        for (uint32_t t = 0; t < code->block; t++)
            for (uint32_t c = first_column; c < end; c++)
                *out++ =
                    self->rows[(size_t)t * stored + self->place[c / width] * width + c % width];
    }
}

static bool layer_stores(const struct kv_code *code, uint32_t layer)
{
    return ((const struct share_code *)code)->source[layer] == layer;
}

/* -- making ----------------------------------------------------------------------------------- */

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct share_code *self = (struct share_code *)code;
    if (self->wanted) {
        const int status = choose_pairs(self, sample, err);
        if (status) return status;
        kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * (int64_t)self->n_layers);
    }
    return kv_fit_inner(code, self->inner, sample, pack, KV_MAP_OTHER, err);
}

/* With nothing to fit the cache need not gather rows. */
static const struct kv_codec plain = {.name = "layer-share",
                                      .traits = KV_LEAVES_ROWS,
                                      .encode = encode,
                                      .decode = decode,
                                      .used = kv_wrapped_used,
                                      .layer_stores = layer_stores};

/* Who reads whom, as far as it is known before the fit; until pairs are chosen the first layers
 * stand for those that will store. */
static int begin_map(struct share_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const uint32_t n = self->n_layers;
    for (uint32_t l = 0; l < n; l++) self->source[l] = l;
    if (config->map.n > 0) return take_map(self, &config->map, setup, err);
    if (n == 1) return KV_OK;
    self->choose = config->choose;
    self->wanted = kv_budget_tokens(config->shared, n);
    if (!self->wanted) self->wanted = 1;
    if (self->wanted >= n)
        return kv_fail(err, KV_EUNSUPPORTED, "layer-share: %u layers of %u share: one must store",
                       self->wanted, n);
    for (uint32_t l = n - self->wanted; l < n; l++) self->source[l] = 0;
    return KV_OK;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const uint32_t n = setup->n_layers > 1 ? setup->n_layers : 1;
    struct share_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    uint32_t *places = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * n * sizeof *places);
    if (!self || !places) return kv_fail(err, KV_EMEMORY, "layer-share: no memory");
    self->pool = setup->pool, self->source = places, self->place = places + n;
    self->n_layers = n, self->width = setup->dim / n, self->heads = setup->n_heads;
    if (setup->side != KV_VALUES) self->dims[0] = setup->geometry->key_dim;
    if (setup->side != KV_KEYS) self->dims[1] = setup->geometry->value_dim;
    int status = begin_map(self, setup, err);
    if (status) return status;
    number_stored(self);
    const size_t stored = (size_t)self->n_stored * self->width;
    status = kv_create_code(&self->inner, setup->rest, setup, (uint32_t)stored, err);
    if (status) return status;
    const bool fits = self->wanted || self->inner->type->fit;
    self->code = kv_wrap_code(fits ? &kv_codec_layer_share : &plain, setup->dim, self->inner);
    self->rows =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, self->code.block * stored * sizeof(float));
    *out = &self->code;
    return self->rows ? KV_OK : kv_fail(err, KV_EMEMORY, "layer-share: no memory for rows");
}

const struct kv_codec kv_codec_layer_share = {
    .name = "layer-share",
    .summary = "layers without rows of their own read an earlier layer's",
    .paper = "KVSharer (Yang et al., arXiv 2410.18517); CLA (Brandon et al., arXiv 2405.12981)",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT,
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .layer_group = layer_group,
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used,
    .layer_stores = layer_stores};
