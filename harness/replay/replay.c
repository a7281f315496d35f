/* The replay of one unit; see replay.h. */
#include "harness/replay/replay.h"

#include <math.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/base/sums.h"
#include "harness/replay/mirror.h"
#include "harness/replay/prompt_rows.h"
#include "harness/replay/query_rows.h"
#include "harness/replay/slow_answer.h"
#include "harness/replay/state_replay.h"
#include "methods/cache/view.h"
#include "methods/spec/spec_wants.h"

/* A cache that layers= leaves exact: everything stays, in the default codec. */
static const struct kv_cache_spec full_exact;

struct unit {                          /* what the two roads share, of one layer */
    const struct kv_replay *replay;
    const struct kv_geometry *geometry;    /* of the owner: the cache's */
    struct kv_pool *pool;
    struct kv_cache *main, *rest;
    struct kv_replay_account *account;
    struct kv_slow *slow;
    uint32_t scored;                   /* answers given so far, on the slow road */
    const struct unit *group;          /* [n_group] this one and the layers beside it */
    uint32_t n_group, member;
};

uint32_t kv_replay_unit_heads(const struct kv_spec *spec, const struct kv_geometry *geometry)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        if (kv_cache_joins_heads(&spec->caches[c])) return geometry->kv_heads;
    return 1;
}

int kv_replay_stops(const struct kv_replay *replay, struct kv_error *err)
{
    if (replay->stop && *replay->stop) return kv_fail(err, KV_EINTERRUPTED, "interrupted");
    if (replay->deadline > 0.0 && kv_clock_seconds() > replay->deadline)
        return kv_fail(err, KV_ETIMEOUT, "the cell's time is over");
    return KV_OK;
}

static struct kv_source source_of(const struct kv_layer *layer)
{
    return (struct kv_source){.geometry = &layer->info->geometry, .keys = &layer->k,
                              .values = &layer->v, .queries = &layer->q, .w_o = layer->w_o,
                              .hidden = layer->hidden};
}

/* The plan of the main cache; makes the rest cache on the way. */
static int plan_caches(struct unit *unit, struct kv_cache_plan *out, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    const struct kv_spec *spec = replay->spec;
    struct kv_cache_plan plan = {
        .source = source_of(replay->owner), .calibration = replay->calibration,
        .kernels = replay->kernels, .pool = unit->pool,
        .prompts = replay->prompts ? replay->prompts + replay->first_head : NULL,
        .first_head = replay->first_head, .n_heads = replay->n_heads, .seed = replay->seed, .survey = replay->survey.n ? &replay->survey : NULL,
        .garble = replay->garble};
    int status = KV_OK;
    if (spec->n_caches > 1 && !replay->exact_layer) {
        plan.spec = &spec->caches[1];
        plan.handed = true;
        status = kv_cache_create(&unit->rest, &plan, err);
        if (status != KV_OK) return status;
        plan.handed = false;
        plan.rest = unit->rest;
    }
    plan.spec = replay->exact_layer ? &full_exact : &spec->caches[0];
    *out = plan;
    return KV_OK;
}

static int create_caches(struct unit *units, uint32_t n, struct kv_error *err)
{
    struct kv_cache_plan *plans = kv_pool_take(units->pool, n * sizeof *plans);
    struct kv_cache **mains = kv_pool_take(units->pool, n * sizeof *mains);
    if (!plans || !mains) return kv_fail(err, KV_EMEMORY, "out of memory for caches");
    int status = KV_OK;
    for (uint32_t u = 0; status == KV_OK && u < n; u++) status = plan_caches(&units[u], &plans[u], err);
    if (status == KV_OK) status = kv_cache_create_group(mains, plans, n, err);
    for (uint32_t u = 0; status == KV_OK && u < n; u++) units[u].main = mains[u];
    return status;
}

static void add_bytes(struct kv_cache_bytes *sum, const struct kv_cache *cache)
{
    const struct kv_cache_bytes one = kv_cache_count(cache);
    for (int side = 0; side < 2; side++) {
        sum->payload[side] += one.payload[side];
        sum->metadata[side] += one.metadata[side];
        sum->residual[side] += one.residual[side];
        sum->offloaded[side] += one.offloaded[side];
        sum->basis[side] += one.basis[side];
    }
    sum->joint |= one.joint;
    sum->shared += one.shared;
    sum->calibrated |= one.calibrated;
}

