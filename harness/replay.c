/* The replay of one unit; see replay.h. */
#include "harness/replay.h"

#include <math.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/mirror.h"
#include "harness/query_rows.h"
#include "harness/slow_answer.h"

/* A cache that layers= leaves exact: everything stays, in the default codec. */
static const struct kv_cache_spec full_exact;

struct unit {                          /* what the two roads share */
    const struct kv_replay *replay;
    const struct kv_geometry *geometry;    /* of the owner: the cache's */
    struct kv_pool *pool;
    struct kv_cache *main, *rest;
    struct kv_replay_account *account;
};

uint32_t kv_replay_unit_heads(const struct kv_spec *spec, const struct kv_geometry *geometry)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        if (kv_cache_joins_heads(&spec->caches[c])) return geometry->kv_heads;
    return 1;
}

static int check_stop(const struct kv_replay *replay, struct kv_error *err)
{
    if (replay->stop && *replay->stop) return kv_fail(err, KV_EINTERRUPTED, "interrupted");
    if (replay->deadline > 0.0 && kv_clock_seconds() > replay->deadline)
        return kv_fail(err, KV_ETIMEOUT, "the cell's time is over");
    return KV_OK;
}

static int create_caches(struct unit *unit, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    const struct kv_spec *spec = replay->spec;
    struct kv_cache_plan plan = {
        .source = {.geometry = unit->geometry, .keys = &replay->owner->k, .values = &replay->owner->v},
        .kernels = replay->kernels, .pool = unit->pool,
        .prompts = replay->prompts ? replay->prompts + replay->first_head : NULL,
        .first_head = replay->first_head, .n_heads = replay->n_heads, .seed = replay->seed,
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
    return kv_cache_create(&unit->main, &plan, err);
}

static void add_bytes(struct kv_cache_bytes *sum, const struct kv_cache *cache)
{
    const struct kv_cache_bytes one = kv_cache_count(cache);
    for (int side = 0; side < 2; side++) {
        sum->payload[side] += one.payload[side];
        sum->metadata[side] += one.metadata[side];
        sum->residual[side] += one.residual[side];
        sum->basis[side] += one.basis[side];
    }
    sum->joint |= one.joint;
}

static int64_t policy_bytes(const struct unit *unit, const struct kv_cache_bytes *bytes)
{
    return kv_pool_used(unit->pool, KV_METADATA) - bytes->metadata[0] - bytes->metadata[1];
}

/* The banks' own counts, and what the pool was charged, must be the same bytes. */
static int audit(const struct unit *unit, struct kv_error *err)
{
    int status = kv_cache_audit(unit->main, err);
    if (status == KV_OK && unit->rest) status = kv_cache_audit(unit->rest, err);
    if (status != KV_OK) return status;
    struct kv_cache_bytes bytes = {0};
    add_bytes(&bytes, unit->main);
    if (unit->rest) add_bytes(&bytes, unit->rest);
    const int64_t payload = kv_pool_used(unit->pool, KV_PAYLOAD);
    const int64_t residual = kv_pool_used(unit->pool, KV_RESIDUAL);
    if (payload == bytes.payload[0] + bytes.payload[1] &&
        residual == bytes.residual[0] + bytes.residual[1] && policy_bytes(unit, &bytes) >= 0)
        return KV_OK;
    return kv_fail(err, KV_EGATE, "charged %lld payload and %lld residual bytes, banks count %lld and %lld",
                   (long long)payload, (long long)residual,
                   (long long)(bytes.payload[0] + bytes.payload[1]),
                   (long long)(bytes.residual[0] + bytes.residual[1]));
}

/* Stored bytes that a step touches when all held rows are read. */
static void count_reads(struct unit *unit)
{
    struct kv_cache_bytes bytes = {0};
    add_bytes(&bytes, unit->main);
    if (unit->rest) add_bytes(&bytes, unit->rest);
    for (int side = 0; side < 2; side++)
        unit->account->read_bytes +=
            (double)(bytes.payload[side] + bytes.metadata[side] + bytes.residual[side]);
    unit->account->read_bytes += (double)policy_bytes(unit, &bytes);
}

/* -- the fast road ------------------------------------------------------------------------------ */

struct joined_reader {                 /* lines of the main cache, then those of the rest */
    struct kv_line_reader main, rest;
    uint32_t n_main;
};

static void decode_joined(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    struct joined_reader *reader = source;
    const struct kv_geometry *geometry = reader->main.cache->plan.source.geometry;
    const uint32_t own = first >= reader->n_main       ? 0
                         : first + n > reader->n_main ? reader->n_main - first
                                                      : n;
    if (own) kv_cache_decode_lines(&reader->main, first, own, keys, values);
    if (own == n) return;
    kv_cache_decode_lines(&reader->rest, first + own - reader->n_main, n - own,
                          keys ? keys + (size_t)own * geometry->key_dim : NULL,
                          values ? values + (size_t)own * geometry->value_dim : NULL);
}

static int join_lines(struct unit *unit, uint32_t lane, struct joined_reader *reader,
                      struct kv_lines *lines, struct kv_error *err)
{
    const struct kv_line_list *main = &unit->main->lanes[lane].lines;
    *reader = (struct joined_reader){.main = {unit->main, lane}, .rest = {unit->rest, lane},
                                     .n_main = main->n};
    *lines = (struct kv_lines){.n = main->n, .position = main->position, .from = main->from,
                               .until = main->until, .coded = main->coded, .decode = decode_joined,
                               .source = reader};
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

static int sweep_lane(struct unit *unit, uint32_t lane, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const uint32_t head = replay->first_head + lane, n = replay->n_scored * geometry->group;
    const struct kv_answer_arrays arrays = lane_arrays(replay, head);
    struct joined_reader reader;
    struct kv_sweep sweep = {.kernels = replay->kernels, .geometry = geometry};
    int status = join_lines(unit, lane, &reader, &sweep.lines, err);
    if (status != KV_OK) return status;
    float *queries = kv_pool_take(unit->pool, (size_t)n * geometry->key_dim * sizeof *queries);
    float *sinks = kv_pool_take(unit->pool, n * sizeof *sinks);
    uint32_t *tokens = kv_pool_take(unit->pool, n * sizeof *tokens);
    if (!queries || !sinks || !tokens) return kv_fail(err, KV_EMEMORY, "out of memory for queries");
    kv_widen_queries(replay->reader, head, replay->scored, replay->n_scored, replay->kernels, queries);
    for (uint32_t r = 0; r < n; r++) {
        tokens[r] = replay->scored[r / geometry->group];
        if (geometry->sink_logits)
            sinks[r] = geometry->sink_logits[head * geometry->group + r % geometry->group];
    }
    sweep.rows = (struct kv_rows){.n = n, .queries = queries, .token = tokens,
                                  .sink_logit = geometry->sink_logits ? sinks : NULL};
    sweep.answers = (struct kv_answers){.outputs = arrays.outputs, .log_sum_exp = arrays.log_sum_exp};
    const struct kv_compare compare = {
        .keys = &replay->reader->k, .head = head,
        .exact_log_sum_exp = replay->exact_log_sum_exp + (arrays.log_sum_exp - replay->answers.log_sum_exp),
        .spans = replay->spans, .divergence = arrays.divergence, .held_mass = arrays.held_mass,
        .drift = arrays.drift, .span_mass = arrays.span_mass};
    if (replay->exact_log_sum_exp) sweep.compare = &compare;
    float *scratch = kv_pool_take(unit->pool, kv_sweep_scratch(&sweep) * sizeof *scratch);
    if (!scratch) return kv_fail(err, KV_EMEMORY, "out of memory for the sweep");
    kv_sweep_run(&sweep, scratch);
    bool coded = false;
    for (uint32_t l = 0; l < sweep.lines.n; l++) coded |= sweep.lines.coded[l];
    for (uint32_t r = 0; !coded && sweep.compare && r < n; r++) arrays.drift[r] = NAN;
    return KV_OK;
}

static int run_fast(struct unit *unit, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t t = unit->geometry->prefill; t < unit->geometry->tokens; t++) {
        kv_cache_begin(unit->main, t, NULL);
        count_reads(unit);
        kv_cache_end(unit->main, t, NULL);
        if (unit->replay->audit && (status = audit(unit, err)) != KV_OK) return status;
        if (t % 64 == 0 && (status = check_stop(unit->replay, err)) != KV_OK) return status;
    }
    for (uint32_t lane = 0; status == KV_OK && lane < unit->replay->n_heads; lane++) {
        status = check_stop(unit->replay, err);
        if (status == KV_OK) status = sweep_lane(unit, lane, err);
    }
    return status;
}

/* -- the slow road ------------------------------------------------------------------------------ */

static int run_slow(struct unit *unit, struct kv_error *err)
{
    const struct kv_replay *replay = unit->replay;
    struct kv_slow *slow;
    int status = kv_slow_create(&slow, replay, unit->main, unit->rest, unit->pool, err);
    uint32_t scored = 0;
    for (uint32_t t = unit->geometry->prefill; status == KV_OK && t < unit->geometry->tokens; t++) {
        kv_cache_begin(unit->main, t, kv_slow_queries(slow, t));
        const bool wanted = scored < replay->n_scored && replay->scored[scored] == t;
        unit->account->read_bytes += kv_slow_step(slow, t, wanted ? scored++ : UINT32_MAX);
        if (!kv_cache_selects(unit->main->plan.spec)) count_reads(unit);
        kv_cache_end(unit->main, t, kv_slow_weights(slow));
        if (replay->audit) status = audit(unit, err);
        if (status == KV_OK && t % 16 == 0) status = check_stop(replay, err);
    }
    return status;
}

/* -- the account -------------------------------------------------------------------------------- */

/* Errors of the decoded rows that are still held, against the recorded ones. */
static int compare_rows(struct unit *unit, struct kv_cache *cache, uint32_t index, struct kv_error *err)
{
    const struct kv_held *lane = &cache->lanes[index];
    const uint32_t dims[2] = {unit->geometry->key_dim, unit->geometry->value_dim};
    float *rows[2], *recorded = kv_pool_take(unit->pool, (dims[0] + dims[1]) * sizeof(float));
    for (int side = 0; side < 2; side++)
        rows[side] = kv_pool_take(unit->pool, (size_t)lane->n * dims[side] * sizeof(float));
    if (!rows[0] || !rows[1] || !recorded) return kv_fail(err, KV_EMEMORY, "out of memory for rows");
    kv_cache_read(cache, index, lane->n, lane->positions, rows[0], rows[1]);
    double error2[2] = {0}, norm2[2] = {0};
    for (uint32_t i = 0; i < lane->n; i++)
        for (int side = 0; side < 2; side++) {
            const struct kv_tensor *tensor = side ? &unit->replay->owner->v : &unit->replay->owner->k;
            kv_widen_rows(tensor, lane->head, lane->positions[i], 1, unit->replay->kernels, recorded);
            const float *row = rows[side] + (size_t)i * dims[side];
            for (uint32_t c = 0; c < dims[side]; c++) {
                const double x = recorded[c], delta = row[c] - x;
                error2[side] += delta * delta, norm2[side] += x * x;
            }
        }
    unit->account->key_error2 += error2[0], unit->account->key_norm2 += norm2[0];
    unit->account->value_error2 += error2[1], unit->account->value_norm2 += norm2[1];
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
                                   caches[c]->banks[b].code->block * caches[c]->banks[b].n_heads;
    }
    account->policy_bytes = policy_bytes(unit, &account->bytes);
    account->shared_basis = kv_pool_used(unit->pool, KV_BASIS_SHARED);
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

int kv_replay_keep(const struct kv_replay *replay, struct kv_replay_account *account,
                   struct kv_pool *pool, struct kv_cache **main, struct kv_cache **rest,
                   struct kv_error *err)
{
    struct unit unit = {.replay = replay, .geometry = &replay->owner->info->geometry, .pool = pool,
                        .account = account};
    *account = (struct kv_replay_account){0};
    int status = create_caches(&unit, err);
    if (status == KV_OK) status = kv_cache_prefill(unit.main, err);
    if (status == KV_OK && replay->audit) status = audit(&unit, err);
    if (status == KV_OK) status = takes_slow_road(replay) ? run_slow(&unit, err) : run_fast(&unit, err);
    if (status == KV_OK) status = close_account(&unit, err);
    *main = unit.main, *rest = unit.rest;
    return status;
}

int kv_replay_run(const struct kv_replay *replay, struct kv_replay_account *account,
                  struct kv_error *err)
{
    struct kv_pool *pool = kv_pool_create(0);
    if (!pool) return kv_fail(err, KV_EMEMORY, "out of memory for a pool");
    struct kv_cache *main, *rest;
    const int status = kv_replay_keep(replay, account, pool, &main, &rest, err);
    kv_pool_destroy(pool);
    return status;
}
