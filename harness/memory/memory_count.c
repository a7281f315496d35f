/* Counting a method's bytes; see memory_count.h. */
#include "harness/memory/memory_count.h"

#include <stdlib.h>
#include <string.h>

#include "harness/base/half.h"
#include "harness/base/rng.h"
#include "harness/memory/row_extremes.h"
#include "methods/byte_law.h"
#include "methods/cache.h"
#include "methods/spec_wants.h"

enum pattern { FLAT, RANDOM }; /* all rows and weights alike; all different */

enum {
    CREATED_ROWS = 1
}; /* of a recording to make codecs on: what they come to hangs on their shape */

struct counting {
    const struct kv_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_geometry geometry; /* of the first layer */
    uint32_t n_layers;
    struct kv_geometry *geometries; /* [n_layers] */
    struct kv_pool *pool;
    enum pattern pattern;
    const uint32_t *layers; /* [n_layers] of the model */
    struct kv_tensor keys, values;
    struct kv_prompt *prompts; /* [unit heads] */
    uint32_t unit_heads;
    double *inv_freq;
    int32_t *positions;
    struct kv_cache **main, **rest; /* [n_layers]; rest NULL: there is none */
    struct kv_held_rows *held;      /* [n_layers] scratch */
};

/* -- a made-up recording ---------------------------------------------------------------------- */

/* Rows that overlap: row i of FLAT is always the same one, of RANDOM begins an element after row
 * i-1. */
static int make_tensor(struct counting *counting, struct kv_tensor *tensor, uint32_t dim,
                       struct kv_error *err)
{
    const bool random = counting->pattern == RANDOM, wide = counting->geometry.element_bits == 32;
    const size_t rows = (size_t)counting->geometry.kv_heads * counting->geometry.tokens;
    const size_t n = (random ? rows : 0) + dim;
    void *data = kv_pool_take(counting->pool, n * (wide ? 4 : 2));
    if (!data) return kv_fail(err, KV_EMEMORY, "memory: out of memory for %zu elements", n);
    struct kv_rng rng = kv_rng_stream(1, dim, 0, 0);
    for (size_t i = 0; random && i < n; i++) {
        const float value = (float)(kv_rng_uniform(&rng) - 0.5);
        if (wide)
            ((float *)data)[i] = value;
        else
            ((uint16_t *)data)[i] = kv_float_to_half(value);
    }
    *tensor = (struct kv_tensor){.dtype = wide ? KV_F32 : KV_F16,
                                 .heads = counting->geometry.kv_heads,
                                 .tokens = counting->geometry.tokens,
                                 .dim = dim,
                                 .stride = random,
                                 .data = data};
    return KV_OK;
}

/* Alike means 0, as memory of the pool is; all different: multiples of the golden ratio, modulo 1.
 */
static void fill_reals(const struct counting *counting, double *array, size_t n)
{
    for (size_t i = 0; counting->pattern == RANDOM && i < n; i++)
        array[i] = (double)((uint32_t)(i + 1) * 2654435769u) * 0x1p-32;
}

static void fill_floats(const struct counting *counting, float *array, size_t n)
{
    for (size_t i = 0; counting->pattern == RANDOM && i < n; i++)
        array[i] = (float)((uint32_t)(i + 1) * 2654435769u >> 8) * 0x1p-24f;
}