/* What the banks of the whole group count. */
static struct kv_cache_bytes group_bytes(const struct unit *unit)
{
    struct kv_cache_bytes bytes = {0};
    for (uint32_t u = 0; u < unit->n_group; u++) {
        add_bytes(&bytes, unit->group[u].main);
        if (unit->group[u].rest) add_bytes(&bytes, unit->group[u].rest);
    }
    return bytes;
}

/* Metadata in the pool that no bank counts: the policies', of all layers; parted evenly. */
static int64_t policy_bytes(const struct unit *unit)
{
    const struct kv_cache_bytes bytes = group_bytes(unit);
    const int64_t all = kv_pool_used(unit->pool, KV_METADATA) - bytes.metadata[0] - bytes.metadata[1];
    return all * (unit->member + 1) / unit->n_group - all * unit->member / unit->n_group;
}

/* The banks' own counts, and what the pool was charged, must be the same bytes. */
static int audit(const struct unit *unit, struct kv_error *err)
{
    int status = kv_cache_audit(unit->main, err);
    if (status == KV_OK && unit->rest) status = kv_cache_audit(unit->rest, err);
    if (status != KV_OK) return status;
    const struct kv_cache_bytes bytes = group_bytes(unit);
    const int64_t payload = kv_pool_used(unit->pool, KV_PAYLOAD);
    const int64_t residual = kv_pool_used(unit->pool, KV_RESIDUAL);
    const int64_t offloaded = kv_pool_used(unit->pool, KV_OFFLOADED);
    if (payload == bytes.payload[0] + bytes.payload[1] &&
        residual == bytes.residual[0] + bytes.residual[1] &&
        offloaded == bytes.offloaded[0] + bytes.offloaded[1] && policy_bytes(unit) >= 0)
        return KV_OK;
    return kv_fail(err, KV_EGATE,
                   "charged %lld payload, %lld residual and %lld offloaded bytes, banks count %lld, %lld"
                   " and %lld", (long long)payload, (long long)residual, (long long)offloaded,
                   (long long)(bytes.payload[0] + bytes.payload[1]),
                   (long long)(bytes.residual[0] + bytes.residual[1]),
                   (long long)(bytes.offloaded[0] + bytes.offloaded[1]));
}

/* Stored bytes of a cache that a step touches when all its held rows are read. */
static void count_cache_reads(struct unit *unit, const struct kv_cache *cache)
{
    struct kv_cache_bytes bytes = {0};
    add_bytes(&bytes, cache);
    for (int side = 0; side < 2; side++) {
        unit->account->read_bytes +=
            (double)(bytes.payload[side] + bytes.metadata[side] + bytes.residual[side]);
        unit->account->offloaded_read_bytes += (double)bytes.offloaded[side];
    }
}

/* Of the caches that read all they hold; the others' reads are counted where rows are chosen. */
static void count_reads(struct unit *unit)
{
    const bool selects = kv_cache_selects(unit->main->plan.spec);
    if (!selects) count_cache_reads(unit, unit->main);
    if (unit->rest && !kv_cache_selects(unit->rest->plan.spec)) count_cache_reads(unit, unit->rest);
    if (!selects) unit->account->read_bytes += (double)policy_bytes(unit);
}

/* -- the fast road ------------------------------------------------------------------------------ */

struct joined_reader {                 /* lines of the main cache, then those of the rest */
    struct kv_line_reader main, rest;
    uint32_t n_main;
};

static void decode_joined(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    struct joined_reader *reader = source;
    const struct kv_view *view = &reader->main.view;
    const uint32_t own = first >= reader->n_main       ? 0
                         : first + n > reader->n_main ? reader->n_main - first
                                                      : n;
    if (own) kv_cache_decode_lines(&reader->main, first, own, keys, values);
    if (own == n) return;
    kv_cache_decode_lines(&reader->rest, first + own - reader->n_main, n - own,
                          keys ? keys + (size_t)own * kv_view_columns(view, 0) : NULL,
                          values ? values + (size_t)own * kv_view_columns(view, 1) : NULL);
}

