/* The cache; see cache.h. */
#include "methods/cache/cache.h"

#include <string.h>

#include "methods/cache/view.h"
#include "methods/kernels/recorded_rows.h"
#include "methods/spec/spec_wants.h"
#include "methods/trim.h"

/* -- lines ------------------------------------------------------------------------------------- */

static void mark_dirty(struct kv_held *lane, uint32_t token)
{
    if (lane->is_dirty[token]) return;
    lane->is_dirty[token] = 1;
    lane->dirty[lane->n_dirty++] = token;
}

static void place_line(struct kv_held *lane, uint32_t line, uint32_t token)
{
    struct kv_line_list *lines = &lane->lines;
    bool coded = false;
    for (int side = 0; side < 2; side++) {
        lines->place[side][line] = lane->bank[side]->where[token];
        coded |= lines->place[side][line] >= KV_CODED && lane->bank[side]->lossy;
        coded |= kv_bank_is_handed(lane->bank[side], token);
    }
    lines->coded[line] = coded;
}

static void open_line(struct kv_cache *cache, struct kv_held *lane, uint32_t token)
{
    struct kv_line_list *lines = &lane->lines;
    const uint32_t line = lines->n++;
    lines->position[line] = token;
    lines->from[line] = cache->now;
    lines->until[line] = UINT32_MAX;
    lane->line_of[token] = line;
    place_line(lane, line, token);
    mark_dirty(lane, token);
}

/* The row of a held token changed its form: a line that nobody could read yet just changes. */
static void renew_line(struct kv_cache *cache, struct kv_held *lane, uint32_t token)
{
    const uint32_t line = lane->line_of[token];
    mark_dirty(lane, token);
    /* Where rows are merged nobody reads an old version: answers are given step by step. */
    if (lane->lines.from[line] >= cache->now || cache->rows[0]) {
        place_line(lane, line, token);
        return;
    }
    lane->lines.until[line] = cache->now;
    open_line(cache, lane, token);
}

/* -- rows in and out --------------------------------------------------------------------------- */

static void charge_row(struct kv_cache *cache, int count)
{
    const int64_t bytes = kv_cache_row_bytes(cache);
    if (bytes) kv_pool_charge(cache->plan.pool, KV_METADATA, count * bytes);
}

/* Puts a token into a lane, in order; a new row's state is 0. */
static void insert_row(struct kv_cache *cache, struct kv_held *lane, uint32_t token)
{
    uint32_t at = lane->n++;
    while (at > 0 && lane->positions[at - 1] > token) at--;
    memmove(lane->positions + at + 1, lane->positions + at,
            (lane->n - 1 - at) * sizeof *lane->positions);
    lane->positions[at] = token;
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const size_t width = cache->wants[p].state_floats;
        float *state = lane->state[p] + at * width;
        memmove(state + width, state, (lane->n - 1 - at) * width * sizeof *state);
        memset(state, 0, width * sizeof *state);
    }
    charge_row(cache, 1);
    open_line(cache, lane, token);
}

static void append(struct kv_cache *cache, uint32_t token)
{
    for (uint32_t b = 0; b < cache->n_banks; b++)
        kv_bank_append(&cache->banks[b], token, cache->banks[b].n_lanes);
    for (uint32_t i = 0; i < cache->plan.n_heads; i++) insert_row(cache, &cache->lanes[i], token);
}

/* The dropped row enters the rest cache as a reader saw it. */
static void hand_down(struct kv_cache *cache, uint32_t index, uint32_t token)
{
    struct kv_cache *rest = cache->plan.rest;
    const struct kv_held *lane = &cache->lanes[index];
    struct kv_held *heir = &rest->lanes[index];
    for (int side = 0; side < (heir->bank[0] == heir->bank[1] ? 1 : 2); side++) {
        struct kv_bank *bank = heir->bank[side];
        const uint32_t place = lane->bank[side]->where[token];
        float *row = bank->handed + (size_t)token * bank->dim;
        kv_bank_read(lane->bank[side], lane->place_in[side], side ? KV_VALUES : KV_KEYS, 1, &token,
                     &place, row);
        kv_bank_take(bank, token);
    }
    rest->now = cache->now;
    insert_row(rest, heir, token);
}