static int make_prompt(struct counting *counting, struct kv_prompt *prompt, uint32_t head,
                       const struct kv_wants *wants, struct kv_error *err)
{
    const struct kv_geometry *geometry = &counting->geometry;
    const size_t n = geometry->prefill, group = geometry->group;
    const size_t sums = wants->column_sum ? n * group : 0,
                 future = wants->future ? geometry->tokens * group : 0;
    const size_t rows = wants->prompt_rows ? n : 0;
    const size_t norms = wants->output_norms ? n : 0;
    const size_t queries = wants->queries ? n * group * geometry->key_dim : 0;
    prompt->n = geometry->prefill;
    prompt->tail = wants->tail < n ? wants->tail : geometry->prefill;
    double *columns = kv_pool_take(counting->pool, sums * sizeof *columns);
    double *futures = kv_pool_take(counting->pool, future * sizeof *futures);
    float *tails = kv_pool_take(counting->pool, prompt->tail * group * n * sizeof *tails);
    float *keys = kv_pool_take(counting->pool, rows * geometry->key_dim * sizeof *keys);
    float *values = kv_pool_take(counting->pool, rows * geometry->value_dim * sizeof *values);
    float *query = kv_pool_take(counting->pool, queries * sizeof *query);
    float *norm = kv_pool_take(counting->pool, norms * sizeof *norm);
    if (!query || !norm || !columns || !futures || !tails || !keys || !values)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory for a prompt of %zu rows", n);
    fill_reals(counting, columns, sums);
    fill_reals(counting, futures, future);
    fill_floats(counting, tails, prompt->tail * group * n);
    fill_floats(counting, query, queries);
    fill_floats(counting, norm, norms);
    prompt->queries = query;
    if (norms) prompt->output_norms = norm;
    if (rows) {
        kv_tensor_widen(&counting->keys, head, 0, prompt->n, keys);
        kv_tensor_widen(&counting->values, head, 0, prompt->n, values);
    }
    prompt->column_sum = columns, prompt->future_sum = futures, prompt->tail_weights = tails;
    prompt->keys = keys, prompt->values = values;
    return KV_OK;
}

static int make_prompts(struct counting *counting, struct kv_error *err)
{
    const struct kv_wants wants = kv_spec_wants(counting->spec);
    counting->prompts =
        kv_pool_take(counting->pool, counting->unit_heads * sizeof *counting->prompts);
    if (!counting->prompts) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < counting->unit_heads; h++)
        status = make_prompt(counting, &counting->prompts[h], h, &wants, err);
    return status;
}

/* A plain rotation, so that codecs of keys as they were before it have one to undo; latents that
 * are values do not turn. */
static int make_rotary(struct counting *counting, struct kv_error *err)
{
    struct kv_geometry *geometry = &counting->geometry;
    const uint32_t dims = geometry->key_dim / 2 * 2;
    counting->inv_freq = kv_pool_take(counting->pool, (dims / 2 + 1) * sizeof *counting->inv_freq);
    counting->positions =
        kv_pool_take(counting->pool, geometry->tokens * sizeof *counting->positions);
    if (!counting->inv_freq || !counting->positions)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    const uint32_t still = geometry->values_in_keys ? (geometry->value_dim + 1) / 2 : 0;
    for (uint32_t i = still; i < dims / 2; i++) counting->inv_freq[i] = 1.0 / (i + 1);
    for (uint32_t t = 0; t < geometry->tokens; t++) counting->positions[t] = (int32_t)t;
    geometry->positions = counting->positions;
    const enum kv_rope_layout turns = still ? KV_ROPE_INTERLEAVED : KV_ROPE_HALF;
    geometry->rope = (struct kv_rope){.layout = dims ? turns : KV_ROPE_NONE,
                                      .dims = dims,
                                      .scale = 1.0,
                                      .inv_freq = counting->inv_freq};
    return KV_OK;
}

/* -- the cache -------------------------------------------------------------------------------- */

/* What the layers of a model would say of themselves: the same. */
static const struct kv_survey *make_survey(struct counting *counting, uint32_t layer)
{
    const uint32_t n = counting->geometry.model_layers;
    struct kv_survey *survey = kv_pool_take(counting->pool, sizeof *survey);
    double *preference = kv_pool_take(counting->pool, n * sizeof *preference);
    if (!survey || !preference) return NULL;
    for (uint32_t i = 0; i < n; i++) preference[i] = 1.0;
    *survey = (struct kv_survey){.n = n, .here = layer, .preference = preference};
    return survey;
}

