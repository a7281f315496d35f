/* perf io: reading a trace's layer (16-bit words as the file holds them) beside pread of as many
 * bytes of the same file, contiguous and in chunks; and as floats, beside HDF5's own conversion of
 * one head. All warm, from the page cache. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness/base/large.h"
#include "harness/perf/benches.h"
#include "harness/perf/hdf5_reading.h"
#include "harness/perf/made_trace.h"
#include "traces/trace.h"

struct reading {
    const struct kv_kernels *kernels;
    struct kv_trace *trace;
    int file;
    char *buffer;
    size_t bytes; /* of one layer's Q, K and V */
    int status;
    struct kv_error error;
};

static size_t layer_bytes(const struct kv_trace_layer *layer)
{
    const struct kv_geometry *geometry = &layer->geometry;
    const size_t rows = (size_t)geometry->q_heads + geometry->kv_heads;
    return geometry->tokens * kv_dtype_bytes(layer->dtype) *
           (rows * geometry->key_dim + (size_t)geometry->kv_heads * geometry->value_dim);
}

static double read_layer(void *context)
{
    struct reading *reading = context;
    struct kv_layer *layer = NULL;
    const int status = kv_trace_read_layer(&layer, reading->trace, 0, 0, &reading->error);
    if (status != KV_OK) reading->status = status;
    kv_layer_free(layer);
    return (double)reading->bytes;
}

static double pread_file(void *context)
{
    struct reading *reading = context;
    size_t done = 0;
    while (done < reading->bytes) {
        const ssize_t got =
            pread(reading->file, reading->buffer + done, reading->bytes - done, (off_t)done);
        if (got <= 0) {
            reading->status =
                kv_fail(&reading->error, KV_EENVIRONMENT, "perf io: pread ended early");
            break;
        }
        done += (size_t)got;
    }
    return (double)reading->bytes;
}

static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    struct reading *reading = context;
    struct kv_perf_buffer buffer = kv_perf_buffer_of(reading->buffer, reading->bytes);
    const double read = kv_perf_best(kv_perf_read, &buffer) / 1e9,
                 raw = kv_perf_best(pread_file, reading) / 1e9;
    snprintf(reason, KV_PERF_REASON,
             "pread alone %.1f GB/s; reading its bytes once more, as the check for values that are "
             "no numbers "
             "does, %.1f: one after the other %.1f, here %.1f",
             raw, read, 1 / (1 / raw + 1 / read), seen->ours / 1e9);
}

static int open_file(struct reading *reading, const char *path, struct kv_error *err)
{
    const int status = kv_trace_open(&reading->trace, path, KV_NO_VERIFY, err);
    if (status != KV_OK) return status;
    reading->bytes = layer_bytes(&reading->trace->layers[0]);
    reading->file = open(path, O_RDONLY);
    reading->buffer = kv_large_alloc(reading->bytes); /* as a layer of a run lies */
    if (reading->file >= 0 && reading->buffer) return KV_OK;
    return kv_fail(err, KV_EENVIRONMENT, "perf io: %.200s cannot be read, or no memory for it",
                   path);
}

static int close_file(struct reading *reading, int status, struct kv_error *err)
{
    if (status == KV_OK && reading->status != KV_OK)
        status = reading->status, *err = reading->error;
    if (reading->file >= 0) close(reading->file);
    free(reading->buffer);
    kv_trace_close(reading->trace);
    return status;
}

static int measure_pread(struct kv_perf *perf, const char *path, const char *name, double goal,
                         kv_perf_explain *explains, struct kv_error *err)
{
    struct reading reading = {.file = -1, .kernels = &perf->kernels};
    int status = open_file(&reading, path, err);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GB/s",
                                     .unit_size = 1e9,
                                     .limit = {"pread", pread_file, &reading},
                                     .ours = {"layer", read_layer, &reading},
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = goal,
                                     .explain = explains};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
    return close_file(&reading, status, err);
}

/* -- beside the library's own conversion of halves to floats ---------------------------------- */

