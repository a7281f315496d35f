/* The slow road's answers; see slow_answer.h. */
#include "harness/replay/slow_answer.h"

#include <math.h>
#include <string.h>

#include "harness/replay/mirror.h"
#include "harness/replay/query_rows.h"
#include "harness/replay/renumber.h"
#include "methods/cache/view.h"
#include "methods/kernels/ready.h"
#include "methods/spec/spec_wants.h"

/* Answers are given a block of tokens at a time: the block's queries meet all rows that are held when
 * it begins, and the rows to come as they were recorded, in one product; other rows that come (or change
 * their form) under way are one column each. Then the rows of logits are masked, weighed and observed
 * token by token, and the values are summed for the whole block. The generic set takes one token at a
 * time: its order of summation is the definition.
 *
 * A block has enough rows for the products' tiles, and so few that logits and weights of some thousand
 * slots lie in L2 from one pass to the next; the fewer tokens, the fewer dead rows are multiplied. */
enum { BLOCK_TOKENS = 32, BLOCK_ROWS = 96, BLOCK_FLOATS = 1 << 18 };

/* Rows whose answers are compared side by side: each sum is taken in ascending order, and its additions
 * wait for each other. */
enum { COMPARED = 4 };

struct lane_block {                    /* of one lane; rows are [token][group] */
    float *logits, *weights;           /* [rows][stride] by slot; weights of scored tokens only */
    float *queries;                    /* [rows][key_dim] of the owner */
    float *turned;                     /* [rows][key columns] as the lane's view meets them; or the same */
    uint32_t stride;
    uint32_t *places;                  /* [tokens] slots by held row */
};

struct kv_slow {
    const struct kv_replay *replay;
    struct kv_cache *main, *rest;
    struct kv_mirror *mirrors;         /* [n_heads] */
    struct kv_renumber *renumbers;     /* [n_heads], or NULL: recorded positions */
    struct lane_block *blocks;         /* [n_heads] */
    uint32_t first, n, next;           /* the block's tokens; how many of them are answered; n = 0: none */
    uint32_t first_scored, n_scored;   /* of the tokens answered */
    uint32_t *scored_at;               /* [BLOCK_TOKENS] their places in the block */
    size_t floats;                     /* of a block's logits */
    float scale, unit;                 /* logits are scaled by the first; the rest, for softmaxes (ready.h) */
    float *queries;                    /* [n_heads][group][key_dim] of the owner, this step */
    float *reader_queries;             /* likewise of the reader; the same when owner and reader are */
    float *exact, *exact_queries;      /* of one lane's scored tokens */
    float *turned_queries, *sums;      /* of one lane, where its view turns: a reader's; of values */
    float *owner_weights;              /* [n_heads][group][slots] where a reader's own come after them */
    float *ready;                      /* scratch of products of many rows; NULL: the set has none */
    float *column, *lane_values;       /* [key_dim]; [group][tokens] by held row, or [COMPARED][slots], or columns */
    uint8_t *reads;                    /* [group][tokens] by held row */
    struct kv_observed *observed;      /* [n_heads] of this step */
    bool selects[2], observes;         /* the main cache; the rest */
};

static bool observes(const struct kv_cache *cache)
{
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++)
        if (cache->choosers[p]->type->observe) return true;
    return false;
}

/* By the lanes: banks that serve several layers belong to the first one's cache. */
static bool key_differs(const struct kv_cache *main, const struct kv_cache *rest)
{
    bool lossy = rest != NULL;
    for (uint32_t i = 0; i < main->plan.n_heads; i++)
        for (int side = 0; side < 2; side++) lossy |= main->lanes[i].bank[side]->lossy;
    return lossy;
}

static bool renumbers(const struct kv_replay *replay)
{
    return !replay->exact_layer && kv_cache_renumbers(&replay->spec->caches[0]);
}

static uint32_t block_tokens(const struct kv_replay *replay)
{
    const uint32_t group = replay->owner->info->geometry.group;
    const bool whole = replay->owner == replay->reader && strcmp(replay->kernels->isa, "generic") &&
                       !renumbers(replay) && group < BLOCK_ROWS;
    if (!whole) return 1;
    return BLOCK_ROWS / group < BLOCK_TOKENS ? BLOCK_ROWS / group : BLOCK_TOKENS;
}

