/* The cache; see cache.h. */
#include "methods/cache.h"

#include <assert.h>
#include <string.h>

#include "methods/byte_law.h"
#include "methods/layer_budget.h"
#include "methods/trim.h"
#include "methods/view.h"

/* -- what a spec asks for --------------------------------------------------------------------- */

static struct kv_wants wants_of(const struct kv_stage *stage)
{
    struct kv_wants wants = {0};
    if (stage->policy->wants) stage->policy->wants(stage->config[0], &wants);
    wants.output_norms |= stage->trim.output_percent > 0;
    return wants;
}

void kv_wants_merge(struct kv_wants *all, const struct kv_wants *one)
{
    if (one->tail > all->tail) all->tail = one->tail;
    all->column_sum |= one->column_sum;
    all->logits |= one->logits;
    all->prompt_rows |= one->prompt_rows;
    all->queries |= one->queries;
    all->output_norms |= one->output_norms;
    all->future |= one->future;
    all->fisher |= one->fisher;
    all->label |= one->label;
}

struct kv_wants kv_cache_wants(const struct kv_cache_spec *spec)
{
    struct kv_wants all = {0};
    for (uint32_t p = 0; p < spec->n_policies; p++) {
        const struct kv_wants one = wants_of(spec->policies[p]);
        kv_wants_merge(&all, &one);
    }
    for (int side = 0; side < kv_n_chains(spec); side++)
        for (const struct kv_stage *stage = kv_chain(spec, side); stage; stage = stage->rest)
            for (int s = 0; s < 2 && stage->codec->wants; s++)
                stage->codec->wants(stage->config[s], &all);
    return all;
}

struct kv_wants kv_spec_wants(const struct kv_spec *spec)
{
    struct kv_wants all = {0};
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        const struct kv_wants one = kv_cache_wants(&spec->caches[c]);
        kv_wants_merge(&all, &one);
    }
    return all;
}

static bool joins_heads(const struct kv_stage *stage)
{
    return stage->policy->scope == KV_LAYER_HEADS || stage->trim.pooled_heads || stage->trim.shared_heads;
}

bool kv_cache_joins_heads(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (joins_heads(spec->policies[p]))
            return true;
    for (int side = 0; side < kv_n_chains(spec); side++) {
        const struct kv_stage *codec = kv_chain(spec, side);
        if (codec && codec->modifiers[0].span & KV_SPAN_HEADS) return true;
    }
    return false;
}

bool kv_cache_selects(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->select) return true;
    return false;
}

bool kv_cache_renumbers(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->trim.cache_positions) return true;
    return false;
}

bool kv_cache_feeds_back(const struct kv_cache_spec *spec)
{
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->merge ||
            (spec->policies[p]->policy->observe && !spec->policies[p]->trim.prompt_only))
            return true;
    return kv_cache_selects(spec) || kv_cache_renumbers(spec);
}

/* -- creation ---------------------------------------------------------------------------------- */

static bool reserve_lines(struct kv_line_list *lines, uint32_t tokens, struct kv_pool *pool)
{
    /* A row has a line when it enters, one when its key is encoded, one when its value is. */
    const size_t capacity = (size_t)3 * tokens, bytes = capacity * sizeof(uint32_t);
    lines->position = kv_pool_take(pool, bytes);
    lines->from = kv_pool_take(pool, bytes);
    lines->until = kv_pool_take(pool, bytes);
    lines->place[0] = kv_pool_take(pool, bytes);
    lines->place[1] = kv_pool_take(pool, bytes);
    lines->coded = kv_pool_take(pool, capacity);
    return lines->position && lines->from && lines->until && lines->place[0] && lines->place[1] &&
           lines->coded;
}

static bool reserve_lane(struct kv_cache *cache, struct kv_held *lane)
{
    const uint32_t tokens = cache->plan.source.geometry->tokens;
    struct kv_pool *pool = cache->plan.pool;
    lane->positions = kv_pool_take(pool, tokens * sizeof *lane->positions);
    lane->line_of = kv_pool_take(pool, tokens * sizeof *lane->line_of);
    lane->dirty = kv_pool_take(pool, tokens * sizeof *lane->dirty);
    lane->is_dirty = kv_pool_take(pool, tokens);
    bool done = lane->positions && lane->line_of && lane->dirty && lane->is_dirty &&
                reserve_lines(&lane->lines, tokens, pool);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const size_t floats = cache->wants[p].state_floats;
        lane->state[p] = kv_pool_take(pool, tokens * floats * sizeof(float));
        done = done && lane->state[p];
    }
    return done;
}