/* Every word of a layer as floats, a piece that stays in the cache at a time. */
static double widen_layer(void *context)
{
    enum { PIECE = 8192 };
    static float floats[PIECE];
    struct reading *reading = context;
    struct kv_layer *layer = NULL;
    const int status = kv_trace_read_layer(&layer, reading->trace, 0, 0, &reading->error);
    if (status != KV_OK) return reading->status = status, 1;
    const struct kv_tensor *const tensors[] = {&layer->q, &layer->k, &layer->v};
    for (int i = 0; i < 3; i++) {
        const size_t n = (size_t)tensors[i]->heads * tensors[i]->tokens * tensors[i]->dim;
        const uint16_t *words = tensors[i]->data;
        for (size_t at = 0; at < n; at += PIECE)
            reading->kernels->widen_half(words + at, floats, n - at < PIECE ? n - at : PIECE);
    }
    kv_layer_free(layer);
    return (double)reading->bytes;
}

enum { TIMES_CONVERTING = 300 }; /* the goal */

static void explain_widening(void *context, const struct kv_perf_seen *seen,
                             char reason[KV_PERF_REASON])
{
    struct reading *reading = context;
    const double raw = kv_perf_best(pread_file, reading) / 1e9;
    const double read = kv_perf_best(read_layer, reading) / 1e9;
    snprintf(reason, KV_PERF_REASON,
             "the library converts %.3f GB/s; pread alone reads %.1f, %.0f times that%s; the layer "
             "as words comes at %.1f GB/s alone",
             seen->limit / 1e9, raw, 1e9 * raw / seen->limit,
             1e9 * fmax(raw, read) < TIMES_CONVERTING * seen->limit
                 ? ", below the goal: a limit of copying out of the page cache here" : "", read);
}

/* Loading, which is what the goal is about, or loading and widening. */
static int measure_conversion(struct kv_perf *perf, const char *path, bool widens, uint32_t tokens,
                              struct kv_error *err)
{
    char name[64];
    struct reading reading = {.file = -1, .kernels = &perf->kernels};
    struct kv_hdf5_reading library;
    int status = kv_hdf5_reading_open(&library, path, "layers/000/k", err);
    if (status == KV_OK) status = open_file(&reading, path, err);
    snprintf(name, sizeof name, "f16 %s / HDF5 to floats T=%u", widens ? "to floats" : "as words",
             tokens);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GB/s",
                                     .unit_size = 1e9,
                                     .limit = {"HDF5 to floats", kv_hdf5_reading_run, &library},
                                     .ours = {"layer", widens ? widen_layer : read_layer, &reading},
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = widens ? 0 : TIMES_CONVERTING,
                                     .explain = explain_widening};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
    kv_hdf5_reading_close(&library);
    return close_file(&reading, status, err);
}

/* The made file in three ways; it ends in chunks. */
static int measure_made(struct kv_perf *perf, const char *path, uint32_t tokens,
                        struct kv_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "f16 contiguous T=%u 24 heads d=128", tokens);
    int status = measure_pread(perf, path, name, 0.8, explain, err);
    if (status == KV_OK) status = measure_conversion(perf, path, false, tokens, err);
    if (status == KV_OK) status = measure_conversion(perf, path, true, tokens, err);
    snprintf(name, sizeof name, "f16 in chunks T=%u 24 heads d=128", tokens);
    if (status == KV_OK) status = kv_hdf5_chunk_layer(path, err);
    if (status == KV_OK) status = measure_pread(perf, path, name, 0.5, explain, err);
    return status;
}

int kv_perf_io(struct kv_perf *perf, struct kv_error *err)
{
    if (perf->options.file)
        return measure_pread(perf, perf->options.file, "first layer of --file", 0.8, explain, err);
    const uint32_t tokens = perf->options.tiny ? 256 : 8192;
    const struct kv_made_trace made = {.tokens = tokens,
                                       .prefill = tokens - 64,
                                       .layers = 1,
                                       .q_heads = 8,
                                       .kv_heads = 8,
                                       .dim = 128};
    char path[64];
    int status = kv_made_trace_write(&made, path, sizeof path, err);
    if (status == KV_OK) status = measure_made(perf, path, tokens, err);
    kv_made_trace_remove(path);
    return status;
}
