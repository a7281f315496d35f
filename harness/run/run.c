/* A run; see run.h. */
#include "harness/run/run.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/output/row.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/layers/read_ahead.h"
#include "harness/run/trace_run.h"

static int reserve_results(const struct kv_run_request *request, struct kv_results *results,
                           uint32_t per_trace, struct kv_error *err)
{
    results->traces = calloc(request->n_traces, sizeof *results->traces);
    results->cells = calloc((size_t)request->n_traces * per_trace, sizeof *results->cells);
    results->specs = calloc(request->specs->n, sizeof *results->specs);
    if (!results->traces || !results->cells || !results->specs)
        return kv_fail(err, KV_EMEMORY, "out of memory for results");
    for (uint32_t c = 0; c < request->n_traces * per_trace; c++) kv_cell_init(&results->cells[c]);
    for (uint32_t s = 0; s < request->specs->n; s++, results->n_specs++)
        if (!(results->specs[s] = strdup(request->specs->specs[s].text)))
            return kv_fail(err, KV_EMEMORY, "out of memory for results");
    return KV_OK;
}

static int worst_cell(const struct kv_results *results, struct kv_error *err)
{
    uint32_t bad = 0;
    for (uint32_t c = 0; c < results->n_cells; c++) {
        const char *status = results->cells[c].row.status;
        bad += !status || strcmp(status, "ok") != 0;
    }
    if (!bad) return KV_OK;
    return kv_fail(err, KV_ECELL, "%u of %u cells have no result; their rows say why", bad,
                   results->n_cells);
}

/* Of all recordings before the first cell of the first: a layer mistyped must not cost hours. One that cannot be
 * opened is told when its turn comes. */
static int check_layers(const struct kv_run_request *request, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t t = 0; status == KV_OK && request->n_layers && t < request->n_traces; t++) {
        struct kv_trace *trace;
        struct kv_error later;
        if (kv_trace_open(&trace, request->traces[t], KV_NO_VERIFY, &later) != KV_OK) continue;
        status = kv_check_layers(trace, request, err);
        kv_trace_close(trace);
    }
    return status;
}

int kv_run(const struct kv_run_request *request, struct kv_results *results, struct kv_error *err)
{
    struct kv_kernels kernels;
    int status = kv_kernels_fill(&kernels, request->isa, err);
    if (status == KV_OK) status = check_layers(request, err);
    if (status != KV_OK) return status;
    uint32_t per_trace = 0;
    for (uint32_t s = 0; s < request->specs->n; s++)
        per_trace += kv_spec_seeds(request, &request->specs->specs[s]);
    status = reserve_results(request, results, per_trace, err);
    if (status != KV_OK) return status;
    const double start = kv_clock_seconds();
    results->isa = kernels.isa;
    results->threads = request->threads > 0 ? request->threads : omp_get_num_procs();
    results->seed = request->seed;
    results->seeds = request->seeds;
    results->per_layer = request->per_layer;
    struct kv_calibration *calibration = NULL;
    struct kv_read_ahead ahead = {0};
    if (request->calibrate) {
        status = kv_calibration_open(&calibration, request->calibrate,
                                     request->no_verify ? KV_NO_VERIFY : 0, err);
        if (status != KV_OK) return status;
    }
    for (uint32_t t = 0; status == KV_OK && t < request->n_traces; t++) {
        struct kv_trace_run run = {.request = request, .kernels = &kernels, .threads = results->threads,
                                .summary = &results->traces[t], .profile = &results->profile,
                                .cells = results->cells + results->n_cells,
                                .n_cells = per_trace, .progress_share = 1.0 / request->n_traces,
                                .calibration = calibration, .ahead = &ahead,
                                .next_path = t + 1 < request->n_traces ? request->traces[t + 1] : NULL,
                                .progress_base = (double)t / request->n_traces};
        status = kv_trace_run_path(&run, request->traces[t], err);
        if (!run.summary->name) break;           /* the trace never opened */
        results->n_traces++;
        results->n_cells += per_trace;
    }
    kv_read_ahead_drop(&ahead);
    kv_calibration_close(calibration);
    results->wall_seconds = kv_clock_seconds() - start;
    results->interrupted = request->stop && *request->stop;
    if (results->interrupted) return kv_fail(err, KV_EINTERRUPTED, "interrupted: finished cells are kept");
    return status == KV_OK ? worst_cell(results, err) : status;
}