/* What a policy's rule of selection needs beside its score. Those who judge stay. */
static int prepare_trim(const struct kv_cache *cache, struct kv_chooser *self, const struct kv_wants *wants,
                        struct kv_error *err)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    struct kv_trim *trim = &self->trim;
    const char *name = self->type->name;
    trim->judges = wants->judges;
    if (trim->prompt_only && trim->judges > trim->recent) trim->recent = trim->judges;
    if (trim->output_percent && !trim->prompt_only)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: output_percent: values are weighed in the prompt alone", name);
    if (trim->output_percent && cache->plan.prompts && !cache->plan.prompts[0].output_norms)
        return kv_fail(err, KV_ESKIPPED, "%s: the trace has no w_o", name);
    if (trim->layer_budget == KV_LAYERS_CAKE &&
        (!cache->plan.survey || cache->plan.survey->here >= cache->plan.survey->n))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: layer_budget=cake: no layer says how much it needs", name);
    if (trim->layer_budget != KV_LAYERS_UNIFORM && trim->layer_budget != KV_LAYERS_CAKE &&
        geometry->layer >= geometry->model_layers)
        return kv_fail(err, KV_ESKIPPED, "%s: layer_budget: the trace does not say how many layers the model has",
                       name);
    return KV_OK;
}

static int create_policy(struct kv_cache *cache, uint32_t p, struct kv_error *err)
{
    const struct kv_stage *stage = cache->plan.spec->policies[p];
    const struct kv_policy *policy = stage->policy;
    const size_t size = policy->self_size > sizeof(struct kv_chooser) ? policy->self_size
                                                                      : sizeof(struct kv_chooser);
    struct kv_chooser *self = kv_pool_take(cache->plan.pool, size);
    if (!self) return kv_fail(err, KV_EMEMORY, "%s: out of memory", policy->name);
    kv_pool_charge(cache->plan.pool, KV_WORKSPACE, (int64_t)(size - sizeof *self));   /* its own part */
    /* Heads of unequal length: where each begins and how long it is. */
    if (stage->trim.pooled_heads)
        kv_pool_charge(cache->plan.pool, KV_METADATA, 8 * (int64_t)cache->plan.n_heads);
    *self = (struct kv_chooser){.type = policy, .config = stage->config[0], .trim = stage->trim};
    cache->choosers[p] = self;
    cache->wants[p] = wants_of(stage);
    if (policy->score) cache->drops = true;
    const int status = prepare_trim(cache, self, &cache->wants[p], err);
    if (status != KV_OK) return status;
    const struct kv_setup setup = {.geometry = cache->plan.source.geometry,
                                   .config = stage->config[0], .kernels = cache->plan.kernels,
                                   .pool = cache->plan.pool, .seed = cache->plan.seed,
                                   .head = cache->plan.first_head,
                                   .n_heads = cache->plan.n_heads};
    return policy->create ? policy->create(self, &setup, err) : KV_OK;
}

/* The recorded rows and the shapes of the layers from a cache on. */
static int list_layers(struct kv_cache *cache, uint32_t n, const struct kv_source **sources,
                       struct kv_setup *setup, struct kv_error *err)
{
    struct kv_source *all = kv_pool_take(cache->plan.pool, n * sizeof *all);
    const struct kv_geometry **layers = kv_pool_take(cache->plan.pool, n * sizeof *layers);
    if (!all || !layers) return kv_fail(err, KV_EMEMORY, "out of memory for a layer group");
    for (uint32_t l = 0; l < n; l++) {
        all[l] = cache->members[l]->plan.source;
        layers[l] = all[l].geometry;
    }
    *sources = all;
    setup->n_layers = n, setup->layers = layers;
    return KV_OK;
}

/* Tells the lanes of n members, heads h .. h + heads - 1, where their rows are stored. Values that are
 * columns of the keys have no bank of their own: they are read from the keys'. */
static void point_lanes(struct kv_cache *cache, uint32_t n, uint32_t h, struct kv_bank *bank)
{
    for (uint32_t i = 0; i < n * bank->n_heads; i++) {
        struct kv_cache *member = n > 1 ? cache->members[i / bank->n_heads] : cache;
        struct kv_held *lane = &member->lanes[h + i % bank->n_heads];
        if (bank->side != KV_VALUES) lane->bank[0] = bank, lane->place_in[0] = i;
        if (bank->side != KV_KEYS || cache->plan.source.geometry->values_in_keys)
            lane->bank[1] = bank, lane->place_in[1] = i;
    }
}