/* Where a lane's rows are turned: queries and sums that are not recorded ones. */
static bool reserve_turned(struct kv_slow *slow, uint32_t lane, uint32_t rows, struct kv_pool *pool)
{
    struct lane_block *block = &slow->blocks[lane];
    const struct kv_view view = kv_view_of_lane(slow->main, lane);
    block->turned = block->queries;
    if (kv_view_is_recorded(&view)) return true;
    const size_t columns = kv_view_columns(&view, 0);
    block->turned = kv_pool_take(pool, rows * columns * sizeof(float));
    if (!slow->sums) {                 /* all lanes have the same view */
        slow->turned_queries = kv_pool_take(pool, rows * columns * sizeof(float));
        slow->sums = kv_pool_take(pool, (size_t)rows * kv_view_columns(&view, 1) * sizeof(float));
    }
    return block->turned && slow->turned_queries && slow->sums;
}

static bool reserve_lanes(struct kv_slow *slow, uint32_t group, uint32_t dim, struct kv_pool *pool)
{
    const uint32_t heads = slow->replay->n_heads, rows = block_tokens(slow->replay) * group;
    const size_t slots = (size_t)slow->replay->owner->info->geometry.tokens + 2 * slow->replay->kernels->panel;
    slow->mirrors = kv_pool_take(pool, heads * sizeof *slow->mirrors);
    slow->blocks = kv_pool_take(pool, heads * sizeof *slow->blocks);
    slow->observed = kv_pool_take(pool, heads * sizeof *slow->observed);
    slow->floats = BLOCK_FLOATS / heads < rows * slots ? BLOCK_FLOATS / heads : rows * slots;
    if (slow->floats < group * slots) slow->floats = group * slots;
    bool done = slow->mirrors && slow->blocks && slow->observed;
    for (uint32_t i = 0; done && i < heads; i++) {
        struct lane_block *block = &slow->blocks[i];
        block->logits = kv_pool_room(pool, slow->floats * sizeof(float));
        block->weights = kv_pool_room(pool, slow->floats * sizeof(float));
        block->queries = kv_pool_take(pool, (size_t)rows * dim * sizeof(float));
        block->places = kv_pool_take(pool, slots * sizeof *block->places);
        done = block->logits && block->weights && block->queries && block->places &&
               reserve_turned(slow, i, rows, pool);
    }
    slow->exact_queries = kv_pool_take(pool, (size_t)rows * dim * sizeof(float));
    const uint32_t shared = slow->replay->owner == slow->replay->reader ? 0 : heads;
    slow->owner_weights = kv_pool_take(pool, shared * group * slots * sizeof(float));
    slow->lane_values = kv_pool_take(pool, (group > COMPARED ? group : COMPARED) * slots * sizeof(float));
    slow->reads = kv_pool_take(pool, group * slots);
    return done && slow->exact_queries && slow->owner_weights && slow->lane_values && slow->reads;
}

/* Whoever reads logits as such, and tanh, wants them as they are. */
static void choose_unit(struct kv_slow *slow)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *geometry = &replay->owner->info->geometry;
    const float scale = (float)geometry->scale;
    const bool plain = geometry->softcap > 0 || slow->selects[0] || slow->selects[1] ||
                       replay->owner != replay->reader ||
                       !kv_ready_pays(replay->kernels, block_tokens(replay) * geometry->group);
    slow->scale = plain ? scale : kv_ready_scale(replay->kernels, scale);
    slow->unit = slow->scale == scale ? 1.0f : scale / slow->scale;
}

static int create_renumbers(struct kv_slow *slow, struct kv_pool *pool, struct kv_error *err)
{
    if (!kv_view_is_recorded(&slow->mirrors->view))
        return kv_fail(err, KV_EUNSUPPORTED, "positions=cache: %s reads rows that are no longer recorded keys",
                       slow->main->lanes->bank[0]->code->type->name);
    slow->renumbers = kv_pool_take(pool, slow->replay->n_heads * sizeof *slow->renumbers);
    int status = slow->renumbers ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    for (uint32_t i = 0; status == KV_OK && i < slow->replay->n_heads; i++)
        status = kv_renumber_create(&slow->renumbers[i], &slow->mirrors[i], i ? slow->renumbers : NULL, pool, err);
    return status;
}

/* Columns of the widest rows that products meet. */
static uint32_t widest(const struct kv_geometry *geometry, const struct kv_view *view)
{
    const uint32_t keys = kv_view_columns(view, 0), values = kv_view_columns(view, 1);
    const uint32_t more = keys > values ? keys : values;
    return more > geometry->key_dim ? more : geometry->key_dim;
}

/* Slots that a lane fills at most: rows of the prompt that stayed, one more a token, and those that a block leaves
 * dead; merges leave so many that fewer would shorten blocks. */
