/* perf encode: rows of 16-bit floats, in the L2 cache, to atoms, as a prompt's come: some at once.
 *
 * TurboQuant's four bits are counted in steps of 64 floating-point operations a row of 128 (goal:
 * 145, which are cycles with two 512-bit units); every other encoder beside reading its input once.
 * Each takes turns with itself in plain C, which must and does give the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"
#include "harness/perf/benches.h"
#include "harness/perf/cached_tile.h"
#include "harness/perf/coded_rows.h"
#include "harness/perf/coding_steps.h"

/* A row each: floats narrowed, floats of 8 and 4 bits, blocks, grids, codebooks, transforms,
 * floors, and two that work around another. */
static const char encoders[] = "turboquant:bits=4,f32,f16,bf16,fp8,fp8:scale=token,nvfp4,mxfp4,"
                               "q8_0,q5_1,q5_0,q4_1,q4_0,iq4_nl,int:bits=8,int:bits=4,kivi,"
                               "kvquant:weights=none,gear,qjl,polar-han,polar-wu,ternary,sign,"
                               "outliers,svd";

enum { TIMES_READING = 3 }; /* the goal */

struct encoding {
    struct kv_coded_rows coded;
    const uint16_t *halves;
    const struct kv_spec *spec;
    float *rows; /* [kv_atoms_at_once * block][dim] */
    bool turboquant;
};

static double encode_all(void *context)
{
    struct encoding *work = context;
    struct kv_code *code = work->coded.code;
    const uint32_t n_atoms = work->coded.n / code->block, at_once = kv_atoms_at_once(code);
    const size_t size = (size_t)code->block * code->dim;
    for (uint32_t a = 0; a < n_atoms; a += at_once) {
        const uint32_t some = n_atoms - a < at_once ? n_atoms - a : at_once;
        work->coded.kernels.widen_half(work->halves + a * size, work->rows, some * size);
        kv_encode_atoms(code, work->rows, some, work->coded.atoms + a * kv_atom_bytes(code));
    }
    return work->coded.n;
}

struct halves {
    uint16_t *halves;
    float *floats;
    uint32_t n, dim;
};

static double encode_bytes(void *context)
{
    struct encoding *work = context;
    return 2.0 * work->coded.code->dim * encode_all(context);
}

static int prepare(struct encoding *work, const struct kv_spec *spec,
                   const struct kv_kernels *kernels, const struct halves *data,
                   struct kv_error *err)
{
    *work = (struct encoding){.halves = data->halves, .spec = spec};
    int status = kv_coded_rows_create(&work->coded, spec, kernels, KV_KEYS, data->floats, data->n,
                                      data->dim, err);
    if (status != KV_OK) return status;
    const size_t rows = (size_t)kv_atoms_at_once(work->coded.code) * work->coded.code->block;
    work->rows = kv_pool_take(work->coded.pool, rows * data->dim * sizeof *work->rows);
    return work->rows ? KV_OK : kv_fail(err, KV_EMEMORY, "perf encode: out of memory");
}

/* Bytes that differ from the generic set's are an error and no row. */
static int same_bytes(const struct encoding *ours, const struct encoding *plain, const char *name,
                      struct kv_error *err)
{
    const size_t bytes = ours->coded.n / ours->coded.code->block * kv_atom_bytes(ours->coded.code);
    if (!memcmp(ours->coded.atoms, plain->coded.atoms, bytes)) return KV_OK;
    return kv_fail(err, KV_EGATE, "perf encode: %s: bytes differ from those of plain C", name);
}

/* What TurboQuant does not do without: the halves become floats. */
static double widen_bytes(void *context)
{
    struct encoding *work = context;
    const size_t size = (size_t)work->coded.code->block * work->coded.code->dim;
    const uint16_t *from = work->halves;
    for (uint32_t i = 0; i < work->coded.n; i += work->coded.code->block, from += size)
        work->coded.kernels.widen_half(from, work->rows, size);
    return 2.0 * work->coded.code->dim * work->coded.n;
}

/* Floating-point operations that encoders ask of the kernels that project, in one pass. */
static struct {
    const struct kv_kernels *kernels;
    double flops;
} counted;

static void count_rotate(const float *matrix, uint32_t rows, uint32_t columns, const float *x,
                         float *out)
{
    counted.flops += 2.0 * rows * columns;
    counted.kernels->rotate(matrix, rows, columns, x, out);
}

static void count_signs(const struct kv_projections *projections, const float *x, uint32_t n,
                        uint8_t *signs, size_t apart)
{
    counted.flops += 2.0 * projections->rows * projections->columns * n;
    counted.kernels->project_signs(projections, x, n, signs, apart);
}

/* Of one row. */
static double projection_flops(struct encoding *work)
{
    const struct kv_kernels kernels = work->coded.kernels;
    counted.kernels = &kernels, counted.flops = 0;
    work->coded.kernels.rotate = count_rotate, work->coded.kernels.project_signs = count_signs;
    const double rows = encode_all(work);
    work->coded.kernels = kernels;
    return counted.flops / rows;
}