/* Banks of one side (or of both, joined), each for one head or for all heads of the unit, of one
 * layer or of the first n members. */
/* Sides that a policy of the spec merges rows on: 1 keys, 2 values. */
static uint32_t merged_sides(const struct kv_cache_spec *spec)
{
    uint32_t sides = 0;
    for (uint32_t p = 0; p < spec->n_policies; p++)
        if (spec->policies[p]->policy->merge) sides |= spec->policies[p]->policy->merges;
    return sides;
}

static enum kv_row_origin origin_of(const struct kv_cache *cache, enum kv_side side)
{
    if (cache->plan.handed) return KV_ROWS_HANDED;
    const uint32_t bit = side == KV_KEYS ? KV_MERGES_KEYS : KV_MERGES_VALUES;
    return merged_sides(cache->plan.spec) & bit ? KV_ROWS_EDITED : KV_ROWS_RECORDED;
}

static int create_side(struct kv_cache *cache, enum kv_side side, uint32_t n, struct kv_error *err)
{
    const struct kv_cache_plan *plan = &cache->plan;
    const struct kv_stage *stage = kv_chain(plan->spec, side);
    const uint32_t span = stage ? stage->modifiers[0].span : 0;
    const uint32_t heads = span & KV_SPAN_HEADS ? plan->n_heads : 1;
    if (stage && stage->modifiers[0].exact_side == (side == KV_KEYS ? 1u : 2u)) stage = NULL;
    struct kv_setup setup = {.geometry = plan->source.geometry, .kernels = plan->kernels,
                             .pool = plan->pool, .seed = plan->seed, .n_heads = heads,
                             .sizes_only = plan->counts_only};
    const struct kv_source *sources = &plan->source;
    /* Columns of the keys that are values, too, are rows that span sides. */
    const bool both = side == KV_BOTH_SIDES || plan->source.geometry->values_in_keys;
    if (merged_sides(plan->spec) && (both || heads > 1 || n > 1))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rows that span sides, heads or layers cannot be merged into",
                       stage ? stage->codec->name : "keys that hold the values");
    int status = n > 1 ? list_layers(cache, n, &sources, &setup, err) : KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < plan->n_heads; h += heads) {
        struct kv_bank *bank = &cache->banks[cache->n_banks++];
        setup.head = plan->first_head + h;
        status = kv_bank_create(bank, &setup, sources, stage, side, origin_of(cache, side), err);
        for (struct kv_bank *part = bank; part; part = part->later)
            part->garble = plan->garble, part->counts_only = plan->counts_only;
        if (status == KV_OK) point_lanes(cache, n, h, bank);
    }
    return status;
}

/* The layers that this side's codec joins: those of the group, or none. */
static bool joins_layers(const struct kv_cache *cache, enum kv_side side)
{
    const struct kv_stage *stage = kv_chain(cache->plan.spec, side);
    return stage && cache->n_members > 1 && stage->codec->layer_group &&
           stage->codec->layer_group(stage->config[side == KV_VALUES],
                                     cache->plan.source.geometry) > 1;
}

/* A bank that serves several layers belongs to the first member's cache. */
static int create_banks(struct kv_cache *cache, struct kv_error *err)
{
    const struct kv_cache_plan *plan = &cache->plan;
    const struct kv_stage *stage = kv_chain(plan->spec, KV_KEYS);
    cache->banks = kv_pool_take(plan->pool, plan->n_heads * 2 * sizeof *cache->banks);
    if (!cache->banks) return kv_fail(err, KV_EMEMORY, "out of memory for banks");
    const bool shared = plan->source.geometry->values_in_keys;
    const bool joint = !shared && stage && stage->modifiers[0].span & KV_SPAN_SIDES;
    int status = KV_OK;
    if (shared && stage && stage->modifiers[0].exact_side)
        return kv_fail(err, KV_EUNSUPPORTED, "side=%s: the values of this layer are columns of its keys",
                       stage->modifiers[0].exact_side == 1 ? "values" : "keys");
    for (int s = joint ? KV_BOTH_SIDES : KV_KEYS; status == KV_OK && s <= KV_BOTH_SIDES; s++) {
        if (!joint && s == (shared ? KV_VALUES : KV_BOTH_SIDES)) break;
        const bool joins = joins_layers(cache->first, s);
        if (!joins || cache->member == 0)
            status = create_side(cache, s, joins ? cache->n_members : 1, err);
    }
    return status;
}