static uint32_t most_rows(const struct kv_slow *slow, uint32_t lane)
{
    const struct kv_geometry *owner = &slow->replay->owner->info->geometry;
    const uint32_t held = slow->main->lanes[lane].n + (slow->rest ? slow->rest->lanes[lane].n : 0);
    const uint32_t most = held + owner->tokens - owner->prefill + 2 * BLOCK_TOKENS;
    return most < owner->tokens && !kv_merged_sides(slow->main->plan.spec) ? most : owner->tokens;
}

static int create_mirror(const struct kv_slow *slow, uint32_t lane, bool compares, struct kv_pool *pool,
                         struct kv_error *err)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const struct kv_view view = kv_view_of_lane(slow->main, 0);
    struct kv_mirror *mirror = &slow->mirrors[lane];
    const int status = kv_mirror_create(mirror, replay->kernels, owner, &view, most_rows(slow, lane), compares, pool,
                                        err);
    if (status != KV_OK || !kv_ready_pays(replay->kernels, block_tokens(replay) * owner->group)) return status;
    return kv_mirror_keep_ready(mirror, pool, err);
}

int kv_slow_create(struct kv_slow **out, const struct kv_replay *replay, struct kv_cache *main,
                   struct kv_cache *rest, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const struct kv_geometry *reader = &replay->reader->info->geometry;
    const uint32_t group = owner->group > reader->group ? owner->group : reader->group;
    const size_t queries = (size_t)replay->n_heads * group * owner->key_dim * sizeof(float);
    const bool compares = replay->exact_log_sum_exp && (key_differs(main, rest) || renumbers(replay));
    struct kv_slow *slow = kv_pool_take(pool, sizeof *slow);
    if (!slow) return kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    *slow = (struct kv_slow){.replay = replay, .main = main, .rest = rest};
    slow->selects[0] = kv_cache_selects(main->plan.spec);
    slow->selects[1] = rest && kv_cache_selects(rest->plan.spec);
    slow->observes = observes(main);
    choose_unit(slow);
    bool done = reserve_lanes(slow, group, owner->key_dim, pool);
    slow->queries = kv_pool_take(pool, queries);
    slow->reader_queries =
        replay->owner == replay->reader ? slow->queries : kv_pool_take(pool, queries);
    slow->exact = compares ? kv_pool_room(pool, slow->floats * sizeof(float)) : NULL;
    const struct kv_view view = kv_view_of_lane(main, 0);
    slow->column = kv_pool_take(pool, kv_view_columns(&view, 0) * sizeof(float));
    const size_t ready = kv_ready_floats(replay->kernels, widest(owner, &view));
    slow->ready = ready ? kv_pool_take(pool, ready * sizeof(float)) : NULL;
    slow->scored_at = kv_pool_take(pool, BLOCK_TOKENS * sizeof *slow->scored_at);
    done = done && slow->queries && slow->reader_queries && (slow->exact || !compares) && slow->column &&
           slow->scored_at && (slow->ready || !ready);
    int status = done ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    for (uint32_t i = 0; status == KV_OK && i < replay->n_heads; i++)
        status = create_mirror(slow, i, compares, pool, err);
    if (status == KV_OK && renumbers(replay)) status = create_renumbers(slow, pool, err);
    *out = slow;
    return status;
}

/* Those of the block's next token, which are there already. */
static void copy_queries(struct kv_slow *slow)
{
    const struct kv_geometry *geometry = &slow->replay->owner->info->geometry;
    const size_t floats = (size_t)geometry->group * geometry->key_dim;
    for (uint32_t lane = 0; lane < slow->replay->n_heads; lane++)
        memcpy(slow->queries + lane * floats, slow->blocks[lane].queries + slow->next * floats,
               floats * sizeof *slow->queries);
}

const float *kv_slow_queries(struct kv_slow *slow, uint32_t t)
{
    const struct kv_replay *replay = slow->replay;
    if (slow->n > 1) {                 /* one layer owns and reads, and nothing is renumbered */
        copy_queries(slow);
        return slow->queries;
    }
    const struct kv_layer *layers[2] = {replay->owner, replay->reader};
    float *out[2] = {slow->queries, slow->reader_queries};
    for (int l = 0; l < (out[0] == out[1] ? 1 : 2); l++) {
        const struct kv_geometry *geometry = &layers[l]->info->geometry;
        for (uint32_t i = 0; i < replay->n_heads; i++)
            kv_widen_queries(layers[l], replay->first_head + i, &t, 1, replay->kernels,
                             out[l] + (size_t)i * geometry->group * geometry->key_dim);
    }
    return slow->queries;
}

static uint32_t whole_panels(const struct kv_slow *slow, uint32_t slots)
{
    const uint32_t panel = slow->replay->kernels->panel;
    return (slots + panel - 1) / panel * panel;
}

