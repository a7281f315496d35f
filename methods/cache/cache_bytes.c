/* What a cache stores, to the byte, and the recount; see cache.h. */
#include "methods/cache/cache.h"

/* A policy that acts on the prompt alone keeps no state afterwards: nothing is charged for it. */
int64_t kv_cache_row_bytes(const struct kv_cache *cache)
{
    int64_t bytes = cache->position_bytes;
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++)
        if (!cache->choosers[p]->trim.prompt_only)
            bytes += cache->wants[p].state_floats * (int64_t)sizeof(float);
    return bytes;
}

/* Layer l's part of what n layers share: the parts differ by a byte at most, and add up. */
static int64_t part_of(int64_t bytes, uint32_t l, uint32_t n) { return bytes * (l + 1) / n - bytes * l / n; }

/* A layer's part of atoms and bases: those that store nothing have none. */
static int64_t stored_part(const struct kv_bank *bank, int64_t bytes, uint32_t layer)
{
    const struct kv_code *code = bank->code;
    uint32_t before = 0, n = 0;
    for (uint32_t l = 0; l < bank->n_layers; l++) {
        const bool stores = !code->type->layer_stores || code->type->layer_stores(code, l);
        if (l == layer && !stores) return 0;
        before += stores && l < layer, n += stores;
    }
    return part_of(bytes, before, n);
}

static void count_bank(struct kv_cache_bytes *bytes, const struct kv_bank *bank, uint32_t layer)
{
    const int side = bank->side == KV_VALUES;
    const uint32_t n = bank->n_layers, l = n > 1 ? layer : 0;
    const int64_t atoms = bank->live_atoms, rows = bank->live_rows;
    if (bank->later) count_bank(bytes, bank->later, layer);
    bytes->joint |= bank->side == KV_BOTH_SIDES;
    int64_t *payload = bank->host ? bytes->offloaded : bytes->payload;
    int64_t *metadata = bank->host ? bytes->offloaded : bytes->metadata;
    int64_t *residual = bank->host ? bytes->offloaded : bytes->residual;
    payload[side] += stored_part(bank, atoms * bank->code->payload_bytes, l);
    metadata[side] += stored_part(bank, atoms * bank->code->metadata_bytes - bank->spare_bytes, l);
    residual[side] += part_of(rows * (int64_t)kv_bank_exact_row_bytes(bank), l, n);
    bytes->basis[side] += stored_part(bank, bank->basis_bytes, l);
    bytes->shared += stored_part(bank, bank->shared_bytes, l);
    bytes->calibrated |= bank->calibrated;
}

struct kv_cache_bytes kv_cache_count(const struct kv_cache *cache)
{
    struct kv_cache_bytes bytes = {0};
    for (uint32_t b = 0; b < cache->n_banks; b++) count_bank(&bytes, &cache->banks[b], cache->member);
    for (uint32_t b = 0; cache->member > 0 && b < cache->first->n_banks; b++)
        if (cache->first->banks[b].n_layers > 1)
            count_bank(&bytes, &cache->first->banks[b], cache->member);
    return bytes;
}

static int audit_lane(const struct kv_held *lane, struct kv_error *err)
{
    for (uint32_t i = 0; i < lane->n; i++) {
        const uint32_t token = lane->positions[i], line = lane->line_of[token];
        if (i > 0 && lane->positions[i - 1] >= token)
            return kv_fail(err, KV_EGATE, "head %u: positions not ascending at %u", lane->head, token);
        for (int side = 0; side < 2; side++)
            if (lane->bank[side]->where[token] == KV_ABSENT ||
                lane->lines.place[side][line] != lane->bank[side]->where[token])
                return kv_fail(err, KV_EGATE, "head %u: token %u is held but not where its line says",
                               lane->head, token);
    }
    return KV_OK;
}

/* Rows that a policy may hold count against its budget: those of the prompt where it acts on it alone. */
static int audit_budget(const struct kv_cache *cache, const struct kv_held *lane, uint32_t p,
                        struct kv_error *err)
{
    const struct kv_chooser *self = cache->choosers[p];
    if (!self->type->score) return KV_OK;
    uint32_t n = lane->n;
    while (self->trim.prompt_only && n > 0 &&
           lane->positions[n - 1] >= cache->plan.source.geometry->prefill)
        n--;
    if (n <= lane->budget[p]) return KV_OK;
    return kv_fail(err, KV_EGATE, "%s: head %u holds %u rows of a budget of %u", self->type->name,
                   lane->head, n, lane->budget[p]);
}

int kv_cache_audit(const struct kv_cache *cache, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t b = 0; status == KV_OK && b < cache->n_banks; b++)
        status = kv_bank_audit(&cache->banks[b], err);
    for (uint32_t i = 0; status == KV_OK && i < cache->plan.n_heads; i++)
        status = audit_lane(&cache->lanes[i], err);
    for (uint32_t i = 0; status == KV_OK && i < cache->plan.n_heads; i++)
        for (uint32_t p = 0; status == KV_OK && p < cache->plan.spec->n_policies; p++)
            status = audit_budget(cache, &cache->lanes[i], p, err);
    for (uint32_t b = 0; status == KV_OK && b < cache->n_banks; b++) {
        uint64_t held = 0, holders = 0;
        const struct kv_bank *bank = &cache->banks[b];
        for (uint32_t i = 0; i < bank->n_lanes; i++) {
            struct kv_cache *member;
            held += kv_cache_lane_of((struct kv_cache *)cache, bank, i, &member)->n;
        }
        for (uint32_t t = 0; t < cache->plan.source.geometry->tokens; t++) holders += bank->holders[t];
        if (held != holders)
            return kv_fail(err, KV_EGATE, "%s: lanes hold %llu rows, the bank counts %llu",
                           bank->code->type->name, (unsigned long long)held,
                           (unsigned long long)holders);
    }
    return status;
}
