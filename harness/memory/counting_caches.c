/* The caches that count: made, run over all rows, and what they come to. */
#include "harness/memory/counting.h"

#include "methods/cache/byte_law.h"
#include "methods/layer_budget.h"

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
            .survey =
                kv_survey_alike(counting->pool, counting->geometry.model_layers, geometry->layer)};
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

int kv_counting_create(struct counting *counting, struct kv_error *err)
{
    struct kv_cache_plan *plans = kv_pool_take(counting->pool, counting->n_layers * sizeof *plans);
    if (!plans) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    int status = fill_plans(counting, plans, err);
    if (status == KV_OK && counting->spec->n_caches > 1)
        status = create_group(counting, &counting->rest, plans, 1, err);
    return status == KV_OK ? create_group(counting, &counting->main, plans, 0, err) : status;
}

int kv_counting_run_steps(struct counting *counting, struct kv_error *err)
{
    const struct kv_geometry *geometry = &counting->geometry;
    const size_t lanes = (size_t)counting->n_layers * counting->unit_heads, group = geometry->group;
    const size_t queries = lanes * group * geometry->key_dim;
    float **weights = kv_pool_take(counting->pool, lanes * sizeof *weights);
    struct kv_observed *observed = kv_pool_take(counting->pool, lanes * sizeof *observed);
    uint32_t *places = kv_pool_take(counting->pool, geometry->tokens * sizeof *places);
    float *query = kv_pool_take(counting->pool, queries * sizeof *query);
    float *columns = kv_pool_take(counting->pool, geometry->tokens * sizeof *columns);
    bool done = weights && observed && places && query && columns;
    for (uint32_t i = 0; done && i < geometry->tokens; i++) places[i] = i;
    for (size_t l = 0; done && l < lanes; l++) {
        weights[l] = kv_pool_take(counting->pool, group * geometry->tokens * sizeof(float));
        done = weights[l] != NULL;
    }
    if (!done) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    kv_counting_fill(counting, query, queries);
    for (uint32_t t = geometry->prefill; t < geometry->tokens; t++) {
        kv_cache_begin(counting->main[0], t, query);
        for (size_t l = 0; l < lanes; l++) {
            const struct kv_cache *cache = counting->main[l / counting->unit_heads];
            const uint32_t n = cache->lanes[l % counting->unit_heads].n;
            kv_counting_fill(counting, weights[l], group * n);
            observed[l] = (struct kv_observed){weights[l], places, n, columns};
        }
        kv_cache_end(counting->main[0], t, observed);
    }
    return KV_OK;
}

static void add_varying(struct kv_memory_bytes *sum, const struct kv_bank *bank)
{
    const uint32_t least = kv_metadata_used(bank->code, kv_smallest_atom);
    const int64_t optional = bank->live_atoms * (int64_t)(bank->code->metadata_bytes - least);
    if (bank->host) {
        sum->offloaded_least -= optional - bank->spare_bytes;
        sum->offloaded_most += bank->spare_bytes;
        return;
    }
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
        sum->offloaded += one.offloaded[side];
        sum->offloaded_least += one.offloaded[side], sum->offloaded_most += one.offloaded[side];
        *metadata += one.metadata[side];
    }
    for (uint32_t b = 0; b < cache->n_banks; b++)
        for (const struct kv_bank *bank = &cache->banks[b]; bank; bank = bank->later)
            add_varying(sum, bank);
}

void kv_counting_add(struct kv_memory_bytes *sum, const struct counting *counting,
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
    sum->offloaded += units * one.offloaded;
    sum->offloaded_least += units * one.offloaded_least;
    sum->offloaded_most += units * one.offloaded_most;
    sum->varies |= one.varies;
    sum->smaller += units * one.smaller, sum->larger += units * one.larger;
    sum->least = sum->total = sum->payload + sum->metadata + sum->residual + sum->basis;
}

int kv_counting_create_state(struct counting *counting, struct kv_error *err)
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

void kv_counting_add_states(struct kv_memory_bytes *sum, const struct counting *counting,
                            const struct kv_memory_shape *shape)
{
    const int64_t states = (int64_t)shape->kv_heads * counting->n_layers;
    sum->payload = states * kv_pool_used(counting->pool, KV_PAYLOAD);
    sum->metadata = states * kv_pool_used(counting->pool, KV_METADATA);
    sum->basis = states * kv_pool_used(counting->pool, KV_BASIS_ONLINE);
    sum->least = sum->total = sum->payload + sum->metadata + sum->basis;
}

int kv_counting_settle(const struct counting *counting, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t m = 0; status == KV_OK && m < counting->n_layers; m++) {
        status = kv_cache_settle_budgets(counting->main[m], err);
        if (status == KV_OK && counting->rest)
            status = kv_cache_settle_budgets(counting->rest[m], err);
    }
    return status;
}