/* The keys that a lane's answers meet at this step. */
static const float *keys_of(const struct kv_slow *slow, uint32_t lane)
{
    return slow->renumbers ? slow->renumbers[lane].keys : slow->mirrors[lane].keys;
}

/* By what a block's products are made, those of a few scored rows of it as well: logits that are equal are
 * so to the last bit. */
static float *ready_of(const struct kv_slow *slow)
{
    const uint32_t rows = slow->n * slow->replay->owner->info->geometry.group;
    return kv_ready_pays(slow->replay->kernels, rows) ? slow->ready : NULL;
}

/* logits[row][slot] of query rows in slow->unit, neither capped nor masked. */
static void multiply(const struct kv_slow *slow, const struct kv_geometry *geometry,
                     struct kv_mirror *mirror, const float *panels, const float *queries,
                     uint32_t rows, float *logits, uint32_t stride)
{
    const float scale = slow->unit == 1.0f ? (float)geometry->scale : slow->scale; /* a reader may have its own */
    const uint32_t dim = panels == mirror->exact_keys ? geometry->key_dim : mirror->columns[0];
    const uint32_t slots = mirror->frozen && mirror->met > mirror->n_slots ? mirror->met : mirror->n_slots;
    kv_many_logits(slow->replay->kernels, ready_of(slow), panels == mirror->keys ? &mirror->ready[0] : NULL,
                   queries, rows, dim, panels, whole_panels(slow, slots), scale, logits, stride);
}

/* Queries of the lane's group at tokens t, t + 1, ... as its view meets them; queries themselves where it
 * has recorded rows alone. */
static const float *turn_queries(const struct kv_slow *slow, uint32_t lane, uint32_t t, uint32_t rows,
                                 uint32_t group, const float *queries, float *turned)
{
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    const uint32_t dim = mirror->geometry->key_dim;
    if (kv_view_is_recorded(&mirror->view)) return queries;
    for (uint32_t r = 0; r < rows; r++)
        kv_view_turn_query(&mirror->view, &slow->main->lanes[lane], t + r / group, queries + (size_t)r * dim,
                           dim, turned + (size_t)r * mirror->columns[0]);
    return turned;
}

static void hide_slots(const uint32_t *slots, uint32_t n, float *logits, uint32_t group, size_t stride)
{
    for (uint32_t g = 0; g < group; g++, logits += stride)
        for (uint32_t i = 0; i < n; i++) logits[slots[i]] = -INFINITY;
}

/* Caps the logits of token t's rows; slots without a row and keys outside the window are -infinity. */
static void mask(const struct kv_slow *slow, const struct kv_geometry *geometry,
                 const struct kv_mirror *mirror, uint32_t t, float *logits, uint32_t stride)
{
    const uint32_t first = geometry->window && t >= geometry->window ? t - geometry->window + 1 : 0;
    for (uint32_t g = 0; g < geometry->group; g++) {
        float *row = logits + (size_t)g * stride;
        if (geometry->softcap > 0.0)
            slow->replay->kernels->softcap(row, mirror->n_slots, (float)geometry->softcap);
        for (uint32_t s = mirror->n_slots; s < stride; s++) row[s] = -INFINITY;
    }
    hide_slots(mirror->free_slots, mirror->n_free, logits, geometry->group, stride);
    hide_slots(mirror->dead_slots, mirror->n_dead, logits, geometry->group, stride);
    for (uint32_t s = 0; first && s < mirror->n_slots; s++)
        if (mirror->token_of[s] < first) hide_slots(&s, 1, logits, geometry->group, stride);
}

/* Adds what a cache's rows of a lane touch that some query of the group reads. */
static void add_touched(struct kv_slow *slow, const struct kv_held *held, uint32_t group,
                        struct kv_read_bytes *bytes)
{
    const uint32_t n = held->n;
    for (uint32_t g = 1; g < group; g++)
        for (uint32_t i = 0; i < n; i++) slow->reads[i] |= slow->reads[g * n + i];
    for (int side = 0; side < (held->bank[0] == held->bank[1] ? 1 : 2); side++)
        *(held->bank[side]->host ? &bytes->offloaded : &bytes->resident) +=
            kv_bank_touched(held->bank[side], n, held->positions, slow->reads);
}

/* Slots of the held rows. */
static const uint32_t *find_places(const struct kv_slow *slow, uint32_t lane, const struct kv_held *held)
{
    const uint32_t *slot_of = slow->mirrors[lane].slot_of, *positions = held->positions, n = held->n;
    uint32_t *places = slow->blocks[lane].places;
    for (uint32_t i = 0; i < n; i++) places[i] = slot_of[positions[i]];
    return places;
}