static int fill_plans(struct counting *counting, struct kv_cache_plan *plans, struct kv_error *err)
{
    counting->geometries =
        kv_pool_take(counting->pool, counting->n_layers * sizeof *counting->geometries);
    counting->held = kv_pool_take(counting->pool, counting->n_layers * sizeof *counting->held);
    if (!counting->geometries || !counting->held)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    for (uint32_t m = 0; m < counting->n_layers; m++) {
        struct kv_geometry *geometry = &counting->geometries[m];
        *geometry = counting->geometry;
        geometry->layer = counting->layers[m];
        plans[m] = (struct kv_cache_plan){
            .source = {.geometry = geometry, .keys = &counting->keys, .values = &counting->values},
            .kernels = counting->kernels,
            .pool = counting->pool,
            .prompts = counting->prompts,
            .n_heads = counting->unit_heads,
            .seed = 1,
            .counts_only = true,
            .survey = make_survey(counting, geometry->layer)};
        if (!plans[m].survey) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    }
    return KV_OK;
}

static int create_group(struct counting *counting, struct kv_cache ***out,
                        struct kv_cache_plan *plans, uint32_t cache, struct kv_error *err)
{
    *out = kv_pool_take(counting->pool, counting->n_layers * sizeof **out);
    if (!*out) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    for (uint32_t m = 0; m < counting->n_layers; m++) {
        plans[m].spec = &counting->spec->caches[cache];
        plans[m].handed = cache == 1;
        plans[m].rest = cache == 0 && counting->rest ? counting->rest[m] : NULL;
    }
    return kv_cache_create_group(*out, plans, counting->n_layers, err);
}

static int create_caches(struct counting *counting, struct kv_error *err)
{
    struct kv_cache_plan *plans = kv_pool_take(counting->pool, counting->n_layers * sizeof *plans);
    if (!plans) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    int status = fill_plans(counting, plans, err);
    if (status == KV_OK && counting->spec->n_caches > 1)
        status = create_group(counting, &counting->rest, plans, 1, err);
    return status == KV_OK ? create_group(counting, &counting->main, plans, 0, err) : status;
}

static int run_steps(struct counting *counting, struct kv_error *err)
{
    const struct kv_geometry *geometry = &counting->geometry;
    const size_t lanes = (size_t)counting->n_layers * counting->unit_heads, group = geometry->group;
    const size_t queries = lanes * group * geometry->key_dim;
    float **weights = kv_pool_take(counting->pool, lanes * sizeof *weights);
    float *query = kv_pool_take(counting->pool, queries * sizeof *query);
    bool done = weights && query;
    for (size_t l = 0; done && l < lanes; l++) {
        weights[l] = kv_pool_take(counting->pool, group * geometry->tokens * sizeof(float));
        done = weights[l] != NULL;
    }
    if (!done) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    fill_floats(counting, query, queries);
    for (uint32_t t = geometry->prefill; t < geometry->tokens; t++) {
        kv_cache_begin(counting->main[0], t, query);
        for (size_t l = 0; l < lanes; l++) {
            const struct kv_cache *cache = counting->main[l / counting->unit_heads];
            fill_floats(counting, weights[l], group * cache->lanes[l % counting->unit_heads].n);
        }
        kv_cache_end(counting->main[0], t, (const float *const *)weights);
    }
    return KV_OK;
}

static void add_varying(struct kv_memory_bytes *sum, const struct kv_bank *bank)
{
    const uint32_t least = kv_metadata_used(bank->code, kv_smallest_atom);
    const int64_t optional = bank->live_atoms * (int64_t)(bank->code->metadata_bytes - least);
    sum->varies |= optional != 0;
    sum->smaller += optional - bank->spare_bytes;
    sum->larger += bank->spare_bytes;
}

