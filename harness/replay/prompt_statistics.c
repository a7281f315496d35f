/* Prompt statistics; see prompt_statistics.h. */
#include "harness/replay/prompt_statistics.h"

#include <math.h>
#include <string.h>

#include "harness/replay/probe_squares.h"
#include "harness/replay/query_rows.h"
#include "methods/sweep/sweep.h"

/* Prompt queries swept at a time, and rows and floats of the logits that a sweep keeps for the weights: these bound
 * the memory, not the result. More rows would spare little, and L2 has no room for them. */
enum { BLOCK_TOKENS = 256, KEPT_ROWS = 4 * KV_SWEEP_BLOCK, KEPT_FLOATS = 1 << 20 };

struct rows_buffer { float *queries, *log_sum_exp, *sinks, *scratch, *kept, *shifts; uint32_t *token; size_t most; };

/* For n queries at a time. */
static int reserve_rows(struct rows_buffer *rows, struct kv_sweep *sweep, size_t n, struct kv_pool *pool,
                        struct kv_error *err)
{
    const struct kv_geometry *geometry = sweep->geometry;
    rows->queries = kv_pool_room(pool, n * geometry->key_dim * sizeof(float));
    rows->log_sum_exp = kv_pool_take(pool, n * sizeof(float));
    rows->sinks = kv_pool_take(pool, n * sizeof(float));
    rows->token = kv_pool_take(pool, n * sizeof(uint32_t));
    rows->shifts = kv_pool_room(pool, n * kv_kept_tiles(geometry->tokens) * sizeof(float));
    rows->most = n;
    sweep->rows.n = (uint32_t)n;
    rows->scratch = kv_pool_room(pool, kv_sweep_scratch(sweep) * sizeof(float));
    const size_t all = n * kv_kept_stride(geometry->tokens);
    rows->kept = kv_pool_room(pool, (all < KEPT_FLOATS ? all : KEPT_FLOATS) * sizeof(float));
    if (rows->queries && rows->log_sum_exp && rows->sinks && rows->token && rows->scratch && rows->kept &&
        rows->shifts)
        return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
}

/* Points the sweep at the queries of query heads first_head .. + heads - 1, tokens first .. + n - 1. */
static void load_rows(struct kv_sweep *sweep, const struct rows_buffer *buffer,
                      const struct kv_layer *layer, uint32_t first_head, uint32_t heads,
                      uint32_t first, uint32_t n)
{
    const struct kv_geometry *geometry = sweep->geometry;
    float *query = buffer->queries;
    for (uint32_t r = 0; r < n * heads; r++, query += geometry->key_dim) {
        const uint32_t head = first_head + r % heads;
        buffer->token[r] = first + r / heads;
        kv_widen_rows(&layer->q, head, buffer->token[r], 1, sweep->kernels, query);
        if (geometry->sink_logits) buffer->sinks[r] = geometry->sink_logits[head];
    }
    sweep->rows = (struct kv_rows){.n = n * heads, .queries = buffer->queries,
                                   .token = buffer->token,
                                   .sink_logit = geometry->sink_logits ? buffer->sinks : NULL};
    sweep->answers = (struct kv_answers){.log_sum_exp = buffer->log_sum_exp};
}

/* What a sweep of so many rows and lines keeps for the weights. Those of the plain kernels are the definition: a
 * rounding less. */
static struct kv_kept keep(const struct rows_buffer *buffer, const struct kv_kernels *kernels, uint32_t rows,
                           uint32_t lines)
{
    return (struct kv_kept){.logits = buffer->kept, .rows = rows, .stride = kv_kept_stride(lines),
                            .shifts = strcmp(kernels->isa, "generic") ? buffer->shifts : NULL};
}

/* How many queries from `first` on are swept at once: as many as keep their logits, in whole blocks; or
 * all that there is room for, and their logits are computed twice. */
static uint32_t rows_at_once(const struct rows_buffer *buffer, uint32_t first, uint32_t left, struct kv_sweep *sweep)
{
    const uint32_t most = left < buffer->most ? left : (uint32_t)buffer->most;
    sweep->kept = (struct kv_kept){0};
    uint32_t rows = most < KEPT_ROWS ? most : KEPT_ROWS;
    while (rows > KV_SWEEP_BLOCK && (size_t)rows * kv_kept_stride(first + rows) > KEPT_FLOATS)
        rows = (rows - 1) / KV_SWEEP_BLOCK * KV_SWEEP_BLOCK;
    if ((size_t)rows * kv_kept_stride(first + rows) > KEPT_FLOATS) return most;
    sweep->kept = keep(buffer, sweep->kernels, rows, first + rows);
    return rows;
}

/* Adds the weights of the queries [0, to) of each query head of the group to its column_sum
 * [group][lines.n]. */