static void drop_row(struct kv_cache *cache, uint32_t index, uint32_t token)
{
    struct kv_held *lane = &cache->lanes[index];
    if (cache->plan.rest) hand_down(cache, index, token);
    lane->lines.until[lane->line_of[token]] = cache->now;
    mark_dirty(lane, token);
    kv_bank_release(lane->bank[0], token);
    if (lane->bank[1] != lane->bank[0]) kv_bank_release(lane->bank[1], token);
    charge_row(cache, -1);
}

/* Rows from .. from + n - 1 of a lane's lists go to `to`, further up front. */
static void move_rows(const struct kv_cache *cache, struct kv_held *lane, uint32_t to, uint32_t from,
                      uint32_t n)
{
    if (to == from) return;
    memmove(lane->positions + to, lane->positions + from, n * sizeof *lane->positions);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const size_t width = cache->wants[p].state_floats;
        memmove(lane->state[p] + to * width, lane->state[p] + from * width, n * width * sizeof(float));
    }
}

/* Carries out the fates of a lane: dropped rows leave the lists, the others close up. */
static void apply_fates(struct kv_cache *cache, uint32_t index)
{
    struct kv_held *lane = &cache->lanes[index];
    const uint8_t *fate = cache->views[index].fate;
    uint32_t kept = 0;
    for (uint32_t i = 0, end; i < lane->n; i = end + 1) {
        const uint8_t *dropped = memchr(fate + i, KV_DROP, lane->n - i);
        end = dropped ? (uint32_t)(dropped - fate) : lane->n;
        if (dropped) drop_row(cache, index, lane->positions[end]);
        move_rows(cache, lane, kept, i, end - i);
        kept += end - i;
    }
    lane->n = kept;
}

struct kv_held *kv_cache_lane_of(struct kv_cache *cache, const struct kv_bank *bank, uint32_t i,
                                 struct kv_cache **member)
{
    *member = bank->n_layers > 1 ? cache->members[i / bank->n_heads] : cache;
    return &(*member)->lanes[bank->first_head + i % bank->n_heads - cache->plan.first_head];
}

/* Whoever holds a token that was just encoded reads another form of it from now on. */
static void renew_lines(struct kv_cache *cache, const struct kv_bank *bank, uint32_t token)
{
    for (uint32_t i = 0; i < bank->n_lanes; i++) {
        struct kv_cache *member;
        struct kv_held *lane = kv_cache_lane_of(cache, bank, i, &member);
        const uint32_t line = lane->line_of[token];
        const bool held = lane->lines.n > line && lane->lines.position[line] == token &&
                          lane->lines.until[line] == UINT32_MAX;
        if (held) renew_line(member, lane, token);
    }
}

/* Encodes what is due in the banks of one kind. */
static void flush_bank(struct kv_cache *cache, struct kv_bank *bank)
{
    const uint32_t at_once = kv_bank_at_once(bank);
    for (uint32_t due = kv_bank_due(bank), some; due > 0; due -= some) {
        some = due < at_once ? due : at_once;
        kv_bank_encode(bank, some, cache->block_tokens);
        for (uint32_t i = 0; i < some * bank->code->block; i++)
            renew_lines(cache, bank, cache->block_tokens[i]);
    }
}

static void flush(struct kv_cache *cache, bool coded_at_once)
{
    for (uint32_t b = 0; b < cache->n_banks; b++)
        for (struct kv_bank *bank = &cache->banks[b]; bank; bank = bank->later)
            if (bank->code->tiers.coded_at_once == coded_at_once) flush_bank(cache, bank);
}

/* -- policies ---------------------------------------------------------------------------------- */

/* Statistics are shared by all who run together, with the longest tail that any of them wants: a
 * policy sees its own, or its rows would hang on who runs beside it. */
static const struct kv_prompt *show_prompt(struct kv_cache *cache, uint32_t p, uint32_t i)
{
    if (!cache->plan.prompts) return NULL;
    struct kv_prompt *prompt = &cache->prompts[i];
    *prompt = cache->plan.prompts[i];
    const uint32_t tail = cache->wants[p].tail < prompt->tail ? cache->wants[p].tail : prompt->tail;
    const size_t skipped = prompt->tail - tail;
    if (prompt->tail_weights)
        prompt->tail_weights += skipped * cache->plan.source.geometry->group * prompt->n;
    prompt->tail = tail;
    return prompt;
}