/* Asks a cache's policy which rows are read and hides the others; adds the stored bytes touched. */
static void hide_unread(struct kv_slow *slow, struct kv_cache *cache, const struct kv_geometry *reader,
                        uint32_t t, uint32_t lane, const float *queries, struct kv_read_bytes *bytes)
{
    const struct kv_held *held = &cache->lanes[lane];
    const uint32_t group = reader->group, n = held->n;
    const size_t stride = slow->blocks[lane].stride;
    float *logits = slow->blocks[lane].logits + (size_t)slow->next * slow->replay->owner->info->geometry.group * stride;
    const uint32_t *places = find_places(slow, lane, held);
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t i = 0; i < n; i++) slow->lane_values[g * n + i] = logits[g * stride + places[i]];
    kv_cache_select(cache, reader, t, lane, queries, slow->lane_values, slow->reads);
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t i = 0; i < n; i++) {
            const float own = slow->lane_values[g * n + i];
            logits[g * stride + places[i]] = slow->reads[g * n + i] ? own : -INFINITY;
        }
    add_touched(slow, held, group, bytes);
}

/* Of both caches, where they select. */
static void hide_all_unread(struct kv_slow *slow, const struct kv_geometry *reader, uint32_t t, uint32_t lane,
                            const float *queries, struct kv_read_bytes *bytes)
{
    if (slow->selects[0]) hide_unread(slow, slow->main, reader, t, lane, queries, bytes);
    if (slow->selects[1]) hide_unread(slow, slow->rest, reader, t, lane, queries, bytes);
}

/* weights = softmax of one row of logits, 0 where hidden; returns the log of its denominator. */
static float softmax(const struct kv_kernels *kernels, const float *logits, uint32_t n, float unit,
                     const float *sink_logit, float *weights)
{
    float max = kernels->max(logits, n) * unit;
    if (sink_logit && *sink_logit > max) max = *sink_logit;
    if (max == -INFINITY) {
        memset(weights, 0, n * sizeof *weights);
        return -INFINITY;
    }
    memcpy(weights, logits, n * sizeof *weights);
    float sum = kernels->exp_sum(weights, n, unit, max), sink = sink_logit ? *sink_logit : 0.0f;
    if (sink_logit) sum += kernels->exp_sum(&sink, 1, 1.0f, max);
    kernels->scale(weights, n, 1.0f / sum);
    return max + (float)log((double)sum);
}

/* A row of weights beside the exact ones; quantities as in methods/sweep/sweep.h. */
struct compared {
    const float *logits, *exact_logits, *weights;
    float *exact;                      /* [slots] exact weights, 0 where hidden */
    double mass, divergence, drift;
    bool coded;
};

/* Hidden slots have no mass. */
static void weigh_exactly(const struct kv_kernels *kernels, struct compared *row, uint32_t n, float unit,
                          float log_sum_exp)
{
    for (uint32_t s = 0; s < n; s++)
        row->exact[s] = row->logits[s] == -INFINITY ? -INFINITY : row->exact_logits[s];
    kernels->exp_sum(row->exact, n, unit, log_sum_exp);
}

static void add_masses(struct compared rows[COMPARED], uint32_t n)
{
    double mass[COMPARED] = {0};
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t r = 0; r < COMPARED; r++) mass[r] += rows[r].exact[s];
    for (uint32_t r = 0; r < COMPARED; r++) rows[r].mass = mass[r];
}

/* What differs where keys or values are not the recorded ones. */
static void add_differences(const struct kv_mirror *mirror, double unit, struct compared rows[COMPARED])
{
    double divergence[COMPARED] = {0}, drift[COMPARED] = {0};
    bool coded[COMPARED] = {0};
    for (uint32_t s = 0; s < mirror->n_slots; s++)
        for (uint32_t r = 0; r < COMPARED; r++) {
            const float weight = rows[r].weights[s];
            const double moved = (double)rows[r].logits[s] - rows[r].exact_logits[s];
            divergence[r] += weight > 0.0f ? (double)weight * moved : 0.0;
            drift[r] += mirror->coded[s] ? (double)weight - rows[r].exact[s] : 0.0;
            coded[r] |= mirror->coded[s] && rows[r].logits[s] > -INFINITY;
        }
    for (uint32_t r = 0; r < COMPARED; r++) {
        rows[r].divergence = divergence[r] * unit, rows[r].drift = drift[r];
        rows[r].coded = coded[r];
    }
}