static void sum_columns(struct kv_sweep *sweep, const struct rows_buffer *buffer,
                        const struct kv_layer *layer, uint32_t head, uint32_t to, double *column_sum)
{
    const uint32_t group = sweep->geometry->group, lines = sweep->lines.n;
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t first = 0, n; first < to; first += n) {
            n = rows_at_once(buffer, first, to - first, sweep);
            load_rows(sweep, buffer, layer, head * group + g, 1, first, n);
            sweep->lines.n = first + n;    /* no query sees a later one */
            kv_sweep_run(sweep, buffer->scratch);
            kv_sweep_weights(sweep, column_sum + (size_t)g * lines, NULL, buffer->scratch);
            sweep->lines.n = lines;
        }
    sweep->kept = (struct kv_kept){0};
}

static int reserve_prompt(struct kv_prompt *prompt, const struct kv_layer *layer,
                          const struct kv_wants *wants, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n = geometry->prefill, tokens = geometry->tokens;
    prompt->n = n;
    prompt->tail = wants->tail < n ? wants->tail : n;
    prompt->column_sum = kv_pool_take(pool, (wants->column_sum ? (size_t)n * geometry->group : 0) * sizeof(double));
    prompt->future_sum = kv_pool_take(pool, (wants->future ? (size_t)tokens * geometry->group : 0) * sizeof(double));
    prompt->tail_weights =
        kv_pool_take(pool, (size_t)prompt->tail * geometry->group * n * sizeof(float));
    if (prompt->column_sum && prompt->future_sum && prompt->tail_weights) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
}

int kv_prompt_rows(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                   const struct kv_wants *wants, const struct kv_kernels *kernels, struct kv_pool *pool,
                   struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const size_t n = prompt->n, rows = wants->prompt_rows ? n : 0, queries = n * geometry->key_dim;
    prompt->queries = kv_pool_room(pool, wants->queries ? geometry->group * queries * sizeof(float) : 0);
    prompt->keys = kv_pool_room(pool, rows * geometry->key_dim * sizeof(float));
    prompt->values = kv_pool_room(pool, rows * geometry->value_dim * sizeof(float));
    if (!prompt->queries || !prompt->keys || !prompt->values)
        return kv_fail(err, KV_EMEMORY, "out of memory for rows of the prompt");
    if (wants->prompt_rows) {
        kv_widen_rows(&layer->k, head, 0, prompt->n, kernels, (float *)prompt->keys);
        kv_widen_rows(&layer->v, head, 0, prompt->n, kernels, (float *)prompt->values);
    }
    for (uint32_t g = 0; wants->queries && g < geometry->group; g++)
        kv_widen_rows(&layer->q, head * geometry->group + g, 0, prompt->n, kernels,
                      (float *)prompt->queries + g * queries);
    return KV_OK;
}

enum { OUTPUT_ROWS = 64 };     /* rows of W_o multiplied at a time */

/* norms[t] += |W_o v_t|_1 of one query head; panels hold the values, products [OUTPUT_ROWS][columns]. */
static void add_output_norms(double *norms, const struct kv_layer *layer, uint32_t q_head, const float *panels,
                             const struct kv_kernels *kernels, float *rows, float *products)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t dim = geometry->value_dim, n = geometry->prefill;
    const uint32_t columns = (n + kernels->panel - 1) / kernels->panel * kernels->panel;
    const size_t stride = (size_t)geometry->q_heads * dim;
    for (uint32_t first = 0; first < layer->hidden; first += OUTPUT_ROWS) {
        const uint32_t count = layer->hidden - first < OUTPUT_ROWS ? layer->hidden - first : OUTPUT_ROWS;
        for (uint32_t r = 0; r < count; r++)
            memcpy(rows + (size_t)r * dim, layer->w_o + (first + r) * stride + (size_t)q_head * dim,
                   dim * sizeof *rows);
        kernels->logits(rows, count, dim, panels, columns, 1.0f, products, columns);
        for (uint32_t r = 0; r < count; r++)
            for (uint32_t t = 0; t < n; t++) norms[t] += fabs((double)products[(size_t)r * columns + t]);
    }
}

