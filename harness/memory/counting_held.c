/* Bytes from how many rows are held, by each rule of eviction. */
#include "harness/memory/counting.h"

#include "harness/memory/outliving_blocks.h"
#include "harness/memory/row_extremes.h"
#include "methods/cache/byte_law.h"

/* The rows that every member would hold; *known is false where that is not arithmetic. */
static int hold(struct counting *counting, uint32_t tokens, uint32_t decode, bool *known,
                struct kv_error *err)
{
    const uint32_t prefill = kv_counting_prompt(tokens, decode);
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
    const struct kv_cache *rest = counting->rest ? counting->rest[m] : NULL;
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
    const uint32_t n = extreme == KV_MOST ? held->n : held->fewest;
    const uint32_t gone = held->tokens - (extreme == KV_MOST ? held->fewest : held->n);
    int64_t lane = kv_cache_row_bytes(cache) * n + arrays;
    for (uint32_t b = 0; b < cache->n_banks; b++) {
        if (!held->in_order && !kv_bank_stores_singly(&cache->banks[b])) {
            kv_bank_count_outliving(&cache->banks[b], held, extreme);
            continue;
        }
        const struct kv_row_range range = kv_held_range(&cache->banks[b], held, false);
        kv_bank_count_extreme(&cache->banks[b], &range, extreme);
    }
    for (uint32_t b = 0; rest && b < rest->n_banks; b++) {
        const struct kv_row_range range = kv_held_range(&rest->banks[b], held, true);
        kv_bank_count_extreme(&rest->banks[b], &range, extreme);
    }
    if (rest) lane += kv_cache_row_bytes(rest) * gone;
    return lane * cache->plan.n_heads;
}

static void count_nothing(struct kv_cache *const *caches, uint32_t n)
{
    for (uint32_t m = 0; caches && m < n; m++)
        for (uint32_t b = 0; b < caches[m]->n_banks; b++)
            kv_bank_count_rows(&caches[m]->banks[b], 0, 0);
}

/* A side on the host and one on the device: the rows with the most bytes here may not have the most
 * there, so that one search does not serve both. */
static bool lies_apart(const struct kv_cache *cache)
{
    bool apart = false;
    for (uint32_t b = 1; b < cache->n_banks; b++)
        apart |= cache->banks[b].host != cache->banks[0].host;
    return apart;
}

/* Unlike lanes: exactly by a search, or where that is long within what their average bounds. */
static void share_out(struct kv_cache *cache, const struct kv_held_rows *held,
                      enum kv_extreme extreme)
{
    if (!lies_apart(cache) && kv_lanes_count_extreme(cache, held, extreme)) return;
    for (uint32_t b = 0; b < cache->n_banks; b++)
        if (cache->banks[b].n_lanes == 1) kv_bank_count_outliving(&cache->banks[b], held, extreme);
}

static void count_extreme(const struct counting *counting, const struct kv_memory_shape *shape,
                          enum kv_extreme extreme, struct kv_memory_bytes *bytes)
{
    const uint32_t units = shape->kv_heads / counting->unit_heads;
    int64_t beside = 0;
    for (uint32_t m = 0; m < counting->n_layers; m++) {
        beside += place(counting, m, extreme);
        if (counting->held[m].in_order && shares_blocks(counting->main[m], &counting->held[m]))
            share_out(counting->main[m], &counting->held[m], extreme);
    }
    kv_counting_add(bytes, counting, shape, false);
    bytes->metadata += beside * units, bytes->total += beside * units;
    count_nothing(counting->main, counting->n_layers);
    count_nothing(counting->rest, counting->n_layers);
}

int kv_counting_by_rule(struct counting *counting, const struct kv_memory_shape *shape,
                        uint32_t tokens, uint32_t decode, bool ends, struct kv_memory_bytes *bytes,
                        bool *known, struct kv_error *err)
{
    struct kv_memory_bytes least = {0};
    const int status = hold(counting, tokens, decode, known, err);
    if (status != KV_OK) return status;
    for (uint32_t m = 0; *known && m < counting->n_layers; m++)
        *known = follows_from_count(counting, m);
    if (!*known) return KV_OK;
    count_extreme(counting, shape, KV_MOST, bytes);
    if (ends) count_extreme(counting, shape, KV_LEAST, &least);
    bytes->least = ends ? least.total : bytes->total;
    if (ends) bytes->offloaded_least = least.offloaded_least;
    return KV_OK;
}