static void show(struct kv_cache *cache, uint32_t p, const float *queries)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    const size_t width = geometry->key_dim + geometry->value_dim;
    for (uint32_t i = 0; i < cache->plan.n_heads; i++) {
        struct kv_held *lane = &cache->lanes[i];
        struct kv_lane *view = &cache->views[i];
        view->head = lane->head;
        view->group = geometry->group;
        view->key_dim = geometry->key_dim, view->value_dim = geometry->value_dim;
        view->n = lane->n;
        view->budget = lane->budget[p];
        view->positions = lane->positions;
        view->state = lane->state[p];
        view->queries = queries ? queries + (size_t)i * geometry->group * geometry->key_dim : NULL;
        view->prompt = show_prompt(cache, p, i);
        view->key = cache->new_rows + i * width, view->value = view->key + geometry->key_dim;
        view->weights = NULL, view->reads = NULL, view->logits = NULL;
        view->keys = view->values = NULL, view->changed = NULL;
        memset(view->fate, KV_STAYS, lane->n);
    }
}

/* Calls a hook with all lanes of the unit, or with one at a time. */
static void call(struct kv_cache *cache, uint32_t p, kv_hook *hook, const struct kv_step *step)
{
    struct kv_chooser *self = cache->choosers[p];
    if (self->type->scope == KV_LAYER_HEADS) {
        hook(self, step, cache->views, cache->plan.n_heads);
        return;
    }
    for (uint32_t i = 0; i < cache->plan.n_heads; i++) hook(self, step, &cache->views[i], 1);
}

static struct kv_step step_of(const struct kv_cache *cache, bool prompt, uint32_t token)
{
    return (struct kv_step){.geometry = cache->plan.source.geometry, .kernels = cache->plan.kernels,
                            .prompt = prompt, .token = token, .seed = cache->plan.seed};
}

/* Writes back what a merge changed: a new row at its old position. */
static void take_back(struct kv_cache *cache, struct kv_held *lane, const struct kv_lane *view)
{
    for (uint32_t i = 0; i < lane->n; i++) {
        const uint32_t token = lane->positions[i];
        if (!view->changed[i] || view->fate[i] == KV_DROP) continue;
        if (view->keys) kv_bank_edit(lane->bank[0], token, view->keys + (size_t)i * view->key_dim);
        if (view->values)
            kv_bank_edit(lane->bank[1], token, view->values + (size_t)i * view->value_dim);
        renew_line(cache, lane, token);
    }
}

/* Marks the rows that a merge reads: what goes, and so many behind each that stay. */
static void mark_heirs(const struct kv_lane *view, uint32_t heirs, uint8_t *marks)
{
    memset(marks, 0, view->n);
    for (uint32_t i = 0; i < view->n; i++) {
        if (view->fate[i] == KV_STAYS) continue;
        marks[i] = 1;
        for (uint32_t j = i + 1, m = 0; j < view->n && m < heirs; j++)
            if (view->fate[j] == KV_STAYS) marks[j] = 1, m++;
    }
}

/* Fills the view's keys and values of marked rows. */
static void read_marked(const struct kv_cache *cache, uint32_t l, const struct kv_lane *view,
                        const uint8_t *marks)
{
    for (uint32_t i = 0, end; i < view->n; i = end) {
        end = i + 1;
        if (!marks[i]) continue;
        while (end < view->n && marks[end]) end++;
        kv_cache_read(cache, l, end - i, view->positions + i,
                      view->keys ? view->keys + (size_t)i * view->key_dim : NULL,
                      view->values ? view->values + (size_t)i * view->value_dim : NULL);
    }
}

/* Shows every lane that loses rows what a reader would see of those that may change. */
static void merge(struct kv_cache *cache, uint32_t p, const struct kv_step *step)
{
    const struct kv_policy *policy = cache->choosers[p]->type;
    const uint32_t heirs = policy->heirs(cache->choosers[p]->config);
    for (uint32_t l = 0; l < cache->plan.n_heads; l++) {
        struct kv_held *lane = &cache->lanes[l];
        struct kv_lane *view = &cache->views[l];
        if (!memchr(view->fate, KV_DROP, lane->n)) continue;
        view->keys = policy->merges & KV_MERGES_KEYS ? cache->rows[0] : NULL;
        view->values = policy->merges & KV_MERGES_VALUES ? cache->rows[1] : NULL;
        view->changed = cache->changed;
        mark_heirs(view, heirs, view->changed);
        read_marked(cache, l, view, view->changed);
        memset(view->changed, 0, lane->n);
        policy->merge(cache->choosers[p], step, view, 1);
        take_back(cache, lane, view);
    }
}