static void finish_compared(const struct kv_slow *slow, const struct kv_mirror *mirror,
                            const struct compared *compared, size_t row)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_answer_arrays *out = &replay->answers;
    const double log_sums[2] = {(double)out->log_sum_exp[row], (double)replay->exact_log_sum_exp[row]};
    out->divergence[row] =
        compared->mass > 0.0 ? (float)(compared->divergence - log_sums[0] + log_sums[1]) : 0.0f;
    out->held_mass[row] = (float)compared->mass;
    out->drift[row] = compared->coded ? (float)compared->drift : NAN;
    for (uint32_t span = 0; span < replay->spans.n; span++) {
        double on_span = 0.0;
        for (uint32_t s = 0; s < mirror->n_slots; s++)
            if (compared->logits[s] != -INFINITY &&
                mirror->token_of[s] >= replay->spans.range[span][0] &&
                mirror->token_of[s] < replay->spans.range[span][1])
                on_span += compared->weights[s];
        out->span_mass[row * replay->spans.n + span] = (float)on_span;
    }
}

/* Softmax of all group rows of a lane; the denominators' logs go to log_sum_exp when not NULL. */
static void weigh(const struct kv_slow *slow, const struct kv_geometry *geometry, uint32_t lane,
                  const float *logits, float *weights, float *log_sum_exp)
{
    const uint32_t head = slow->replay->first_head + lane, n = slow->mirrors[lane].n_slots;
    const uint32_t stride = slow->blocks[lane].stride;
    for (uint32_t g = 0; g < geometry->group; g++) {
        const float *sink =
            geometry->sink_logits ? geometry->sink_logits + head * geometry->group + g : NULL;
        float *row = weights + (size_t)g * stride;
        const float lse = softmax(slow->replay->kernels, logits + (size_t)g * stride, n, slow->unit, sink, row);
        memset(row + n, 0, (stride - n) * sizeof *row);
        if (log_sum_exp) log_sum_exp[g] = lse;
    }
}

static void keep_observed(struct kv_slow *slow, uint32_t lane, const float *weights)
{
    const uint32_t *places = find_places(slow, lane, &slow->main->lanes[lane]);
    slow->observed[lane] = (struct kv_observed){weights, places, slow->blocks[lane].stride, slow->lane_values};
}

/* -- a block ------------------------------------------------------------------------------------ */

/* How many tokens from t on make a block, and the lanes' strides: the slots of now and two for each token,
 * since a step may bring a row and change another. */
static uint32_t measure_block(struct kv_slow *slow, uint32_t t)
{
    const struct kv_geometry *geometry = &slow->replay->owner->info->geometry;
    const uint32_t group = geometry->group > slow->replay->reader->info->geometry.group
                               ? geometry->group : slow->replay->reader->info->geometry.group;
    uint32_t n = block_tokens(slow->replay);
    if (n > geometry->tokens - t) n = geometry->tokens - t;
    for (uint32_t lane = 0; lane < slow->replay->n_heads; lane++) {
        const uint32_t extra = n > 1 ? 2 * n : 0;
        const uint32_t stride = whole_panels(slow, slow->mirrors[lane].n_slots + extra);
        const size_t fits = slow->floats / ((size_t)stride * group);
        slow->blocks[lane].stride = stride;
        if (fits < n) n = fits > 0 ? (uint32_t)fits : 1;
    }
    return n;
}

static void begin_block(struct kv_slow *slow, uint32_t t)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *geometry = &replay->owner->info->geometry;
    uint32_t tokens[BLOCK_TOKENS];
    slow->first = t;
    slow->n = measure_block(slow, t);
    slow->next = slow->n_scored = 0;
    for (uint32_t i = 0; i < slow->n; i++) tokens[i] = t + i;
    for (uint32_t lane = 0; lane < replay->n_heads; lane++) {
        struct lane_block *block = &slow->blocks[lane];
        struct kv_mirror *mirror = &slow->mirrors[lane];
        kv_widen_queries(replay->owner, replay->first_head + lane, tokens, slow->n, replay->kernels,
                         block->queries);
        if (slow->renumbers) {
            kv_renumber_keys(&slow->renumbers[lane], mirror);
            kv_renumber_queries(&slow->renumbers[lane], t, geometry->group, block->queries);
        }
        turn_queries(slow, lane, t, slow->n * geometry->group, geometry->group, block->queries,
                     block->turned);
        if (slow->n > 1)
            kv_mirror_freeze(mirror, &replay->owner->k, replay->first_head + lane, t + 1, slow->n - 1);
        multiply(slow, geometry, mirror, keys_of(slow, lane), block->turned, slow->n * geometry->group,
                 block->logits, block->stride);
    }
}