static int join_lines(struct unit *unit, uint32_t lane, struct joined_reader *reader,
                      struct kv_lines *lines, struct kv_error *err)
{
    const struct kv_line_list *main = &unit->main->lanes[lane].lines;
    /* What is read beside another cache is read as recorded: nothing that spans heads goes with it. */
    const struct kv_view view =
        kv_view_of_lines(unit->main, lane, unit->rest ? KV_TURNS_NEEDED : KV_TURNS_ALL);
    *reader = (struct joined_reader){.main = {unit->main, lane, view}, .rest = {unit->rest, lane, view},
                                     .n_main = main->n};
    *lines = (struct kv_lines){.n = main->n, .position = main->position, .from = main->from,
                               .until = main->until, .coded = main->coded, .decode = decode_joined,
                               .source = reader,
                               .columns = {kv_view_columns(&view, 0), kv_view_columns(&view, 1)}};
    if (!unit->rest) return KV_OK;
    const struct kv_line_list *rest = &unit->rest->lanes[lane].lines;
    const size_t n = main->n + rest->n;
    uint32_t *all = kv_pool_take(unit->pool, 3 * n * sizeof *all);
    uint8_t *coded = kv_pool_take(unit->pool, n);
    if (!all || !coded) return kv_fail(err, KV_EMEMORY, "out of memory for %zu lines", n);
    const uint32_t *parts[3][2] = {{main->position, rest->position}, {main->from, rest->from},
                                   {main->until, rest->until}};
    for (int i = 0; i < 3; i++) {
        memcpy(all + i * n, parts[i][0], main->n * sizeof *all);
        memcpy(all + i * n + main->n, parts[i][1], rest->n * sizeof *all);
    }
    memcpy(coded, main->coded, main->n);
    memcpy(coded + main->n, rest->coded, rest->n);
    lines->n = (uint32_t)n;
    lines->position = all, lines->from = all + n, lines->until = all + 2 * n, lines->coded = coded;
    return KV_OK;
}

/* One lane's share of the layer's arrays. */
static struct kv_answer_arrays lane_arrays(const struct kv_replay *replay, uint32_t head)
{
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const size_t row = (size_t)head * replay->n_scored * geometry->group;
    const struct kv_answer_arrays *all = &replay->answers;
    return (struct kv_answer_arrays){
        .outputs = all->outputs + row * geometry->value_dim, .log_sum_exp = all->log_sum_exp + row,
        .divergence = all->divergence + row, .held_mass = all->held_mass + row,
        .drift = all->drift + row, .span_mass = all->span_mass + row * replay->spans.n};
}

/* The lane's query rows: those that methods share, or its own. */
static int gather_rows(struct unit *unit, uint32_t head, struct kv_rows *rows, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    const struct kv_scored scored = {replay->reader, replay->kernels, replay->n_scored, replay->scored};
    if (kv_exact_logits_rows(replay->exact_logits, head, rows)) return KV_OK;
    return kv_scored_rows(rows, &scored, head, unit->pool, err);
}

/* Queries and sums of a sweep whose lines are turned. */
static int turn_rows(struct unit *unit, const struct joined_reader *reader, struct kv_sweep *sweep,
                     struct kv_error *err)
{
    const struct kv_view *view = &reader->main.view;
    const struct kv_held *lane = &unit->main->lanes[reader->main.lane];
    const uint32_t key_dim = sweep->geometry->key_dim, n = sweep->rows.n, columns = kv_view_columns(view, 0);
    float *queries = kv_pool_room(unit->pool, (size_t)n * columns * sizeof *queries);
    float *sums = kv_pool_room(unit->pool, (size_t)n * kv_view_columns(view, 1) * sizeof *sums);
    if (!queries || !sums) return kv_fail(err, KV_EMEMORY, "out of memory for turned queries");
    for (uint32_t r = 0; r < n; r++)
        kv_view_turn_query(view, lane, sweep->rows.token[r], sweep->rows.queries + (size_t)r * key_dim,
                           key_dim, queries + (size_t)r * columns);
    sweep->rows.queries = queries, sweep->answers.outputs = sums;
    return KV_OK;
}

static void turn_outputs(const struct unit *unit, const struct joined_reader *reader,
                         const struct kv_sweep *sweep, float *outputs)
{
    const struct kv_view *view = &reader->main.view;
    const struct kv_held *lane = &unit->main->lanes[reader->main.lane];
    const size_t value_dim = sweep->geometry->value_dim, columns = kv_view_columns(view, 1);
    for (size_t r = 0; r < sweep->rows.n; r++)
        kv_view_turn_output(view, lane, sweep->answers.outputs + r * columns, (uint32_t)value_dim,
                            outputs + r * value_dim);
}