/* Whether the prompt, whole or a block of it, is there for a policy. */
static bool is_due(const struct kv_cache *cache, uint32_t p, uint32_t token)
{
    const uint32_t block = cache->choosers[p]->trim.prompt_block, n = token + 1;
    return n == cache->plan.source.geometry->prefill || (block && n % block == 0);
}

/* Lets every policy choose in turn; the second sees what the first left. */
static void choose(struct kv_cache *cache, bool prompt, uint32_t token, const float *queries)
{
    const struct kv_step step = step_of(cache, prompt, token);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const struct kv_policy *policy = cache->choosers[p]->type;
        kv_hook *first = prompt ? policy->keep : policy->evict;
        /* The step's row is another cache's: who takes it in to select among rows has taken all of its own. */
        if (!prompt && cache->plan.handed && policy->select) first = NULL;
        if ((!first && !policy->score) || (prompt && !is_due(cache, p, token))) continue;
        show(cache, p, queries);
        if (first) call(cache, p, first, &step);
        const bool trims = policy->score && kv_trim_acts(&cache->choosers[p]->trim, &step,
                                                         cache->views, cache->plan.n_heads);
        if (trims) {
            call(cache, p, policy->score, &step);
            kv_trim_apply(&cache->choosers[p]->trim, &step, cache->views, cache->plan.n_heads);
        }
        if (trims && policy->merge && !prompt) merge(cache, p, &step);
        if (!first && !trims) continue;
        for (uint32_t i = 0; i < cache->plan.n_heads; i++) {
            cache->lanes[i].budget[p] = cache->views[i].budget;
            apply_fates(cache, i);
        }
    }
}

/* From now on changes are for readers of this token. */
static void set_now(struct kv_cache *cache, uint32_t now)
{
    for (uint32_t m = 0; m < cache->n_members; m++) cache->members[m]->now = now;
    if (cache->plan.rest) cache->plan.rest->now = now;
}

static void append_all(struct kv_cache *cache, uint32_t token)
{
    for (uint32_t m = 0; m < cache->n_members; m++) append(cache->members[m], token);
}

/* All members choose before any encodes, since an atom may hold rows of all. A rest cache chooses
 * and encodes right after its owner. */
static void settle(struct kv_cache *cache, bool prompt, uint32_t token, const float *queries)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    const size_t width = (size_t)cache->plan.n_heads * geometry->group * geometry->key_dim;
    for (uint32_t m = 0; m < cache->n_members; m++)
        choose(cache->members[m], prompt, token, queries ? queries + m * width : NULL);
    if (cache->plan.rest) choose(cache->plan.rest, prompt, token, queries);
    for (uint32_t m = 0; m < cache->n_members; m++) flush(cache->members[m], true);
    if (cache->plan.rest) flush(cache->plan.rest, true);
}

static void flush_late(struct kv_cache *cache)
{
    for (uint32_t m = 0; m < cache->n_members; m++) flush(cache->members[m], false);
    if (cache->plan.rest) flush(cache->plan.rest, false);
}

int kv_cache_prefill(struct kv_cache *cache, struct kv_error *err)
{
    const uint32_t prefill = cache->plan.source.geometry->prefill;
    (void)err;
    set_now(cache, prefill);
    for (uint32_t t = 0; t < prefill; t++) {
        append_all(cache, t);
        for (uint32_t m = 0; t + 1 < prefill && m < cache->n_members; m++)
            choose(cache->members[m], true, t, NULL);
    }
    settle(cache, true, prefill - 1, NULL);
    flush_late(cache);
    for (uint32_t m = 0; m < cache->n_members; m++)
        for (struct kv_cache *each = cache->members[m]; each; each = each->plan.rest)
            for (uint32_t b = 0; b < each->n_banks; b++) kv_bank_end_prompt(&each->banks[b]);
    flush_late(cache);
    return KV_OK;
}