/* charged: the banks' metadata was charged to the pool, beside what the policies keep. */
static void add_cache(struct kv_memory_bytes *sum, const struct kv_cache *cache, bool charged,
                      int64_t *metadata)
{
    const struct kv_cache_bytes one = kv_cache_count(cache);
    if (charged) *metadata -= one.metadata[0] + one.metadata[1];
    for (uint32_t side = 0; side < 2; side++) {
        sum->payload += one.payload[side];
        sum->residual += one.residual[side];
        sum->basis += one.basis[side];
        *metadata += one.metadata[side];
    }
    for (uint32_t b = 0; b < cache->n_banks; b++)
        for (const struct kv_bank *bank = &cache->banks[b]; bank; bank = bank->later)
            add_varying(sum, bank);
}

static void add(struct kv_memory_bytes *sum, const struct counting *counting,
                const struct kv_memory_shape *shape, bool charged)
{
    const uint32_t units = shape->kv_heads / counting->unit_heads;
    int64_t metadata = kv_pool_used(counting->pool, KV_METADATA);
    struct kv_memory_bytes one = {0};
    for (uint32_t m = 0; m < counting->n_layers; m++) {
        add_cache(&one, counting->main[m], charged, &metadata);
        if (counting->rest) add_cache(&one, counting->rest[m], charged, &metadata);
    }
    sum->payload += units * one.payload;
    sum->residual += units * one.residual;
    sum->metadata += units * metadata;
    sum->basis += units * (one.basis + kv_pool_used(counting->pool, KV_BASIS_SHARED));
    sum->varies |= one.varies;
    sum->smaller += units * one.smaller, sum->larger += units * one.larger;
    sum->least = sum->total = sum->payload + sum->metadata + sum->residual + sum->basis;
}

/* A method without rows: a state for every head, of any length. */
static int create_state(struct counting *counting, struct kv_error *err)
{
    const struct kv_stage *stage = counting->spec->caches[0].answer;
    const struct kv_setup setup = {.geometry = &counting->geometry,
                                   .config = stage->config[0],
                                   .kernels = counting->kernels,
                                   .pool = counting->pool,
                                   .seed = 1,
                                   .n_heads = 1};
    struct kv_state *state;
    return stage->answer->create(&state, &setup, err);
}

static void add_states(struct kv_memory_bytes *sum, const struct counting *counting,
                       const struct kv_memory_shape *shape)
{
    const int64_t states = (int64_t)shape->kv_heads * counting->n_layers;
    sum->payload = states * kv_pool_used(counting->pool, KV_PAYLOAD);
    sum->metadata = states * kv_pool_used(counting->pool, KV_METADATA);
    sum->basis = states * kv_pool_used(counting->pool, KV_BASIS_ONLINE);
    sum->least = sum->total = sum->payload + sum->metadata + sum->basis;
}

/* -- laws ------------------------------------------------------------------------------------- */

struct kv_memory_law {
    const struct kv_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_memory_shape shape;
    bool direct, counted; /* no policies; policies whose rows are counted, if held_rows.h can */
    uint32_t n_patterns;
    struct counting counting[2]; /* direct or counted: one cache a pattern, made once */
};

static bool has_policies(const struct kv_spec *spec)
{
    return spec->n_caches > 1 || spec->caches[0].n_policies > 0;
}

void kv_memory_law_go_through(struct kv_memory_law *law)
{
    law->counted = false;
}

bool kv_memory_is_direct(const struct kv_spec *spec)
{
    return !has_policies(spec);
}

static const struct kv_stage *chain_of(const struct kv_spec *spec, uint32_t cache, int side)
{
    return kv_chain(&spec->caches[cache], side ? KV_VALUES : KV_KEYS);
}

static bool is_fitted(const struct kv_spec *spec)
{
    if (spec->caches[0].answer) return false; /* its size is what create charged */
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (int side = 0; side < 2; side++)
            for (const struct kv_stage *stage = chain_of(spec, c, side); stage; stage = stage->rest)
                if (stage->codec->fit) return true;
    return false;
}

static uint32_t unit_heads(const struct kv_spec *spec, const struct kv_memory_shape *shape)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        if (kv_cache_joins_heads(&spec->caches[c])) return shape->kv_heads;
    return 1;
}

/* Of so many tokens at least one came at once. */
static uint32_t prompt_of(uint32_t tokens, uint32_t decode)
{
    return decode < tokens ? tokens - decode : 1;
}