/* What projections are of an encoder, all else that it does included in its time; read: seconds a
 * row. False: it has none. */
static bool explain_projections(struct encoding *work, double read, char *reason)
{
    const double flops = projection_flops(work);
    if (!(flops > 0)) return false;
    const struct kv_product_rate fastest = kv_product_rate(&work->coded.kernels, work->coded.code->dim);
    const double rows = kv_perf_best(encode_all, work);
    const double least = flops / fastest.flops / read;
    snprintf(reason, KV_PERF_REASON,
             "projections: %.0f flop a row, encoded at %.0f %% of the rate of %s; at the whole rate they "
             "alone take %.1f times the reading, %s",
             flops, 100 * flops * rows / fastest.flops, fastest.by, least,
             least > TIMES_READING ? "above the goal, which products of floats at that rate cannot meet"
                                   : "within the goal, which proves no limit");
    return true;
}

struct rotated {
    struct encoding *work;
    float out[4096];
};

/* TurboQuant's part that is a transform and nothing else. */
static double rotate_rows(void *context)
{
    struct rotated *rotated = context;
    struct encoding *work = rotated->work;
    const uint32_t rows = kv_atoms_at_once(work->coded.code);
    work->coded.kernels.hadamard(work->rows, NULL, rotated->out, work->coded.code->dim, rows);
    return rows;
}

struct stepped {
    struct encoding *work;
    struct kv_coding coding;
};

/* Steps of this encoder (coding_steps.h) over its input, and its atoms' bytes behind them. */
static double take_steps(void *context)
{
    struct stepped *stepped = context;
    const struct kv_coded_rows *coded = &stepped->work->coded;
    return 2 * coded->kernels.coding_peak(&stepped->coding, stepped->work->halves,
                                          (size_t)coded->n * coded->code->dim, coded->atoms);
}

/* Bytes that are written for KV_CODING values. */
static uint32_t written_bytes(const struct kv_coded_rows *coded)
{
    const uint32_t atoms = coded->n / coded->code->block;
    double bytes = (double)atoms * coded->code->payload_bytes;
    for (uint32_t a = 0; a < atoms; a++)
        bytes += kv_metadata_used(coded->code, coded->atoms + a * kv_atom_bytes(coded->code));
    return (uint32_t)(bytes * KV_CODING / ((double)coded->n * coded->code->dim));
}

/* False: this method's steps are not counted. */
static bool count_steps(struct encoding *work, struct stepped *stepped, char names[KV_CODING_NAMES])
{
    *stepped = (struct stepped){.work = work};
    if (!kv_coding_steps(work->spec->asked, &stepped->coding, names)) return false;
    stepped->coding.bytes = written_bytes(&work->coded);
    return true;
}

/* Where the steps are within the goal: codecs are given rows of floats, which are stored before and loaded again. */
static void explain_floats(struct stepped *stepped, double read, char *reason, size_t room)
{
    stepped->coding.floats = true;
    const double taken = 1 / kv_perf_best(take_steps, stepped) / read;
    const int said = snprintf(reason, room,
                              "within the goal, and with the floats that codecs are given, stored and loaded, %.2f: ",
                              taken);
    if (taken > TIMES_READING)
        snprintf(reason + said, room - (size_t)said, "above it, a limit of this core for codecs of floats");
    else
        snprintf(reason + said, room - (size_t)said,
                 "%.0f %% of it are left for what waits or is rare, and no limit is proven",
                 100 * (1 - taken / TIMES_READING));
}

/* A limit where the steps alone take longer than the goal allows. */
static void explain_steps(struct encoding *work, double read, char *reason)
{
    struct stepped stepped;
    char names[KV_CODING_NAMES];
    const bool known = count_steps(work, &stepped, names);
    if (!known || take_steps(&stepped) <= 0) {
        snprintf(reason, KV_PERF_REASON, "no reason found: %s",
                 known ? "these kernels have nothing that takes the steps alone"
                       : "this method's steps are not counted");
        return;
    }
    const struct kv_coding *coding = &stepped.coding;
    const double least = 1 / kv_perf_best(take_steps, &stepped) / read;
    const int said = snprintf(
        reason, KV_PERF_REASON,
        "halves widened%s%s, and %u bytes of an atom written, by the fewest operations known (%u on "
        "lanes, %u shifts, %u shuffles of 512 bits a row of %d), none of which waits for another, "
        "take %.2f times the reading, ",
        *names ? ", " : "", names, coding->bytes, coding->lanes, coding->shifts, coding->shuffles,
        KV_CODING, least);
    if (least > TIMES_READING)
        snprintf(reason + said, (size_t)(KV_PERF_REASON - said),
                 "above the goal: a limit of this core for these steps");
    else
        explain_floats(&stepped, read, reason + said, (size_t)(KV_PERF_REASON - said));
}