static bool any_coded(const struct kv_lines *lines)
{
    bool coded = false;
    for (uint32_t l = 0; l < lines->n; l++) coded |= lines->coded[l];
    return coded;
}

static int sweep_lane(struct unit *unit, uint32_t lane, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const uint32_t head = replay->first_head + lane;
    const struct kv_answer_arrays arrays = lane_arrays(replay, head);
    struct joined_reader reader;
    struct kv_sweep sweep = {.kernels = replay->kernels, .geometry = geometry};
    int status = join_lines(unit, lane, &reader, &sweep.lines, err);
    if (status == KV_OK) status = gather_rows(unit, head, &sweep.rows, err);
    if (status != KV_OK) return status;
    const bool coded = any_coded(&sweep.lines);
    sweep.answers = (struct kv_answers){.outputs = arrays.outputs, .log_sum_exp = arrays.log_sum_exp};
    const struct kv_compare compare = {
        .keys = &replay->reader->k,
        .head = head,
        .queries = sweep.rows.queries,
        .exact_log_sum_exp =
            replay->exact_log_sum_exp + (arrays.log_sum_exp - replay->answers.log_sum_exp),
        .spans = replay->spans,
        .divergence = arrays.divergence,
        .held_mass = arrays.held_mass,
        .drift = arrays.drift,
        .span_mass = arrays.span_mass,
        /* Rows as recorded have their exact logits already. */
        .exact = coded && kv_replay_asks_logits(replay) ? kv_exact_logits_take(replay->exact_logits, head)
                                                        : (struct kv_kept){0}};
    if (replay->exact_log_sum_exp) sweep.compare = &compare;
    const bool turned = !kv_view_is_recorded(&reader.main.view);
    if (turned) status = turn_rows(unit, &reader, &sweep, err);
    if (status != KV_OK) return status;
    float *scratch = kv_pool_room(unit->pool, kv_sweep_scratch(&sweep) * sizeof *scratch);
    if (!scratch) return kv_fail(err, KV_EMEMORY, "out of memory for the sweep");
    kv_sweep_run(&sweep, scratch);
    if (turned) turn_outputs(unit, &reader, &sweep, arrays.outputs);
    for (uint32_t r = 0; !coded && sweep.compare && r < sweep.rows.n; r++) arrays.drift[r] = NAN;
    return KV_OK;
}

static int audit_all(const struct unit *units, uint32_t n, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t u = 0; status == KV_OK && units->replay->audit && u < n; u++)
        status = audit(&units[u], err);
    return status;
}

static int run_fast(struct unit *units, uint32_t n, struct kv_error *err)
{
    struct unit *first = units;
    int status = KV_OK;
    for (uint32_t t = first->geometry->prefill; t < first->geometry->tokens; t++) {
        kv_cache_begin(first->main, t, NULL);
        for (uint32_t u = 0; u < n; u++) count_reads(&units[u]);
        kv_cache_end(first->main, t, NULL);
        if ((status = audit_all(units, n, err)) != KV_OK) return status;
        if (t % 64 == 0 && (status = kv_replay_stops(first->replay, err)) != KV_OK) return status;
    }
    for (uint32_t u = 0; u < n; u++)
        for (uint32_t lane = 0; status == KV_OK && lane < first->replay->n_heads; lane++) {
            status = kv_replay_stops(first->replay, err);
            if (status == KV_OK && units[u].replay->n_scored) status = sweep_lane(&units[u], lane, err);
        }
    return status;
}

/* -- the slow road ------------------------------------------------------------------------------ */

struct step {                          /* of all layers of the group, for the first cache */
    float *queries;                    /* [n][heads][group][key_dim] */
    struct kv_observed *observed;      /* [n * heads] */
    size_t width;                      /* floats of a layer's queries */
};

static int create_slow(struct unit *units, uint32_t n, struct step *step, struct kv_error *err)
{
    const uint32_t heads = units->replay->n_heads;
    int status = KV_OK;
    for (uint32_t u = 0; status == KV_OK && u < n; u++)
        status = kv_slow_create(&units[u].slow, units[u].replay, units[u].main, units[u].rest,
                                units[u].pool, err);
    step->width = (size_t)heads * units->geometry->group * units->geometry->key_dim;
    step->queries = kv_pool_take(units->pool, n * step->width * sizeof(float));
    step->observed = kv_pool_take(units->pool, (size_t)n * heads * sizeof *step->observed);
    if (status == KV_OK && (!step->queries || !step->observed))
        return kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    return status;
}

