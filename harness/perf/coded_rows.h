/* Rows in one codec's atoms, apart from any cache: what the encode and attend benches work on. */
#ifndef KVBENCH_HARNESS_PERF_CODED_ROWS_H
#define KVBENCH_HARNESS_PERF_CODED_ROWS_H

#include "harness/base/geometry.h"
#include "methods/spec/spec.h"

struct kv_coded_rows {
    struct kv_pool *pool;
    struct kv_geometry geometry;
    struct kv_kernels kernels;
    struct kv_code *code;
    uint8_t *atoms;
    uint32_t n; /* rows, whole atoms */
};

/* Makes the codec of a spec for one side of one head, fitted on rows [n][dim], and encodes them; n
 * is cut to whole atoms. KV_EUNSUPPORTED and KV_ESKIPPED: this codec cannot store these rows alone.
 */
int kv_coded_rows_create(struct kv_coded_rows *coded, const struct kv_spec *spec,
                         const struct kv_kernels *kernels, enum kv_side side, const float *rows,
                         uint32_t n, uint32_t dim, struct kv_error *err);
void kv_coded_rows_free(struct kv_coded_rows *coded);

/* Columns of a row as it is read: turned where the codec offers that (struct kv_turn). */
uint32_t kv_coded_rows_columns(const struct kv_coded_rows *coded);
/* Rows first .. first + n - 1, decoded; a part of an atom is decoded whole into `spare`
 * [block][dim]. */
void kv_coded_rows_read(const struct kv_coded_rows *coded, uint32_t first, uint32_t n, float *out,
                        float *spare);

/* Every codec with its defaults ("all"), or the list; freed by kv_spec_free. */
int kv_perf_specs(struct kv_spec_list *list, const char *method, const char *own,
                  struct kv_error *err);

#endif