int kv_cache_layer_group(uint32_t *most, const struct kv_cache_spec *spec,
                         const struct kv_geometry *layer, struct kv_error *err)
{
    *most = 1;
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(spec, side);
        if (!stage || !stage->codec->layer_group) continue;
        const uint32_t wanted = stage->codec->layer_group(stage->config[side], layer);
        if (*most > 1 && wanted > 1 && wanted != *most)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: keys join %u layers and values %u: expected one number",
                           stage->codec->name, *most, wanted);
        if (wanted > *most) *most = wanted;
    }
    return KV_OK;
}

/* The prompt's rows of a layer, with what is known of them. */
static struct kv_fit_rows prompt_rows(const struct kv_cache_plan *plan, const struct kv_bank *bank)
{
    const uint32_t skipped = bank->first_head - plan->first_head;
    return (struct kv_fit_rows){.source = plan->source, .n = plan->source.geometry->prefill,
                                .prompts = plan->prompts ? plan->prompts + skipped : NULL};
}

/* Fits a bank on the prompt, or on the calibration of the layers that it serves. */
static int fit_bank(struct kv_cache *cache, struct kv_bank *bank, struct kv_error *err)
{
    const bool calibrated = cache->plan.calibration && !bank->fits_online;
    struct kv_fit_rows *rows = kv_pool_take(cache->plan.pool, bank->n_layers * sizeof *rows);
    if (!rows) return kv_fail(err, KV_EMEMORY, "out of memory for the rows of a fit");
    for (uint32_t l = 0; l < bank->n_layers; l++) {
        const struct kv_cache_plan *plan = &(bank->n_layers > 1 ? cache->members[l] : cache)->plan;
        rows[l] = calibrated ? *plan->calibration : prompt_rows(plan, bank);
    }
    return kv_bank_fit(bank, rows, calibrated, err);
}

/* Once all members of the group have lanes. */
static int equip(struct kv_cache *cache, struct kv_error *err)
{
    uint32_t block = 1;
    int status = create_banks(cache, err);
    for (uint32_t b = 0; status == KV_OK && b < cache->n_banks; b++)
        status = fit_bank(cache, &cache->banks[b], err);
    if (status != KV_OK) return status;
    for (uint32_t b = 0; b < cache->n_banks; b++)
        for (const struct kv_bank *part = &cache->banks[b]; part; part = part->later)
            if (part->code->block > block) block = part->code->block;
    const bool renumbers = kv_cache_renumbers(cache->plan.spec);
    for (int side = 0; side < 2; side++)
        if ((cache->lanes->bank[side]->unrotated || renumbers) && cache->drops) cache->position_bytes = 4;
    cache->block_tokens = kv_pool_take(cache->plan.pool, block * sizeof *cache->block_tokens);
    return cache->block_tokens ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for a block");
}

/* One lane's rows as a merge sees them. */
static bool reserve_rows(struct kv_cache *cache)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    struct kv_pool *pool = cache->plan.pool;
    cache->rows[0] = kv_pool_take(pool, (size_t)geometry->tokens * geometry->key_dim * sizeof(float));
    cache->rows[1] = kv_pool_take(pool, (size_t)geometry->tokens * geometry->value_dim * sizeof(float));
    cache->changed = kv_pool_take(pool, geometry->tokens);
    return cache->rows[0] && cache->rows[1] && cache->changed;
}

static bool reserve_views(struct kv_cache *cache)
{
    const struct kv_cache_plan *plan = &cache->plan;
    const size_t rows = (size_t)plan->n_heads * plan->source.geometry->tokens;
    cache->views = kv_pool_take(plan->pool, plan->n_heads * sizeof *cache->views);
    cache->prompts = kv_pool_take(plan->pool, plan->n_heads * sizeof *cache->prompts);
    cache->scores = kv_pool_take(plan->pool, rows * sizeof *cache->scores);
    cache->fates = kv_pool_take(plan->pool, rows);
    uint32_t *scratch = kv_pool_take(plan->pool, rows * sizeof *scratch);
    const size_t width = plan->source.geometry->key_dim + plan->source.geometry->value_dim;
    cache->new_rows = kv_pool_take(plan->pool, plan->n_heads * width * sizeof *cache->new_rows);
    if (!cache->views || !cache->prompts || !cache->scores || !cache->fates || !scratch || !cache->new_rows) return false;
    const size_t stride = plan->source.geometry->tokens;
    if (merged_sides(plan->spec) && !reserve_rows(cache)) return false;
    for (uint32_t i = 0; i < plan->n_heads; i++)
        cache->views[i] = (struct kv_lane){.score = cache->scores + i * stride,
                                           .fate = cache->fates + i * stride,
                                           .scratch = scratch + i * stride};
    return true;
}