static void answer_slow(struct unit *unit, uint32_t t, struct kv_observed *observed)
{
    const struct kv_replay *replay = unit->replay;
    const bool wanted = unit->scored < replay->n_scored && replay->scored[unit->scored] == t;
    const struct kv_read_bytes read = kv_slow_step(unit->slow, t, wanted ? unit->scored++ : UINT32_MAX);
    unit->account->read_bytes += read.resident;
    unit->account->offloaded_read_bytes += read.offloaded;
    count_reads(unit);
    if (kv_slow_observes(unit->slow))
        memcpy(observed, kv_slow_observed(unit->slow), replay->n_heads * sizeof *observed);
}

static int run_slow(struct unit *units, uint32_t n, struct kv_error *err)
{
    const uint32_t heads = units->replay->n_heads;
    struct step step;
    int status = create_slow(units, n, &step, err);
    for (uint32_t t = units->geometry->prefill; status == KV_OK && t < units->geometry->tokens; t++) {
        for (uint32_t u = 0; u < n; u++)
            memcpy(step.queries + u * step.width, kv_slow_queries(units[u].slow, t),
                   step.width * sizeof(float));
        kv_cache_begin(units->main, t, step.queries);
        for (uint32_t u = 0; u < n; u++) answer_slow(&units[u], t, step.observed + (size_t)u * heads);
        kv_cache_end(units->main, t, kv_slow_observes(units->slow) ? step.observed : NULL);
        status = audit_all(units, n, err);
        if (status == KV_OK && t % 16 == 0) status = kv_replay_stops(units->replay, err);
    }
    return status;
}

/* -- the account -------------------------------------------------------------------------------- */

enum { COMPARED_ROWS = 256 };

/* Rows of a lane as they are held, and a recorded one beside them; of each side, sums by column mod 8. */
struct compared { float *rows[2], *recorded[2]; double error2[2][8], norm2[2][8]; };

/* Errors of the decoded rows that are still held, against the recorded ones. */
static int compare_rows(struct unit *unit, struct kv_cache *cache, uint32_t index, struct kv_error *err)
{
    const struct kv_held *lane = &cache->lanes[index];
    const struct kv_kernels *kernels = unit->replay->kernels;
    const struct kv_tensor *const tensors[2] = {&unit->replay->owner->k, &unit->replay->owner->v};
    const uint32_t dims[2] = {unit->geometry->key_dim, unit->geometry->value_dim};
    struct compared sums = {.recorded = {kv_pool_take(unit->pool, (dims[0] + dims[1]) * sizeof(float))}};
    for (int side = 0; side < 2; side++)
        sums.rows[side] = kv_pool_take(unit->pool, COMPARED_ROWS * (size_t)dims[side] * sizeof(float));
    if (!sums.rows[0] || !sums.rows[1] || !sums.recorded[0]) return kv_fail(err, KV_EMEMORY, "out of memory for rows");
    sums.recorded[1] = sums.recorded[0] + dims[0];
    for (uint32_t i = 0; i < lane->n; i++) {
        const uint32_t place = i % COMPARED_ROWS, left = lane->n - i;
        if (place == 0)
            kv_cache_read(cache, index, left < COMPARED_ROWS ? left : COMPARED_ROWS, lane->positions + i,
                          sums.rows[0], sums.rows[1]);
        for (int side = 0; side < 2; side++) {
            kv_widen_rows(tensors[side], lane->head, lane->positions[i], 1, kernels, sums.recorded[side]);
            kernels->add_errors(sums.rows[side] + (size_t)place * dims[side], sums.recorded[side], dims[side],
                                sums.error2[side], sums.norm2[side]);
        }
    }
    unit->account->key_error2 += kv_sum_of_eight(sums.error2[0]);
    unit->account->key_norm2 += kv_sum_of_eight(sums.norm2[0]);
    unit->account->value_error2 += kv_sum_of_eight(sums.error2[1]);
    unit->account->value_norm2 += kv_sum_of_eight(sums.norm2[1]);
    unit->account->held_rows += lane->n;
    return KV_OK;
}