/* The step's recorded rows, for policies that keep a sketch of them. */
static void widen_new_rows(struct kv_cache *cache, uint32_t t)
{
    const struct kv_source *source = &cache->plan.source;
    float *row = cache->new_rows;
    for (uint32_t i = 0; i < cache->plan.n_heads; i++) {
        kv_widen_rows(source->keys, cache->plan.first_head + i, t, 1, cache->plan.kernels, row);
        row += source->keys->dim;
        kv_widen_rows(source->values, cache->plan.first_head + i, t, 1, cache->plan.kernels, row);
        row += source->values->dim;
    }
}

void kv_cache_begin(struct kv_cache *cache, uint32_t t, const float *queries)
{
    for (uint32_t m = 0; m < cache->n_members && cache->plan.spec->n_policies; m++)
        widen_new_rows(cache->members[m], t);
    set_now(cache, t);
    append_all(cache, t);
    settle(cache, false, t, queries);
}

void kv_cache_select(struct kv_cache *cache, const struct kv_geometry *reader, uint32_t t,
                     uint32_t lane, const float *queries, const float *logits, uint8_t *reads)
{
    struct kv_step step = step_of(cache, false, t);
    step.geometry = reader;
    memset(reads, 1, (size_t)reader->group * cache->lanes[lane].n);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        struct kv_chooser *self = cache->choosers[p];
        if (!self->type->select) continue;
        show(cache, p, NULL);
        struct kv_lane *view = &cache->views[lane];
        view->group = reader->group;
        view->queries = queries + (size_t)lane * reader->group * reader->key_dim;
        view->logits = logits;
        view->reads = reads;
        self->type->select(self, &step, view, 1);
    }
}

static void observe(struct kv_cache *cache, uint32_t t, const struct kv_observed *observed)
{
    const struct kv_step step = step_of(cache, false, t);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        if (!cache->choosers[p]->type->observe) continue;
        show(cache, p, NULL);
        for (uint32_t i = 0; i < cache->plan.n_heads; i++) {
            struct kv_lane *view = &cache->views[i];
            view->weights = observed[i].weights;
            view->places = observed[i].places, view->stride = observed[i].stride;
            view->columns = observed[i].columns;
        }
        call(cache, p, cache->choosers[p]->type->observe, &step);
    }
}

void kv_cache_end(struct kv_cache *cache, uint32_t t, const struct kv_observed *observed)
{
    for (uint32_t m = 0; m < cache->n_members && observed; m++)
        observe(cache->members[m], t, observed + (size_t)m * cache->plan.n_heads);
    set_now(cache, t + 1);
    flush_late(cache);
}

/* -- reading ----------------------------------------------------------------------------------- */

void kv_cache_decode_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    const struct kv_line_reader *reader = source;
    const struct kv_held *lane = &reader->cache->lanes[reader->lane];
    const struct kv_line_list *lines = &lane->lines;
    if (keys)
        kv_view_read(&reader->view, lane, KV_KEYS, n, lines->position + first, lines->place[0] + first, keys);
    if (values)
        kv_view_read(&reader->view, lane, KV_VALUES, n, lines->position + first, lines->place[1] + first,
                     values);
}

void kv_cache_read_view(const struct kv_cache *cache, uint32_t index, const struct kv_view *view, uint32_t n,
                        const uint32_t *tokens, float *keys, float *values)
{
    const struct kv_held *lane = &cache->lanes[index];
    for (uint32_t i = 0, run; i < n; i += run) {
        uint32_t key_places[256], value_places[256];
        run = n - i < 256 ? n - i : 256;
        for (uint32_t r = 0; r < run; r++) {
            key_places[r] = lane->bank[0]->where[tokens[i + r]];
            value_places[r] = lane->bank[1]->where[tokens[i + r]];
        }
        if (keys)
            kv_view_read(view, lane, KV_KEYS, run, tokens + i, key_places,
                         keys + (size_t)i * kv_view_columns(view, 0));
        if (values)
            kv_view_read(view, lane, KV_VALUES, run, tokens + i, value_places,
                         values + (size_t)i * kv_view_columns(view, 1));
    }
}

void kv_cache_read(const struct kv_cache *cache, uint32_t index, uint32_t n, const uint32_t *tokens,
                   float *keys, float *values)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    const struct kv_view recorded = {.recorded = {geometry->key_dim, geometry->value_dim}};
    kv_cache_read_view(cache, index, &recorded, n, tokens, keys, values);
}