uint32_t kv_cache_layer_budget(const struct kv_cache *cache, uint32_t p)
{
    const struct kv_trim *trim = &cache->choosers[p]->trim;
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    return kv_layer_budget(trim, geometry, cache->plan.survey,
                           kv_budget_tokens(trim->budget, geometry->prefill));
}

/* A cache with its lanes and policies, without banks yet. */
static int create_lanes(struct kv_cache **out, const struct kv_cache_plan *plan, struct kv_error *err)
{
    struct kv_cache *cache = kv_pool_take(plan->pool, sizeof *cache);
    if (!cache) return kv_fail(err, KV_EMEMORY, "out of memory for a cache");
    cache->plan = *plan;
    cache->lanes = kv_pool_take(plan->pool, plan->n_heads * sizeof *cache->lanes);
    if (!cache->lanes || !reserve_views(cache)) return kv_fail(err, KV_EMEMORY, "out of memory for lanes");
    for (uint32_t p = 0; p < plan->spec->n_policies; p++) {
        const int status = create_policy(cache, p, err);
        if (status != KV_OK) return status;
    }
    for (uint32_t i = 0; i < plan->n_heads; i++) {
        struct kv_held *lane = &cache->lanes[i];
        lane->head = plan->first_head + i;
        if (!reserve_lane(cache, lane)) return kv_fail(err, KV_EMEMORY, "out of memory for lanes");
        for (uint32_t p = 0; p < plan->spec->n_policies; p++)
            lane->budget[p] = kv_cache_layer_budget(cache, p);
    }
    *out = cache;
    return KV_OK;
}

int kv_cache_create_group(struct kv_cache **out, const struct kv_cache_plan *plans, uint32_t n,
                          struct kv_error *err)
{
    struct kv_cache **members = kv_pool_take(plans->pool, n * sizeof *members);
    if (!members) return kv_fail(err, KV_EMEMORY, "out of memory for a layer group");
    int status = KV_OK;
    for (uint32_t m = 0; status == KV_OK && m < n; m++) status = create_lanes(&members[m], &plans[m], err);
    for (uint32_t m = 0; status == KV_OK && m < n; m++) {
        members[m]->members = members, members[m]->n_members = n;
        members[m]->first = members[0], members[m]->member = m;
    }
    for (uint32_t m = 0; status == KV_OK && m < n; m++) status = equip(members[m], err);
    for (uint32_t m = 0; status == KV_OK && m < n && !plans->counts_only; m++)
        status = kv_cache_settle_budgets(members[m], err);
    for (uint32_t m = 0; status == KV_OK && m < n; m++) out[m] = members[m];
    return status;
}

int kv_cache_create(struct kv_cache **out, const struct kv_cache_plan *plan, struct kv_error *err)
{
    return kv_cache_create_group(out, plan, 1, err);
}

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

/* A policy that acts on the prompt alone keeps no state afterwards: nothing is charged for it. */
int64_t kv_cache_row_bytes(const struct kv_cache *cache)
{
    int64_t bytes = cache->position_bytes;
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++)
        if (!cache->choosers[p]->trim.prompt_only)
            bytes += cache->wants[p].state_floats * (int64_t)sizeof(float);
    return bytes;
}

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
        if (bank->unrotated && side == 0) kv_rotary_undo(&bank->rotary, token, row);
        kv_bank_append(bank, token, 1);
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

/* Carries out the fates of a lane: dropped rows leave the lists, the others close up. */
static void apply_fates(struct kv_cache *cache, uint32_t index)
{
    struct kv_held *lane = &cache->lanes[index];
    const uint8_t *fate = cache->views[index].fate;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lane->n; i++) {
        if (fate[i] == KV_DROP) {
            drop_row(cache, index, lane->positions[i]);
            continue;
        }
        if (kept != i) {
            lane->positions[kept] = lane->positions[i];
            for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
                const size_t width = cache->wants[p].state_floats;
                memcpy(lane->state[p] + kept * width, lane->state[p] + i * width,
                       width * sizeof(float));
            }
        }
        kept++;
    }
    lane->n = kept;
}

