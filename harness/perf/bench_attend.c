/* perf attend: query rows over a cache of codes beside the same rows over 32-bit floats. Every tile
 * is decoded once and read by all rows, so that the price of a codec falls with their number: at
 * most 1.05 times the time of floats from 96 rows on, 1.2 times at 24. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/coded_rows.h"
#include "harness/perf/gain.h"
#include "harness/perf/sweep_case.h"

enum { HEADS = 4, TILE = 256 };

struct attending {
    struct kv_sweep_case floats;
    struct kv_sweep sweep;         /* the same over codes */
    struct kv_coded_rows coded[2]; /* keys, values */
    float *spare, *scratch, *tile;
    float *queries, *sums; /* turned, where the codec reads rows so; timed with the rest */
};

static void decode_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    struct attending *work = source;
    kv_coded_rows_read(&work->coded[KV_KEYS], first, n, keys, work->spare);
    if (values) kv_coded_rows_read(&work->coded[KV_VALUES], first, n, values, work->spare);
}

static const struct kv_turn *turn_of(const struct attending *work, enum kv_side side)
{
    const struct kv_code *code = work->coded[side].code;
    return kv_turned_columns(code, side) ? code->type->turn : NULL;
}

static double attend_codes(void *context)
{
    struct attending *work = context;
    const struct kv_turn *keys = turn_of(work, KV_KEYS), *values = turn_of(work, KV_VALUES);
    const size_t dim = work->floats.geometry.key_dim;
    const uint32_t *columns = work->sweep.lines.columns;
    for (size_t r = 0; keys && r < work->sweep.rows.n; r++)
        keys->query(work->coded[KV_KEYS].code, 0, 0, work->floats.queries + r * dim,
                    work->queries + r * columns[0]);
    kv_sweep_run(&work->sweep, work->scratch);
    for (size_t r = 0; values && r < work->sweep.rows.n; r++) {
        memset(work->floats.outputs + r * dim, 0, dim * sizeof(float));
        values->output(work->coded[KV_VALUES].code, 0, work->sums + r * columns[1],
                       work->floats.outputs + r * dim);
    }
    return work->floats.flops;
}

/* Columns of a decoded row at most: rows as recorded, or as they are read. */
static size_t widest(const struct attending *work)
{
    uint32_t most = work->floats.geometry.key_dim;
    for (int side = 0; side < 2; side++) {
        const uint32_t columns = kv_coded_rows_columns(&work->coded[side]);
        most = columns > most ? columns : most;
    }
    return most;
}

/* Lines decoded, as the sweep does it. */
static double decode_tiles(void *context)
{
    struct attending *work = context;
    const struct kv_lines *lines = &work->sweep.lines;
    const size_t half = TILE * widest(work);
    for (uint32_t first = 0; first < lines->n; first += TILE)
        lines->decode(lines->source, first, lines->n - first < TILE ? lines->n - first : TILE,
                      work->tile, work->tile + half);
    return lines->n;
}

/* What is left of the goal for decoding, and what decoding alone takes. */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    (void)seen;
    struct attending *work = context;
    const double rows = work->sweep.rows.n, flops = 4.0 * work->floats.geometry.key_dim * rows;
    const double line = 1e9 * flops / kv_perf_best(kv_sweep_case_run, &work->floats);
    const double decoded = 1e9 / kv_perf_best(decode_tiles, work);
    struct kv_lines plain = work->sweep.lines;
    work->sweep.lines = work->floats.sweep.lines;
    const double copied = 1e9 / kv_perf_best(decode_tiles, work);
    work->sweep.lines = plain;
    snprintf(reason, KV_PERF_REASON,
             "decoding a row of keys and values alone takes %.0f ns, copying one of floats %.0f; "
             "the floats' sweep %.0f a row, so %.2f",
             decoded, copied, line, 1 + (decoded - copied) / line);
}

/* Every row sees every line that both sides have in whole atoms. */
static void see_all(struct attending *work)
{
    const struct kv_coded_rows *coded = work->coded;
    const uint32_t n = coded[0].n < coded[1].n ? coded[0].n : coded[1].n;
    struct kv_sweep *sweep = &work->floats.sweep;
    for (uint32_t r = 0; r < sweep->rows.n; r++)
        work->floats.token[r] = work->floats.geometry.tokens - 1;
    sweep->lines.n = n;
    work->floats.flops = 4.0 * work->floats.geometry.key_dim * n * sweep->rows.n;
    work->sweep = *sweep;
    work->sweep.lines.decode = decode_lines;
    work->sweep.lines.source = work;
}

/* Queries and sums of rows that are read without their way back. */
static bool reserve(struct attending *work)
{
    struct kv_sweep *sweep = &work->sweep;
    for (int side = 0; side < 2; side++)
        sweep->lines.columns[side] = kv_coded_rows_columns(&work->coded[side]);
    work->queries = calloc((size_t)sweep->rows.n * sweep->lines.columns[0], sizeof(float));
    work->sums = calloc((size_t)sweep->rows.n * sweep->lines.columns[1], sizeof(float));
    work->scratch = kv_perf_normals(kv_sweep_scratch(sweep), 5);
    if (turn_of(work, KV_KEYS)) sweep->rows.queries = work->queries;
    if (turn_of(work, KV_VALUES)) sweep->answers.outputs = work->sums;
    work->tile = kv_perf_normals(2 * TILE * widest(work), 8);
    return work->queries && work->sums && work->scratch && work->tile;
}

