/* Claims about rows of a run: one column of `spec` over that of `against`, on the traces, pooled
 * over the traces by the geometric mean of the ratios; and the bits of a codec's atom. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claim_codec.h"
#include "harness/output/row.h"
#include "harness/run/run.h"

/* Scored a trace, the same for both methods; probes need every decode step. */
enum { QUERIES = 64 };

static int read_column(const struct kv_row *row, const char *column, double *value,
                       struct kv_error *err)
{
    const struct {
        const char *name;
        double value;
    } columns[] = {{"attention_kl", row->attention_kl},
                   {"output_error", row->output_error},
                   {"lost_mass", row->lost_mass},
                   {"dkl", row->dkl},
                   {"key_error", row->key_error},
                   {"value_error", row->value_error},
                   {"bits_per_element", row->bits_per_element}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (strcmp(columns[i].name, column) == 0) {
            *value = columns[i].value;
            return KV_OK;
        }
    return kv_fail(err, KV_EINPUT, "claim: expected column= of a row's error, found %s", column);
}

/* Cells of two specs on every trace, spec-major within a trace. */
static int ratio_of(const struct kv_results *results, const char *column, double *figure,
                    char reason[256], struct kv_error *err)
{
    double logarithm = 0;
    for (uint32_t i = 0; i + 1 < results->n_cells; i += 2) {
        double top = 0, bottom = 0;
        for (int c = 0; c < 2; c++) {
            const struct kv_row *row = &results->cells[i + c].row;
            if (strcmp(row->status, "ok") != 0) {
                *figure = NAN;
                snprintf(reason, 256, "%.60s: %.180s", row->method,
                         row->reason ? row->reason : row->status);
                return KV_OK;
            }
            const int status = read_column(row, column, c ? &bottom : &top, err);
            if (status != KV_OK) return status;
        }
        logarithm += log(top / bottom);
    }
    *figure = exp(logarithm / (results->n_cells / 2));
    return KV_OK;
}

int kv_claim_row_ratio(double *figure, const char *setting, const struct kv_measuring *measuring,
                       char reason[256], struct kv_error *err)
{
    char spec[160], against[160], both[330], column[32];
    *figure = NAN;
    if (!measuring->n_traces)
        return snprintf(reason, 256, "needs a trace; name one with --trace"), KV_OK;
    if (!kv_setting_text(setting, "spec", spec, sizeof spec) ||
        !kv_setting_text(setting, "against", against, sizeof against) ||
        !kv_setting_text(setting, "column", column, sizeof column))
        return kv_fail(err, KV_EINPUT,
                       "claim: expected a setting with spec=, against= and column=, found %s",
                       setting);
    snprintf(both, sizeof both, "%s,%s", spec, against);
    struct kv_spec_list specs = {0};
    int status = kv_spec_parse(&specs, both, err);
    if (status != KV_OK) return kv_claim_cannot(status, figure, reason, err);
    struct kv_results results = {0};
    const struct kv_run_request request = {.specs = &specs,
                                           .traces = (char *const *)measuring->traces,
                                           .n_traces = measuring->n_traces,
                                           .isa = measuring->kernels->isa,
                                           .seed = measuring->seed,
                                           .seeds = 1,
                                           .queries =
                                               strcmp(column, "dkl") == 0 ? 0 : QUERIES};
    status = kv_run(&request, &results, err);
    if (status == KV_OK || status == KV_ECELL)
        status = ratio_of(&results, column, figure, reason, err);
    kv_results_free(&results);
    kv_spec_free(&specs);
    return status;
}

int kv_claim_atom_bits(double *figure, const char *setting, const struct kv_measuring *measuring,
                       char reason[256], struct kv_error *err)
{
    char spec[160], side[16] = "keys", part[16] = "all";
    struct kv_claim_codec codec;
    const uint32_t dim = (uint32_t)kv_setting_number(setting, "dim", 128);
    if (!kv_setting_text(setting, "spec", spec, sizeof spec))
        return kv_fail(err, KV_EINPUT, "claim: expected a setting with spec=, found %s", setting);
    kv_setting_text(setting, "side", side, sizeof side);
    kv_setting_text(setting, "part", part, sizeof part);
    const int status =
        kv_claim_codec_open(&codec, spec, dim, strcmp(side, "values") == 0 ? KV_VALUES : KV_KEYS, 0,
                            measuring->seed, measuring->kernels, err);
    if (status != KV_OK) return kv_claim_cannot(status, figure, reason, err);
    const size_t bytes =
        strcmp(part, "codes") == 0 ? codec.code->payload_bytes : kv_atom_bytes(codec.code);
    *figure = 8.0 * (double)bytes / ((double)codec.code->block * dim);
    kv_claim_codec_close(&codec);
    return KV_OK;
}