/* Logits of the tokens left in the block with the rows that this step brought. */
static void add_columns(struct kv_slow *slow, uint32_t lane)
{
    const struct kv_geometry *geometry = &slow->replay->owner->info->geometry;
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    const struct lane_block *block = &slow->blocks[lane];
    const uint32_t first = slow->next * geometry->group, end = slow->n * geometry->group;
    for (uint32_t i = 0; i < mirror->n_changed; i++) {
        kv_mirror_key(mirror, mirror->changed[i], slow->column);
        float *logit = block->logits + (size_t)first * block->stride + mirror->changed[i];
        const uint32_t columns = mirror->columns[0];
        const float *query = block->turned + (size_t)first * columns;
        for (uint32_t r = first; r < end; r++, logit += block->stride, query += columns)
            *logit = slow->scale * slow->replay->kernels->dot(query, slow->column, columns);
    }
}

/* outputs [rows][value_dim] of the block's weights. */
static void sum_values(struct kv_slow *slow, uint32_t lane, uint32_t rows, uint32_t value_dim, float *outputs)
{
    struct kv_mirror *mirror = &slow->mirrors[lane];
    const struct lane_block *block = &slow->blocks[lane];
    const bool turned = !kv_view_is_recorded(&mirror->view);
    const size_t columns = mirror->columns[1];
    float *sums = turned ? slow->sums : outputs;
    memset(sums, 0, rows * columns * sizeof *sums);
    kv_many_sums(slow->replay->kernels, ready_of(slow), &mirror->ready[1], block->weights, rows, block->stride,
                 mirror->values, mirror->n_slots, mirror->columns[1], sums);
    for (uint32_t r = 0; turned && r < rows; r++)
        kv_view_turn_output(&mirror->view, &slow->main->lanes[lane], sums + r * columns, value_dim,
                            outputs + (size_t)r * value_dim);
}

/* Exact logits of the scored answers, where keys are not the recorded ones. */
static void multiply_exactly(struct kv_slow *slow, uint32_t lane)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    struct kv_mirror *mirror = &slow->mirrors[lane];
    const struct lane_block *block = &slow->blocks[lane];
    const uint32_t group = geometry->group, rows = slow->n_scored * group;
    const size_t dim = geometry->key_dim;
    const bool blocks = replay->owner == replay->reader && !slow->renumbers;
    const float *queries = blocks ? block->queries : slow->reader_queries + lane * group * dim;
    for (uint32_t i = 0; i < slow->n_scored; i++)
        memcpy(slow->exact_queries + i * group * dim, queries + slow->scored_at[i] * group * dim,
               group * dim * sizeof *queries);
    multiply(slow, geometry, mirror, mirror->exact_keys, slow->exact_queries, rows, slow->exact, block->stride);
    for (uint32_t r = 0; r < rows && geometry->softcap > 0.0; r++)
        replay->kernels->softcap(slow->exact + (size_t)r * block->stride, mirror->n_slots,
                                 (float)geometry->softcap);
}

/* Answers r .. r + n - 1 of the block, 1 <= n <= COMPARED, of which the first is `row` in the arrays. */
static void compare_rows(struct kv_slow *slow, uint32_t lane, uint32_t r, uint32_t n, size_t row)
{
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    const struct lane_block *block = &slow->blocks[lane];
    const uint32_t group = slow->replay->reader->info->geometry.group;
    const size_t stride = block->stride;
    struct compared rows[COMPARED];
    for (uint32_t i = 0; i < COMPARED; i++) {
        if (i >= n) {
            rows[i] = rows[0];
            continue;
        }
        const float *logits = block->logits + (slow->scored_at[(r + i) / group] * group + (r + i) % group) * stride;
        rows[i] = (struct compared){.logits = logits,
                                    .exact_logits = mirror->exact_keys ? slow->exact + (r + i) * stride : logits,
                                    .weights = block->weights + (r + i) * stride,
                                    .exact = slow->lane_values + (size_t)i * mirror->n_slots};
        weigh_exactly(slow->replay->kernels, &rows[i], mirror->n_slots, slow->unit,
                      slow->replay->exact_log_sum_exp[row + i]);
    }
    add_masses(rows, mirror->n_slots);
    if (mirror->exact_keys || memchr(mirror->coded, 1, mirror->n_slots))
        add_differences(mirror, (double)slow->unit, rows);
    for (uint32_t i = 0; i < n; i++) finish_compared(slow, mirror, &rows[i], row + i);
}