static int close_account(struct unit *unit, struct kv_error *err)
{
    struct kv_replay_account *account = unit->account;
    struct kv_cache *caches[2] = {unit->main, unit->rest};
    account->workspace_bytes = kv_pool_peak(unit->pool, KV_WORKSPACE);
    account->allocated_bytes = (int64_t)kv_pool_reserved(unit->pool);
    for (int c = 0; c < 2 && caches[c]; c++) {
        add_bytes(&account->bytes, caches[c]);
        for (uint32_t b = 0; b < caches[c]->n_banks; b++)
            account->coded_rows += (uint64_t)caches[c]->banks[b].n_atoms *
                                   caches[c]->banks[b].code->block * caches[c]->banks[b].n_lanes;
    }
    account->settled_rows = (uint64_t)unit->main->settled_rows * unit->replay->n_heads;
    account->policy_bytes = policy_bytes(unit);
    account->shared_basis = account->bytes.shared;
    int status = KV_OK;
    for (int c = 0; c < 2 && caches[c]; c++)
        for (uint32_t lane = 0; status == KV_OK && lane < unit->replay->n_heads; lane++)
            status = compare_rows(unit, caches[c], lane, err);
    return status;
}

static bool takes_slow_road(const struct kv_replay *replay)
{
    if (replay->road != KV_ROAD_AUTO) return replay->road == KV_ROAD_SLOW;
    if (replay->exact_layer) return false;
    for (uint32_t c = 0; c < replay->spec->n_caches; c++)
        if (kv_cache_feeds_back(&replay->spec->caches[c])) return true;
    return false;
}

bool kv_replay_sweeps(const struct kv_replay *replay)
{
    const bool keeps_rows = replay->exact_layer || !replay->spec->caches[0].answer;
    return keeps_rows && replay->n_scored && !takes_slow_road(replay);
}

bool kv_replay_asks_logits(const struct kv_replay *replay)
{
    return kv_replay_sweeps(replay) && !replay->exact_layer && kv_spec_may_code(replay->spec);
}

/* From nothing to the caches after the prompt. */
static int take_prompt_in(struct unit *units, uint32_t n, struct kv_error *err)
{
    const struct kv_replay *replays = units->replay;
    struct kv_pool *rows = kv_pool_create(0);
    int status = rows ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for rows of the prompt");
    if (status == KV_OK && replays->widens_prompt) status = kv_prompt_rows_add(replays, n, rows, err);
    if (status == KV_OK) status = create_caches(units, n, err);
    if (status == KV_OK) status = kv_cache_prefill(units->main, err);
    if (replays->widens_prompt) kv_prompt_rows_forget(replays, n);
    kv_pool_destroy(rows);
    return status;
}

int kv_replay_keep(const struct kv_replay *replays, uint32_t n, struct kv_replay_account *accounts,
                   struct kv_pool *pool, struct kv_cache **main, struct kv_cache **rest,
                   struct kv_error *err)
{
    if (replays->spec->caches[0].answer && !replays->exact_layer) {
        *main = *rest = NULL, *accounts = (struct kv_replay_account){0};
        return kv_state_replay(replays, accounts, pool, err);
    }
    struct unit *units = kv_pool_take(pool, n * sizeof *units);
    if (!units) return kv_fail(err, KV_EMEMORY, "out of memory for a layer group");
    for (uint32_t u = 0; u < n; u++) {
        accounts[u] = (struct kv_replay_account){0};
        units[u] = (struct unit){.replay = &replays[u], .pool = pool, .account = &accounts[u],
                                 .geometry = &replays[u].owner->info->geometry, .group = units,
                                 .n_group = n, .member = u};
    }
    int status = take_prompt_in(units, n, err);
    if (status == KV_OK) status = audit_all(units, n, err);
    if (status == KV_OK)
        status = takes_slow_road(replays) ? run_slow(units, n, err) : run_fast(units, n, err);
    for (uint32_t u = 0; u < n; u++) {
        if (status == KV_OK) status = close_account(&units[u], err);
        main[u] = units[u].main, rest[u] = units[u].rest;
    }
    return status;
}

int kv_replay_group(const struct kv_replay *replays, uint32_t n, struct kv_replay_account *accounts,
                    struct kv_pool *pool, struct kv_error *err)
{
    struct kv_cache **caches = kv_pool_take(pool, 2 * (size_t)n * sizeof *caches);
    if (!caches) return kv_fail(err, KV_EMEMORY, "out of memory for a layer group");
    return kv_replay_keep(replays, n, accounts, pool, caches, caches + n, err);
}