/* The cache and its lane that a lane of one of its banks is. */
static struct kv_held *lane_of(struct kv_cache *cache, const struct kv_bank *bank, uint32_t i,
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
        struct kv_held *lane = lane_of(cache, bank, i, &member);
        const uint32_t line = lane->line_of[token];
        const bool held = lane->lines.n > line && lane->lines.position[line] == token &&
                          lane->lines.until[line] == UINT32_MAX;
        if (held) renew_line(member, lane, token);
    }
}

/* Encodes what is due in the banks of one kind. */
static void flush_bank(struct kv_cache *cache, struct kv_bank *bank)
{
    for (uint32_t due = kv_bank_due(bank); due > 0; due--) {
        kv_bank_encode(bank, cache->block_tokens);
        for (uint32_t i = 0; i < bank->code->block; i++)
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
    const uint32_t sides = merged_sides(cache->plan.spec);
    for (uint32_t i = 0; i < lane->n; i++) {
        const uint32_t token = lane->positions[i];
        if (!view->changed[i] || view->fate[i] == KV_DROP) continue;
        if (sides & KV_MERGES_KEYS) kv_bank_edit(lane->bank[0], token, view->keys + (size_t)i * view->key_dim);
        if (sides & KV_MERGES_VALUES)
            kv_bank_edit(lane->bank[1], token, view->values + (size_t)i * view->value_dim);
        renew_line(cache, lane, token);
    }
}

/* Shows every lane that loses rows what a reader would see of all of them. */
static void merge(struct kv_cache *cache, uint32_t p, const struct kv_step *step)
{
    for (uint32_t l = 0; l < cache->plan.n_heads; l++) {
        struct kv_held *lane = &cache->lanes[l];
        struct kv_lane *view = &cache->views[l];
        if (!memchr(view->fate, KV_DROP, lane->n)) continue;
        view->keys = cache->rows[0], view->values = cache->rows[1], view->changed = cache->changed;
        kv_cache_read(cache, l, lane->n, lane->positions, view->keys, view->values);
        memset(view->changed, 0, lane->n);
        cache->choosers[p]->type->merge(cache->choosers[p], step, view, 1);
        take_back(cache, lane, view);
    }
}

/* Lets every policy choose in turn; the second sees what the first left. */
static void choose(struct kv_cache *cache, bool prompt, uint32_t token, const float *queries)
{
    const struct kv_step step = step_of(cache, prompt, token);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        const struct kv_policy *policy = cache->choosers[p]->type;
        kv_hook *first = prompt ? policy->keep : policy->evict;
        if (!first && !policy->score) continue;
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
    for (uint32_t t = 0; t < prefill; t++) append_all(cache, t);
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
        kv_tensor_widen(source->keys, cache->plan.first_head + i, t, 1, row);
        row += source->keys->dim;
        kv_tensor_widen(source->values, cache->plan.first_head + i, t, 1, row);
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

static void observe(struct kv_cache *cache, uint32_t t, const float *const *weights)
{
    const struct kv_step step = step_of(cache, false, t);
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++) {
        if (!cache->choosers[p]->type->observe) continue;
        show(cache, p, NULL);
        for (uint32_t i = 0; i < cache->plan.n_heads; i++) cache->views[i].weights = weights[i];
        call(cache, p, cache->choosers[p]->type->observe, &step);
    }
}

void kv_cache_end(struct kv_cache *cache, uint32_t t, const float *const *weights)
{
    for (uint32_t m = 0; m < cache->n_members && weights; m++)
        observe(cache->members[m], t, weights + (size_t)m * cache->plan.n_heads);
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
        kv_view_read(view, lane, KV_KEYS, run, tokens + i, key_places,
                     keys + (size_t)i * kv_view_columns(view, 0));
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

/* -- accounts ---------------------------------------------------------------------------------- */

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
    bytes->payload[side] += stored_part(bank, atoms * bank->code->payload_bytes, l);
    bytes->metadata[side] +=
        stored_part(bank, atoms * bank->code->metadata_bytes - bank->spare_bytes, l);
    bytes->residual[side] += part_of(rows * (int64_t)kv_bank_exact_row_bytes(bank), l, n);
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
            held += lane_of((struct kv_cache *)cache, bank, i, &member)->n;
        }
        for (uint32_t t = 0; t < cache->plan.source.geometry->tokens; t++) holders += bank->holders[t];
        if (held != holders)
            return kv_fail(err, KV_EGATE, "%s: lanes hold %llu rows, the bank counts %llu",
                           bank->code->type->name, (unsigned long long)held,
                           (unsigned long long)holders);
    }
    return status;
}