static int prepare(struct attending *work, struct kv_perf *perf, const struct kv_spec *spec,
                   const uint32_t shape[3], struct kv_error *err)
{
    const uint32_t tokens = shape[0], dim = shape[1], rows = shape[2];
    kv_sweep_case_create(&work->floats, &perf->kernels, tokens, dim, HEADS,
                         (rows + HEADS - 1) / HEADS);
    work->spare = kv_perf_normals((size_t)tokens * dim, 6);
    if (work->floats.bad || !work->spare)
        return kv_fail(err, KV_EMEMORY, "perf attend: out of memory");
    int status = KV_OK;
    for (int side = 0; status == KV_OK && side < 2; side++)
        status = kv_coded_rows_create(
            &work->coded[side], spec, &perf->kernels, side ? KV_VALUES : KV_KEYS,
            side ? work->floats.values : work->floats.keys, tokens, dim, err);
    if (status != KV_OK) return status;
    see_all(work);
    return reserve(work) ? KV_OK : kv_fail(err, KV_EMEMORY, "perf attend: out of memory");
}

static void free_work(struct attending *work)
{
    for (int side = 0; side < 2; side++) kv_coded_rows_free(&work->coded[side]);
    kv_sweep_case_free(&work->floats);
    free(work->spare), free(work->scratch), free(work->tile), free(work->queries), free(work->sums);
}

/* A head for each of two threads. */
static int measure_threads(struct kv_perf *perf, const struct kv_spec *spec,
                           const uint32_t shape[3], struct kv_error *err)
{
    struct attending work[2] = {0};
    char name[96];
    int status = KV_OK;
    for (int i = 0; status == KV_OK && i < 2; i++)
        status = prepare(&work[i], perf, spec, shape, err);
    snprintf(name, sizeof name, "%.20s %u rows d=%u, 2 threads", spec->asked, shape[2], shape[1]);
    const struct kv_gain gain = {attend_codes, {&work[0], &work[1]}};
    if (status == KV_OK)
        status = kv_gain_measure(perf, name, &gain, err);
    else if (status == KV_EUNSUPPORTED || status == KV_ESKIPPED)
        status = kv_perf_skip(perf, name, err->text, err);
    for (int i = 0; i < 2; i++) free_work(&work[i]);
    return status;
}

static int measure(struct kv_perf *perf, const struct kv_spec *spec, const uint32_t shape[3],
                   struct kv_error *err)
{
    char name[64];
    struct attending work = {0};
    snprintf(name, sizeof name, "%.20s %u rows d=%u", spec->asked, shape[2], shape[1]);
    int status = prepare(&work, perf, spec, shape, err);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GFLOP/s",
                                     .unit_size = 1e9,
                                     .limit = {"f32 cache", kv_sweep_case_run, &work.floats},
                                     .ours = {"codes", attend_codes, &work},
                                     .kind = KV_PERF_AT_MOST,
                                     .goal = shape[2] >= 96 ? 1.05 : 1.2,
                                     .explain = explain};
    if (status == KV_OK)
        status = kv_perf_measure(perf, &row, err);
    else if (status == KV_EUNSUPPORTED || status == KV_ESKIPPED)
        status = kv_perf_skip(perf, name, err->text, err);
    free_work(&work);
    return status;
}

int kv_perf_attend(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {4096}, own_dims[] = {128}, own_rows[] = {24, 96, 384};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 1, 256);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 1, 64);
    const struct kv_perf_sizes rows = kv_perf_sizes(perf, &perf->options.rows, own_rows, 3, 8);
    struct kv_spec_list specs;
    int status = kv_perf_specs(&specs, perf->options.method,
                               "f16,int:bits=4,kivi,turboquant:bits=4,q4_0,q8_0", err);
    if (status != KV_OK) return status;
    for (uint32_t s = 0; s < specs.n; s++)
        for (uint32_t t = 0; t < tokens.n; t++)
            for (uint32_t d = 0; d < dims.n; d++)
                for (uint32_t r = 0; status == KV_OK && r < rows.n; r++)
                    status =
                        measure(perf, &specs.specs[s],
                                (const uint32_t[3]){tokens.at[t], dims.at[d], rows.at[r]}, err);
    /* What a second thread brings, for the spec that decodes most cheaply and the one that most
     * methods resemble. */
    for (uint32_t s = 0; s < specs.n && s < 2; s++)
        if (status == KV_OK)
            status = measure_threads(
                perf, &specs.specs[s],
                (const uint32_t[3]){tokens.at[0], dims.at[0], rows.at[rows.n - 1]}, err);
    kv_spec_free(&specs);
    return status;
}