static int open_counting(struct counting *counting, const struct kv_memory_law *law,
                         enum pattern pattern, uint32_t tokens, uint32_t decode,
                         struct kv_error *err)
{
    const struct kv_memory_shape *shape = &law->shape;
    const uint32_t prefill = prompt_of(tokens, decode);
    *counting = (struct counting){.layers = shape->layers,
                                  .n_layers = shape->n_layers,
                                  .spec = law->spec,
                                  .kernels = law->kernels,
                                  .pattern = pattern,
                                  .unit_heads = unit_heads(law->spec, shape),
                                  .pool = kv_pool_create(0)};
    if (!counting->pool) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    counting->geometry =
        (struct kv_geometry){.layer = shape->layers[0],
                             .model_layers = shape->model_layers,
                             .q_heads = shape->q_heads,
                             .kv_heads = shape->kv_heads,
                             .group = shape->q_heads / shape->kv_heads,
                             .key_dim = shape->key_dim,
                             .value_dim = shape->value_dim ? shape->value_dim : shape->latent_dim,
                             .values_in_keys = shape->value_dim == 0,
                             .tokens = tokens,
                             .prefill = prefill,
                             .question_start = prefill,
                             .element_bits = shape->element_bits,
                             .scale = 1.0};
    int status = make_tensor(counting, &counting->keys, counting->geometry.key_dim, err);
    if (status == KV_OK)
        status = make_tensor(counting, &counting->values, counting->geometry.value_dim, err);
    if (status == KV_OK) status = make_rotary(counting, err);
    if (status == KV_OK) status = make_prompts(counting, err);
    if (status == KV_OK && law->spec->caches[0].answer) return create_state(counting, err);
    if (status == KV_OK) status = create_caches(counting, err);
    return status;
}

/* For n rows of caches that were made once. */
static int ask(struct kv_memory_law *law, uint32_t p, uint32_t tokens, uint32_t decode,
               struct kv_memory_bytes *bytes)
{
    const struct counting *counting = &law->counting[p];
    if (law->spec->caches[0].answer) {
        add_states(bytes, counting, &law->shape);
        return KV_OK;
    }
    for (uint32_t m = 0; m < counting->n_layers; m++)
        for (uint32_t b = 0; b < counting->main[m]->n_banks; b++)
            kv_bank_count_rows(&counting->main[m]->banks[b], tokens, prompt_of(tokens, decode));
    add(bytes, counting, &law->shape, false);
    return KV_OK;
}