static int compute_output_norms(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                                const struct kv_kernels *kernels, struct kv_pool *pool, struct kv_pool *work,
                                struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n = geometry->prefill, dim = geometry->value_dim, group = geometry->group;
    const size_t columns = ((size_t)n + kernels->panel - 1) / kernels->panel * kernels->panel;
    float *norms = kv_pool_take(pool, n * sizeof *norms);
    double *sums = kv_pool_take(work, n * sizeof *sums);
    float *values = kv_pool_take(work, (size_t)n * dim * sizeof *values);
    float *panels = kv_pool_take(work, columns * dim * sizeof *panels);
    float *rows = kv_pool_take(work, (size_t)OUTPUT_ROWS * dim * sizeof *rows);
    float *products = kv_pool_take(work, OUTPUT_ROWS * columns * sizeof *products);
    if (!norms || !sums || !values || !panels || !rows || !products)
        return kv_fail(err, KV_EMEMORY, "out of memory for output norms");
    kv_widen_rows(&layer->v, head, 0, n, kernels, values);
    kernels->pack_keys(values, n, dim, panels);
    for (uint32_t g = 0; g < group; g++)
        add_output_norms(sums, layer, head * group + g, panels, kernels, rows, products);
    for (uint32_t t = 0; t < n; t++) norms[t] = (float)(sums[t] / group);
    prompt->output_norms = norms;
    return KV_OK;
}

/* The weights of the last queries, of all query heads at once. */
static void weigh_tail(struct kv_sweep *sweep, const struct rows_buffer *buffer, const struct kv_layer *layer,
                       uint32_t head, struct kv_prompt *prompt)
{
    const uint32_t n = prompt->n, group = sweep->geometry->group, stride = kv_kept_stride(n);
    for (uint32_t first = n - prompt->tail; first < n; first += BLOCK_TOKENS) {
        const uint32_t count = n - first < BLOCK_TOKENS ? n - first : BLOCK_TOKENS, rows = count * group;
        const bool keeps = (size_t)rows * stride <= KEPT_FLOATS;
        sweep->kept = keeps ? keep(buffer, sweep->kernels, rows, n) : (struct kv_kept){0};
        load_rows(sweep, buffer, layer, head * group, group, first, count);
        kv_sweep_run(sweep, buffer->scratch);
        const size_t row = (size_t)(first - (n - prompt->tail)) * group;
        kv_sweep_weights(sweep, NULL, (float *)prompt->tail_weights + row * n, buffer->scratch);
    }
    sweep->kept = (struct kv_kept){0};
}

/* Weights of the prompt's queries, as far as wanted; the work is done in `pool`. */
static int weigh_prompt(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                        const struct kv_wants *wants, const struct kv_kernels *kernels, struct kv_pool *pool,
                        struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n = geometry->prefill, tokens = geometry->tokens;
    uint32_t *index = kv_pool_take(pool, 2 * (size_t)tokens * sizeof *index);
    if (!index) return kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
    struct kv_recorded recorded = {.layer = layer, .kernels = kernels, .head = head};
    struct kv_sweep sweep = {.kernels = kernels, .geometry = geometry,
                             .lines = kv_recorded_lines(&recorded, n, index)};
    struct rows_buffer buffer;
    const bool many = wants->column_sum || wants->future || prompt->tail > BLOCK_TOKENS;
    const uint32_t at_once = many ? BLOCK_TOKENS : prompt->tail;
    const int status = reserve_rows(&buffer, &sweep, (size_t)at_once * geometry->group, pool, err);
    if (status != KV_OK) return status;
    if (wants->column_sum) sum_columns(&sweep, &buffer, layer, head, n, (double *)prompt->column_sum);
    weigh_tail(&sweep, &buffer, layer, head, prompt);
    if (wants->future) {
        sweep.lines = kv_recorded_lines(&recorded, tokens, index);
        sum_columns(&sweep, &buffer, layer, head, tokens, (double *)prompt->future_sum);
    }
    return KV_OK;
}

/* What is computed with the help of rows that are not kept: `work` is theirs. */
static int compute_with(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                        const struct kv_wants *wants, const struct kv_kernels *kernels, struct kv_pool *pool,
                        struct kv_pool *work, struct kv_error *err)
{
    int status = kv_probe_squares(prompt, layer, head, wants, pool, work, err);
    if (status == KV_OK && wants->output_norms && layer->w_o)
        status = compute_output_norms(prompt, layer, head, kernels, pool, work, err);
    if (status == KV_OK && (wants->column_sum || wants->future || prompt->tail))
        status = weigh_prompt(prompt, layer, head, wants, kernels, work, err);
    return status;
}

int kv_prompt_compute(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                      const struct kv_wants *wants, const struct kv_kernels *kernels,
                      struct kv_pool *pool, struct kv_error *err)
{
    int status = reserve_prompt(prompt, layer, wants, pool, err);
    if (status == KV_OK) status = kv_prompt_rows(prompt, layer, head, wants, kernels, pool, err);
    if (status != KV_OK) return status;
    struct kv_pool *work = kv_pool_create(0);
    if (!work) return kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
    status = compute_with(prompt, layer, head, wants, kernels, pool, work, err);
    kv_pool_destroy(work);
    return status;
}