/* TurboQuant in steps of 64 flop: its parts alone, and the fewest operations known for all of them. */
static void explain_turboquant(struct encoding *work, double widen, double taken, char *reason)
{
    struct rotated rotated = {.work = work};
    struct stepped stepped;
    char names[KV_CODING_NAMES];
    const double steps = kv_perf_best(kv_perf_wide_steps, &work->coded.kernels);
    const double transform = steps / kv_perf_best(rotate_rows, &rotated);
    const int said = snprintf(
        reason, KV_PERF_REASON,
        "alone: widening the halves %.0f steps, the transform %.0f; of %.0f, %.0f are left for norm, "
        "16 cells a value and packing",
        widen * steps, transform, taken, taken - widen * steps - transform);
    if (count_steps(work, &stepped, names) && take_steps(&stepped) > 0)
        snprintf(reason + said, (size_t)(KV_PERF_REASON - said),
                 "; the fewest operations known for all of it, none of which waits for another, take %.0f",
                 steps * 2 * work->coded.code->dim / kv_perf_best(take_steps, &stepped));
}

/* Times of these steps alone, beside the limit's. */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    struct encoding *work = context;
    const double bytes = 2.0 * work->coded.code->dim;
    const double widen = bytes / kv_perf_best(widen_bytes, work);
    if (work->turboquant) {
        explain_turboquant(work, widen, seen->ratio, reason);
        return;
    }
    struct kv_perf_buffer buffer = kv_perf_buffer_of(work->halves, (size_t)(bytes * work->coded.n));
    const double read = 1 / kv_perf_best(kv_perf_read, &buffer); /* seconds a byte, as below */
    if (!explain_projections(work, read * bytes, reason)) explain_steps(work, read, reason);
}

static int measure(struct kv_perf *perf, const struct kv_spec *spec, const struct halves *data,
                   const struct kv_kernels *generic, struct kv_error *err)
{
    char name[64];
    struct encoding ours = {0}, plain = {0};
    struct kv_perf_buffer buffer = kv_perf_buffer_of(data->halves, (size_t)data->n * data->dim * 2);
    const bool turboquant = data->dim == 128 && strstr(spec->text, "turboquant:bits=4") &&
                            !strstr(spec->text, "mode=prod");
    snprintf(name, sizeof name, "%.40s d=%u", spec->asked, data->dim);
    int status = prepare(&ours, spec, &perf->kernels, data, err);
    if (status == KV_OK) status = prepare(&plain, spec, generic, data, err);
    if (status == KV_OK) status = same_bytes(&ours, &plain, name, err);
    kv_perf_work *const run = turboquant ? encode_all : encode_bytes;
    const struct kv_perf_case row = {
        .name = name,
        .unit = turboquant ? "M/s" : "GB/s",
        .unit_size = turboquant ? 1e6 : 1e9,
        .limit = turboquant ? (struct kv_perf_side){"64 flop", kv_perf_wide_steps, &perf->kernels}
                            : (struct kv_perf_side){"read from L2", kv_perf_read, &buffer},
        .ours = {"encode", run, &ours},
        .yardstick = {"plain C", run, &plain},
        .kind = KV_PERF_AT_MOST,
        .goal = turboquant ? 145 : TIMES_READING,
        .shape = turboquant ? "vectors=4096 dim=128" : NULL,
        .shape_work = 4096,
        .explain = explain};
    ours.turboquant = turboquant;
    if (status == KV_OK)
        status = kv_perf_measure(perf, &row, err);
    else if (status == KV_EUNSUPPORTED || status == KV_ESKIPPED)
        status = kv_perf_skip(perf, name, err->text, err);
    kv_coded_rows_free(&ours.coded);
    kv_coded_rows_free(&plain.coded);
    return status;
}

static int make_halves(struct halves *data, uint32_t n, uint32_t dim,
                       const struct kv_kernels *kernels)
{
    const size_t size = (size_t)n * dim;
    *data = (struct halves){kv_large_alloc(size * sizeof *data->halves), kv_perf_normals(size, 1),
                            n, dim};
    if (!data->halves || !data->floats) return KV_EMEMORY;
    kernels->narrow_half(data->floats, data->halves, size);
    kernels->widen_half(data->halves, data->floats, size);
    return KV_OK;
}

int kv_perf_encode(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_dims[] = {128};
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 1, 64);
    struct kv_spec_list specs;
    struct kv_kernels generic;
    int status = kv_kernels_fill(&generic, "generic", err);
    if (status == KV_OK) status = kv_perf_specs(&specs, perf->options.method, encoders, err);
    if (status != KV_OK) return status;
    for (uint32_t d = 0; status == KV_OK && d < dims.n; d++) {
        struct halves data;
        status = make_halves(&data, perf->options.tiny ? 128 : 512, dims.at[d], &generic);
        if (status != KV_OK) kv_fail(err, status, "perf encode: out of memory");
        for (uint32_t s = 0; status == KV_OK && s < specs.n; s++)
            status = measure(perf, &specs.specs[s], &data, &generic, err);
        free(data.halves);
        free(data.floats);
    }
    kv_spec_free(&specs);
    return status;
}
