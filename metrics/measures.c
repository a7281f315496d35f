/* One layer's measures, put together; see measures.h. */
#include "metrics/measures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"
#include "metrics/attention.h"
#include "metrics/divergence.h"
#include "metrics/output_error.h"
#include "metrics/statistics.h"

static int make_arrays(struct kv_layer_measures *out)
{
    const size_t queries = (size_t)out->n_scored * out->q_heads;
    out->head_error = calloc(out->q_heads, sizeof(double));
    out->query_ratio = calloc(queries + 1, sizeof(double));
    out->token_delta2 = calloc(out->n_scored + 1, sizeof(double));
    out->token_exact2 = calloc(out->n_scored + 1, sizeof(double));
    return out->head_error && out->query_ratio && out->token_delta2 && out->token_exact2
               ? KV_OK
               : KV_EMEMORY;
}

static double row_error(double error2, double norm2)
{
    return norm2 > 0 ? sqrt(error2 / norm2) : NAN;
}

int kv_measure_layer(struct kv_layer_measures *out, const struct kv_measured *in)
{
    *out = (struct kv_layer_measures){.n_scored = in->n_scored, .q_heads = in->geometry->q_heads};
    int status = make_arrays(out);
    if (status == KV_OK) status = kv_measure_outputs(out, in);
    if (status == KV_OK) status = kv_measure_stream(out, in);
    if (status == KV_OK) status = kv_measure_spans(out, in);
    if (status == KV_OK) status = kv_measure_probes(out, in);
    if (status != KV_OK) {
        kv_layer_measures_free(out);
        return status;
    }
    kv_measure_weights(out, in);
    out->key_error = row_error(in->key_error2, in->key_norm2);
    out->value_error = row_error(in->value_error2, in->value_norm2);
    return KV_OK;
}

void kv_layer_measures_free(struct kv_layer_measures *measures)
{
    if (!measures) return;
    free(measures->head_error);
    free(measures->query_ratio);
    free(measures->token_delta2);
    free(measures->token_exact2);
    free(measures->label_dot);
    free(measures->fisher_dot);
    *measures = (struct kv_layer_measures){0};
}