/* The scored answers of a lane: outputs, and the comparison when there is an exact reference. */
static void answer_lane(struct kv_slow *slow, uint32_t lane)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const uint32_t group = geometry->group, rows = slow->n_scored * group;
    const size_t head = replay->first_head + lane;
    const size_t row = (head * replay->n_scored + slow->first_scored) * group;
    sum_values(slow, lane, rows, geometry->value_dim, replay->answers.outputs + row * geometry->value_dim);
    if (!replay->exact_log_sum_exp) return;
    if (slow->mirrors[lane].exact_keys) multiply_exactly(slow, lane);
    for (uint32_t r = 0; r < rows; r += COMPARED)
        compare_rows(slow, lane, r, rows - r < COMPARED ? rows - r : COMPARED, row + r);
}

static void end_block(struct kv_slow *slow)
{
    for (uint32_t lane = 0; lane < slow->replay->n_heads; lane++) {
        if (slow->n_scored) answer_lane(slow, lane);
        kv_mirror_thaw(&slow->mirrors[lane]);
    }
    slow->n = 0;
}

/* Whether every lane's new rows find slots inside the block. */
static bool block_holds(const struct kv_slow *slow)
{
    for (uint32_t lane = 0; lane < slow->replay->n_heads; lane++) {
        const uint32_t rows = slow->main->lanes[lane].n_dirty + (slow->rest ? slow->rest->lanes[lane].n_dirty : 0);
        if (kv_mirror_room(&slow->mirrors[lane], slow->blocks[lane].stride) < rows) return false;
    }
    return true;
}

/* One lane's rows of token t: masked, weighed and observed. */
static void step_lane(struct kv_slow *slow, uint32_t lane, uint32_t t, uint32_t scored,
                      struct kv_read_bytes *bytes)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const struct kv_geometry *reader = &replay->reader->info->geometry;
    const struct lane_block *block = &slow->blocks[lane];
    struct kv_mirror *mirror = &slow->mirrors[lane];
    const bool same = replay->owner == replay->reader, wanted = scored != UINT32_MAX;
    const size_t head = replay->first_head + lane;
    float *lse = wanted ? replay->answers.log_sum_exp + (head * replay->n_scored + scored) * reader->group : NULL;
    float *logits = block->logits + (size_t)slow->next * owner->group * block->stride;
    float *weights = block->weights + (size_t)slow->n_scored * reader->group * block->stride;
    float *observed = same ? weights : slow->owner_weights + (size_t)lane * owner->group * block->stride;
    struct kv_read_bytes ignored = {0};
    mask(slow, owner, mirror, t, logits, block->stride);
    hide_all_unread(slow, owner, t, lane, slow->queries, bytes);
    weigh(slow, owner, lane, logits, observed, same ? lse : NULL);
    if (slow->observes) keep_observed(slow, lane, observed);
    if (same || !wanted) return;
    /* A reader of shared K, V: the owner's queries decided what stays; its own choose among it and are
     * answered. */
    const size_t floats = (size_t)reader->group * reader->key_dim;
    const float *queries = slow->reader_queries + lane * floats;
    if (slow->renumbers) {
        memcpy(block->queries, queries, floats * sizeof *queries);
        kv_renumber_queries(&slow->renumbers[lane], t, reader->group, block->queries);
        queries = block->queries;
    }
    queries = turn_queries(slow, lane, t, reader->group, reader->group, queries, slow->turned_queries);
    multiply(slow, reader, mirror, keys_of(slow, lane), queries, reader->group, logits, block->stride);
    mask(slow, reader, mirror, t, logits, block->stride);
    hide_all_unread(slow, reader, t, lane, slow->reader_queries, &ignored);
    weigh(slow, reader, lane, logits, weights, lse);
}

struct kv_read_bytes kv_slow_step(struct kv_slow *slow, uint32_t t, uint32_t scored)
{
    const uint32_t heads = slow->replay->n_heads;
    struct kv_read_bytes bytes = {0};
    if (slow->n && !block_holds(slow)) end_block(slow);
    for (uint32_t lane = 0; lane < heads; lane++) {
        struct kv_mirror *mirror = &slow->mirrors[lane];
        mirror->n_changed = 0;
        kv_mirror_refresh(mirror, slow->main, lane);
        if (slow->rest) kv_mirror_refresh(mirror, slow->rest, lane);
        if (slow->n) add_columns(slow, lane);
    }
    if (!slow->n) begin_block(slow, t);
    for (uint32_t lane = 0; lane < heads; lane++) step_lane(slow, lane, t, scored, &bytes);
    if (scored != UINT32_MAX) {
        if (!slow->n_scored) slow->first_scored = scored;
        slow->scored_at[slow->n_scored++] = slow->next;
    }
    if (++slow->next == slow->n) end_block(slow);
    return bytes;
}

bool kv_slow_observes(const struct kv_slow *slow)
{
    return slow->observes;
}

const struct kv_observed *kv_slow_observed(const struct kv_slow *slow)
{
    return slow->observed;
}
