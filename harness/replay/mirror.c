/* The mirror; see mirror.h. */
#include "harness/replay/mirror.h"

#include <assert.h>
#include <string.h>

#include "methods/cache/view.h"
#include "methods/kernels/recorded_rows.h"

enum { CHUNK = 64 };   /* rows decoded at a time */

int kv_mirror_create(struct kv_mirror *mirror, const struct kv_kernels *kernels,
                     const struct kv_geometry *geometry, const struct kv_view *view, uint32_t rows, bool exact,
                     struct kv_pool *pool, struct kv_error *err)
{
    const uint32_t panel = kernels->panel, tokens = geometry->tokens;
    const size_t slots = ((size_t)rows + panel - 1) / panel * panel;
    const size_t key_columns = kv_view_columns(view, 0), value_columns = kv_view_columns(view, 1);
    *mirror = (struct kv_mirror){.kernels = kernels, .geometry = geometry, .capacity = (uint32_t)slots,
                                 .view = *view, .columns = {kv_view_columns(view, 0), kv_view_columns(view, 1)}};
    mirror->slot_of = kv_pool_take(pool, tokens * sizeof(uint32_t));
    mirror->token_of = kv_pool_take(pool, slots * sizeof(uint32_t));
    mirror->live = kv_pool_take(pool, slots);
    mirror->coded = kv_pool_take(pool, slots);
    mirror->dead_slots = kv_pool_take(pool, slots * sizeof(uint32_t));
    mirror->changed = kv_pool_take(pool, tokens * sizeof(uint32_t));
    mirror->free_slots = kv_pool_take(pool, slots * sizeof(uint32_t));
    mirror->keys = kv_pool_room(pool, slots * key_columns * sizeof(float));
    mirror->values = kv_pool_room(pool, slots * value_columns * sizeof(float));
    mirror->exact_keys = exact ? kv_pool_room(pool, slots * geometry->key_dim * sizeof(float)) : NULL;
    mirror->row_keys = kv_pool_take(pool, CHUNK * key_columns * sizeof(float));
    mirror->row_values = kv_pool_take(pool, CHUNK * value_columns * sizeof(float));
    mirror->row_tokens = kv_pool_take(pool, tokens * sizeof(uint32_t));
    mirror->exact_row = kv_pool_take(pool, geometry->key_dim * sizeof(float));
    if (!mirror->exact_row || !mirror->slot_of || !mirror->token_of || !mirror->live || !mirror->coded ||
        !mirror->dead_slots || !mirror->changed || !mirror->free_slots ||
        !mirror->keys || !mirror->values || (exact && !mirror->exact_keys) || !mirror->row_keys ||
        !mirror->row_values || !mirror->row_tokens)
        return kv_fail(err, KV_EMEMORY, "out of memory for decoded rows");
    memset(mirror->slot_of, 0xff, tokens * sizeof(uint32_t));
    return KV_OK;
}

int kv_mirror_keep_ready(struct kv_mirror *mirror, struct kv_pool *pool, struct kv_error *err)
{
    const uint32_t lines = kv_kept_lines(mirror->kernels, mirror->capacity);
    for (int side = 0; lines && side < 2; side++) {
        struct kv_kept_ready *kept = &mirror->ready[side];
        kept->cells = kv_pool_room(pool, kv_kept_floats(mirror->kernels, lines, mirror->columns[side]) * sizeof(float));
        kept->states = kv_pool_take(pool, lines / KV_READY_CELL);
        if (!kept->cells || !kept->states) return kv_fail(err, KV_EMEMORY, "out of memory for ready rows");
        kept->lines = lines;
        memset(kept->states, KV_CELL_STALE, lines / KV_READY_CELL);
    }
    return KV_OK;
}

void kv_mirror_put_key(const struct kv_mirror *mirror, float *panels, uint32_t slot, const float *key)
{
    const uint32_t panel = mirror->kernels->panel;
    const uint32_t dim = panels == mirror->exact_keys ? mirror->geometry->key_dim : mirror->columns[0];
    float *column = panels + (size_t)(slot / panel) * panel * dim + slot % panel;
    for (uint32_t c = 0; c < dim; c++) column[(size_t)c * panel] = key[c];
}

/* Products meet whole panels. */
static void open_panels(struct kv_mirror *mirror, uint32_t slots)
{
    const uint32_t panel = mirror->kernels->panel;
    for (; mirror->opened < slots; mirror->opened += panel) {
        const size_t at = mirror->opened, dim = mirror->columns[0], exact_dim = mirror->geometry->key_dim;
        memset(mirror->keys + at * dim, 0, panel * dim * sizeof *mirror->keys);
        if (mirror->exact_keys)
            memset(mirror->exact_keys + at * exact_dim, 0, panel * exact_dim * sizeof *mirror->keys);
    }
}

static void set_key(struct kv_mirror *mirror, uint32_t slot, const float *key)
{
    open_panels(mirror, slot + 1);
    kv_mirror_put_key(mirror, mirror->keys, slot, key);
    kv_kept_mark(&mirror->ready[0], slot);
}

/* value NULL: 0. */
static void set_value(struct kv_mirror *mirror, uint32_t slot, const float *value)
{
    const uint32_t dim = mirror->columns[1];
    float *row = mirror->values + (size_t)slot * dim;
    if (value) memcpy(row, value, dim * sizeof *row);
    else memset(row, 0, dim * sizeof *row);
    kv_kept_mark(&mirror->ready[1], slot);
}

/* A free slot's value is 0, so that it adds nothing to an answer. */
static void free_slot(struct kv_mirror *mirror, uint32_t slot)
{
    mirror->free_slots[mirror->n_free++] = slot;
    set_value(mirror, slot, NULL);
}