/* The rows that every member would hold; *known is false where that is not arithmetic. */
static int hold(struct counting *counting, uint32_t tokens, uint32_t decode, bool *known,
                struct kv_error *err)
{
    const uint32_t prefill = prompt_of(tokens, decode);
    *known = true;
    for (uint32_t m = 0; *known && m < counting->n_layers; m++) {
        struct kv_cache *cache = counting->main[m];
        struct kv_budget said[KV_MAX_POLICIES];
        counting->geometries[m].tokens = tokens;
        counting->geometries[m].prefill = counting->geometries[m].question_start = prefill;
        for (uint32_t i = 0; i < cache->plan.spec->n_policies; i++)
            said[i] = cache->choosers[i]->trim.budget;
        const int status = kv_cache_settle_budgets(cache, err);
        *known = status == KV_OK && kv_held_rows_count(cache, tokens, prefill, &counting->held[m]);
        for (uint32_t i = 0; i < cache->plan.spec->n_policies; i++)
            cache->choosers[i]->trim.budget = said[i];
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

/* Lanes of one layer that hold unlike numbers of rows, of which some wait to be encoded. */
static bool shares_blocks(const struct kv_cache *cache, const struct kv_held_rows *held)
{
    bool blocks = false;
    for (uint32_t b = 0; b < cache->n_banks; b++)
        blocks |= cache->banks[b].n_lanes == 1 && !kv_bank_stores_singly(&cache->banks[b]);
    return blocks && held->least < held->prompt;
}

/* True when bytes follow from how many rows are held, or are within a range that does. */
static bool follows_from_count(const struct counting *counting, uint32_t m)
{
    const struct kv_held_rows *held = &counting->held[m];
    const struct kv_cache *cache = counting->main[m],
                          *rest = counting->rest ? counting->rest[m] : NULL;
    for (uint32_t b = 0; b < cache->n_banks; b++)
        if (!held->in_order && !kv_bank_stores_singly(&cache->banks[b])) return false;
    if (rest && (rest->plan.spec->n_policies > 0 || shares_blocks(rest, held))) return false;
    for (uint32_t b = 0; rest && b < rest->n_banks; b++)
        if (rest->banks[b].later && held->tokens > held->prefill) return false;
    return true;
}

/* Sets the counts of all banks of a member; returns the bytes that its lanes take beside them. */
static int64_t place(const struct counting *counting, uint32_t m, enum kv_extreme extreme)
{
    const struct kv_held_rows *held = &counting->held[m];
    struct kv_cache *cache = counting->main[m], *rest = counting->rest ? counting->rest[m] : NULL;
    const int64_t arrays = held->arrays[extreme == KV_MOST];
    int64_t lane = kv_cache_row_bytes(cache) * held->n + arrays;
    for (uint32_t b = 0; b < cache->n_banks; b++) {
        const struct kv_row_range range = kv_held_range(&cache->banks[b], held, false);
        kv_bank_count_extreme(&cache->banks[b], &range, extreme);
    }
    for (uint32_t b = 0; rest && b < rest->n_banks; b++) {
        const struct kv_row_range range = kv_held_range(&rest->banks[b], held, true);
        kv_bank_count_extreme(&rest->banks[b], &range, extreme);
    }
    if (rest) lane += kv_cache_row_bytes(rest) * (held->tokens - held->n);
    return lane * cache->plan.n_heads;
}

static void count_nothing(struct kv_cache *const *caches, uint32_t n)
{
    for (uint32_t m = 0; caches && m < n; m++)
        for (uint32_t b = 0; b < caches[m]->n_banks; b++)
            kv_bank_count_rows(&caches[m]->banks[b], 0, 0);
}

/* False where unlike lanes are no short search. */
static bool count_extreme(const struct counting *counting, const struct kv_memory_shape *shape,
                          enum kv_extreme extreme, struct kv_memory_bytes *bytes)
{
    const uint32_t units = shape->kv_heads / counting->unit_heads;
    int64_t beside = 0;
    bool known = true;
    for (uint32_t m = 0; known && m < counting->n_layers; m++) {
        beside += place(counting, m, extreme);
        if (shares_blocks(counting->main[m], &counting->held[m]))
            known = kv_lanes_count_extreme(counting->main[m], &counting->held[m], extreme);
    }
    if (known) add(bytes, counting, shape, false);
    bytes->metadata += beside * units, bytes->total += beside * units;
    count_nothing(counting->main, counting->n_layers);
    count_nothing(counting->rest, counting->n_layers);
    return known;
}

/* By arithmetic, in caches that were made once; *known is false where that does not do. ends: the
 * least is asked for, too. */
static int count(struct kv_memory_law *law, uint32_t p, uint32_t tokens, uint32_t decode, bool ends,
                 struct kv_memory_bytes *bytes, bool *known, struct kv_error *err)
{
    struct counting *counting = &law->counting[p];
    struct kv_memory_bytes least = {0};
    const int status = hold(counting, tokens, decode, known, err);
    if (status != KV_OK) return status;
    for (uint32_t m = 0; *known && m < counting->n_layers; m++)
        *known = follows_from_count(counting, m);
    *known = *known && count_extreme(counting, &law->shape, KV_MOST, bytes);
    if (ends) *known = *known && count_extreme(counting, &law->shape, KV_LEAST, &least);
    bytes->least = ends ? least.total : bytes->total;
    return KV_OK;
}

static int settle_all(const struct counting *counting, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t m = 0; status == KV_OK && m < counting->n_layers; m++) {
        status = kv_cache_settle_budgets(counting->main[m], err);
        if (status == KV_OK && counting->rest)
            status = kv_cache_settle_budgets(counting->rest[m], err);
    }
    return status;
}

/* Through all rows. */
static int run(struct kv_memory_law *law, uint32_t p, uint32_t tokens, uint32_t decode,
               struct kv_memory_bytes *bytes, struct kv_error *err)
{
    struct counting own, *counting = &own;
    if (tokens > KV_MOST_COUNTED)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "an eviction is gone through row by row, up to %d of them", KV_MOST_COUNTED);
    int status = open_counting(counting, law, p ? RANDOM : FLAT, tokens, decode, err);
    if (status == KV_OK) status = settle_all(counting, err);
    if (status == KV_OK) status = kv_cache_prefill(counting->main[0], err);
    if (status == KV_OK) status = run_steps(counting, err);
    if (status == KV_OK) add(bytes, counting, &law->shape, true);
    kv_pool_destroy(counting->pool);
    counting->pool = NULL;
    return status;
}

