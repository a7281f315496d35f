/* perf io: reading a trace's layer (16-bit words as the file holds them) beside pread of as many
 * bytes of the same file. Both warm, from the page cache. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness/perf/benches.h"
#include "harness/perf/made_trace.h"
#include "traces/trace.h"

struct reading {
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
    struct kv_perf_buffer buffer = {reading->buffer, reading->bytes, 0};
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
    reading->buffer = malloc(reading->bytes);
    if (reading->file >= 0 && reading->buffer) return KV_OK;
    return kv_fail(err, KV_EENVIRONMENT, "perf io: %.200s cannot be read, or no memory for it",
                   path);
}

static int measure(struct kv_perf *perf, const char *path, const char *name, struct kv_error *err)
{
    struct reading reading = {.file = -1};
    int status = open_file(&reading, path, err);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GB/s",
                                     .unit_size = 1e9,
                                     .limit = {"pread", pread_file, &reading},
                                     .ours = {"layer", read_layer, &reading},
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = 0.8,
                                     .explain = explain};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
    if (status == KV_OK && reading.status != KV_OK) status = reading.status, *err = reading.error;
    if (reading.file >= 0) close(reading.file);
    free(reading.buffer);
    kv_trace_close(reading.trace);
    return status;
}

int kv_perf_io(struct kv_perf *perf, struct kv_error *err)
{
    if (perf->options.file) return measure(perf, perf->options.file, "first layer of --file", err);
    const uint32_t tokens = perf->options.tiny ? 256 : 8192;
    const struct kv_made_trace made = {.tokens = tokens,
                                       .prefill = tokens - 64,
                                       .layers = 1,
                                       .q_heads = 8,
                                       .kv_heads = 8,
                                       .dim = 128};
    char path[64], name[64];
    int status = kv_made_trace_write(&made, path, sizeof path, err);
    snprintf(name, sizeof name, "f16 contiguous T=%u 24 heads d=128", tokens);
    if (status == KV_OK) status = measure(perf, path, name, err);
    kv_made_trace_remove(path);
    return status;
}