static void leave_slot(struct kv_mirror *mirror, uint32_t token)
{
    const uint32_t slot = mirror->slot_of[token];
    if (slot == UINT32_MAX) return;
    mirror->slot_of[token] = UINT32_MAX;
    mirror->live[slot] = 0;
    if (mirror->frozen) mirror->dead_slots[mirror->n_dead++] = slot;
    else free_slot(mirror, slot);
}

void kv_mirror_freeze(struct kv_mirror *mirror, const struct kv_tensor *keys, uint32_t head, uint32_t t,
                      uint32_t n)
{
    uint32_t free = mirror->n_free;
    mirror->frozen = true;
    mirror->met = mirror->n_slots;
    for (uint32_t i = 0; kv_view_is_recorded(&mirror->view) && i < n; i++) {
        if (!free && mirror->met == mirror->capacity) return;
        const uint32_t slot = free ? mirror->free_slots[--free] : mirror->met++;
        kv_widen_rows(keys, head, t + i, 1, mirror->kernels, mirror->exact_row);
        set_key(mirror, slot, mirror->exact_row);
    }
}

void kv_mirror_thaw(struct kv_mirror *mirror)
{
    mirror->frozen = false;
    for (uint32_t i = 0; i < mirror->n_dead; i++) free_slot(mirror, mirror->dead_slots[i]);
    mirror->n_dead = 0;
}

uint32_t kv_mirror_room(const struct kv_mirror *mirror, uint32_t limit)
{
    const uint32_t end = limit < mirror->capacity ? limit : mirror->capacity;
    return mirror->n_free + (end > mirror->n_slots ? end - mirror->n_slots : 0);
}

static uint32_t slot_for(struct kv_mirror *mirror, uint32_t token)
{
    if (mirror->frozen) leave_slot(mirror, token);
    uint32_t slot = mirror->slot_of[token];
    if (slot != UINT32_MAX) return slot;
    slot = mirror->n_free ? mirror->free_slots[--mirror->n_free] : mirror->n_slots++;
    assert(slot < mirror->capacity);
    mirror->slot_of[token] = slot;
    mirror->token_of[slot] = token;
    mirror->live[slot] = 1;
    return slot;
}

void kv_mirror_key(const struct kv_mirror *mirror, uint32_t slot, float *key)
{
    const uint32_t panel = mirror->kernels->panel, dim = mirror->columns[0];
    const float *column = mirror->keys + (size_t)(slot / panel) * panel * dim + slot % panel;
    for (uint32_t c = 0; c < dim; c++) key[c] = column[(size_t)c * panel];
}

/* Whether the queries under way have met this key at this slot. */
static bool is_met(const struct kv_mirror *mirror, uint32_t slot, const float *key)
{
    const uint32_t panel = mirror->kernels->panel, dim = mirror->columns[0];
    const float *column = mirror->keys + (size_t)(slot / panel) * panel * dim + slot % panel;
    if (!mirror->frozen || slot >= mirror->met) return false;
    bool same = true; /* a column's entries lie in as many lines of the cache: none waits for another */
    for (uint32_t c = 0; c < dim; c++) same &= column[(size_t)c * panel] == key[c];
    return same;
}

/* The forms of a row that is stored exactly are all the same numbers. */
static bool stays_as_it_is(const struct kv_mirror *mirror, const struct kv_held *lane, uint32_t token)
{
    if (!mirror->frozen || mirror->slot_of[token] == UINT32_MAX) return false;
    for (int side = 0; side < 2; side++)
        if (lane->bank[side]->lossy || lane->bank[side]->handed) return false;
    return true;
}

static void put_row(struct kv_mirror *mirror, struct kv_cache *cache, const struct kv_held *lane,
                    uint32_t token, const float *key, const float *value)
{
    const uint32_t slot = slot_for(mirror, token);
    if (!is_met(mirror, slot, key)) {
        mirror->changed[mirror->n_changed++] = slot;
        set_key(mirror, slot, key);
    }
    set_value(mirror, slot, value);
    mirror->coded[slot] = lane->lines.coded[lane->line_of[token]];
    if (mirror->exact_keys) {
        kv_widen_rows(cache->plan.source.keys, lane->head, token, 1, mirror->kernels, mirror->exact_row);
        kv_mirror_put_key(mirror, mirror->exact_keys, slot, mirror->exact_row);
    }
}

void kv_mirror_refresh(struct kv_mirror *mirror, struct kv_cache *cache, uint32_t index)
{
    struct kv_held *lane = &cache->lanes[index];
    uint32_t n = 0;
    for (uint32_t i = 0; i < lane->n_dirty; i++) {
        const uint32_t token = lane->dirty[i];
        lane->is_dirty[token] = 0;
        if (lane->lines.until[lane->line_of[token]] != UINT32_MAX) leave_slot(mirror, token);
        else if (!stays_as_it_is(mirror, lane, token)) mirror->row_tokens[n++] = token;
    }
    lane->n_dirty = 0;
    for (uint32_t first = 0; first < n; first += CHUNK) {
        const uint32_t rows = n - first < CHUNK ? n - first : CHUNK;
        kv_cache_read_view(cache, index, &mirror->view, rows, mirror->row_tokens + first, mirror->row_keys,
                           mirror->row_values);
        for (uint32_t i = 0; i < rows; i++)
            put_row(mirror, cache, lane, mirror->row_tokens[first + i],
                    mirror->row_keys + (size_t)i * mirror->columns[0],
                    mirror->row_values + (size_t)i * mirror->columns[1]);
    }
}