static int bytes_of(struct kv_memory_law *law, uint32_t tokens, uint32_t decode, bool through,
                    struct kv_memory_bytes *bytes, struct kv_error *err)
{
    struct kv_memory_bytes each[2] = {{0}};
    bool known = law->direct || law->counted;
    int status = KV_OK;
    *bytes = (struct kv_memory_bytes){0};
    for (uint32_t p = 0; status == KV_OK && tokens > 0 && known && p < law->n_patterns; p++)
        status = law->direct ? ask(law, p, tokens, decode, &each[p])
                             : count(law, p, tokens, decode, through, &each[p], &known, err);
    if (status == KV_OK && !known && !through)
        return kv_fail(err, KV_EUNSUPPORTED, "an eviction is gone through row by row");
    for (uint32_t p = 0; status == KV_OK && tokens > 0 && !known && p < 2; p++) {
        status = run(law, p, tokens, decode, &each[p], err);
        each[p].sampled = 1;
    }
    const uint32_t n = known ? law->n_patterns : 2;
    const bool second = n > 1 && each[1].total > each[0].total;
    *bytes = each[second];
    if (n > 1 && each[!second].least < bytes->least) bytes->least = each[!second].least;
    return status;
}

int kv_memory_law_bytes(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err)
{
    return bytes_of(law, tokens, decode, true, bytes, err);
}

int kv_memory_law_count(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err)
{
    return bytes_of(law, tokens, decode, false, bytes, err);
}

int kv_memory_law_create(struct kv_memory_law **out, const struct kv_spec *spec,
                         const struct kv_memory_shape *shape, const struct kv_kernels *kernels,
                         struct kv_error *err)
{
    static const struct kv_spec exact = {.n_caches = 1}; /* what layers= leaves out */
    const bool left_out = kv_spec_is_exact_layer(spec, shape->layers[0], shape->model_layers);
    struct kv_memory_law *law = calloc(1, sizeof *law);
    if (!law) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    *law = (struct kv_memory_law){
        .spec = left_out ? &exact : spec, .kernels = kernels, .shape = *shape};
    law->direct = kv_memory_is_direct(law->spec);
    law->counted = !law->direct && !law->spec->caches[0].answer;
    law->n_patterns = !is_fitted(law->spec) ? 1 : 2;
    int status = KV_OK;
    for (uint32_t p = 0; (law->direct || law->counted) && status == KV_OK && p < law->n_patterns;
         p++)
        status = open_counting(&law->counting[p], law, p ? RANDOM : FLAT, CREATED_ROWS, 0, err);
    if (status != KV_OK)
        kv_memory_law_free(law);
    else
        *out = law;
    return status;
}

void kv_memory_law_free(struct kv_memory_law *law)
{
    for (int p = 0; law && p < 2; p++) kv_pool_destroy(law->counting[p].pool);
    free(law);
}
