/* How a cache comes to be: lanes, policies, banks, their fit; see cache.h. */
#include "methods/cache/cache.h"

#include "methods/cache/byte_law.h"
#include "methods/layer_budget.h"
#include "methods/spec/spec_wants.h"

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
    cache->wants[p] = kv_policy_wants(stage);
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

static enum kv_row_origin origin_of(const struct kv_cache *cache, enum kv_side side)
{
    if (cache->plan.handed) return KV_ROWS_HANDED;
    const uint32_t bit = side == KV_KEYS ? KV_MERGES_KEYS : KV_MERGES_VALUES;
    return kv_merged_sides(cache->plan.spec) & bit ? KV_ROWS_EDITED : KV_ROWS_RECORDED;
}

/* Banks of one side (or of both, joined), each for one head or for all heads of the unit, of one
 * layer or of the first n members. */
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
    if (kv_merged_sides(plan->spec) && (both || heads > 1 || n > 1))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rows that span sides, heads or layers cannot be merged into",
                       stage ? stage->codec->name : "keys that hold the values");
    int status = n > 1 ? list_layers(cache, n, &sources, &setup, err) : KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < plan->n_heads; h += heads) {
        struct kv_bank *bank = &cache->banks[cache->n_banks++];
        setup.head = plan->first_head + h;
        status = kv_bank_create(bank, &setup, sources, stage, side, origin_of(cache, side), err);
        for (struct kv_bank *part = bank; part; part = part->later)
            part->garble = plan->garble, part->counts_only = plan->counts_only,
            part->knows_trace = plan->knows_trace;
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

/* Values that are columns of the keys are stored with them: nothing can be said of them alone. */
static int refuse_values(const struct kv_cache_spec *spec, struct kv_error *err)
{
    const struct kv_stage *stage = kv_chain(spec, KV_KEYS);
    if (spec->sided && spec->values)
        return kv_fail(err, KV_EUNSUPPORTED, "v.%s: the values of this layer are columns of its keys",
                       spec->values->codec->name);
    if (stage && stage->modifiers[0].exact_side)
        return kv_fail(err, KV_EUNSUPPORTED, "side=%s: the values of this layer are columns of its keys",
                       stage->modifiers[0].exact_side == 1 ? "values" : "keys");
    for (; stage; stage = stage->rest)
        if (!kv_stage_same_sides(stage))
            return kv_fail(err, KV_EUNSUPPORTED, "%s: expected the same parameters for k. and v., since the"
                           " values of this layer are columns of its keys", stage->codec->name);
    return KV_OK;
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
    int status = shared ? refuse_values(plan->spec, err) : KV_OK;
    for (int s = joint ? KV_BOTH_SIDES : KV_KEYS; status == KV_OK && s <= KV_BOTH_SIDES; s++) {
        if (!joint && s == (shared ? KV_VALUES : KV_BOTH_SIDES)) break;
        const bool joins = joins_layers(cache->first, s);
        if (!joins || cache->member == 0)
            status = create_side(cache, s, joins ? cache->n_members : 1, err);
    }
    return status;
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
    uint32_t rows = 1;
    int status = create_banks(cache, err);
    for (uint32_t b = 0; status == KV_OK && b < cache->n_banks; b++)
        status = fit_bank(cache, &cache->banks[b], err);
    if (status != KV_OK) return status;
    for (uint32_t b = 0; b < cache->n_banks; b++)
        for (const struct kv_bank *part = &cache->banks[b]; part; part = part->later)
            if (kv_bank_at_once(part) * part->code->block > rows)
                rows = kv_bank_at_once(part) * part->code->block;
    const bool renumbers = kv_cache_renumbers(cache->plan.spec);
    const bool scattered = cache->drops || cache->plan.handed;
    for (int side = 0; side < 2; side++)
        if ((cache->lanes->bank[side]->unrotated || renumbers) && scattered) cache->position_bytes = 4;
    cache->block_tokens = kv_pool_take(cache->plan.pool, rows * sizeof *cache->block_tokens);
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
    if (kv_merged_sides(plan->spec) && !reserve_rows(cache)) return false;
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
