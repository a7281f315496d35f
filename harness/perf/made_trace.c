/* Synthetic trace files for benches; see made_trace.h. */
#include "harness/perf/made_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "traces/synth.h"

int kv_made_trace_write(const struct kv_made_trace *made, char *path, size_t capacity,
                        struct kv_error *err)
{
    const char *folder = getenv("TMPDIR");
    const int length =
        snprintf(path, capacity, "%s/kvbench-perf-XXXXXX", folder && *folder ? folder : "/tmp");
    const int file = length < (int)capacity ? mkstemp(path) : -1;
    if (file < 0) {
        path[0] = 0;
        return kv_fail(err, KV_EENVIRONMENT, "perf: no file could be made in %.60s",
                       folder ? folder : "/tmp");
    }
    close(file);
    struct kv_synth synth;
    kv_params_defaults(kv_synth_params, &synth);
    synth.tokens = made->tokens, synth.prefill = made->prefill, synth.layers = made->layers;
    synth.q_heads = made->q_heads, synth.kv_heads = made->kv_heads, synth.head_dim = made->dim;
    synth.sink_mass = synth.heavy_mass = 0; /* aiming queries would cost the square of the tokens */
    synth.probes = 0;
    return kv_trace_synth(path, &synth, err);
}

void kv_made_trace_remove(const char *path)
{
    if (*path) unlink(path);
}
