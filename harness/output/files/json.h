/* Rows and small numbers as cJSON, for the JSON writer, the manifest and the journal. */
#ifndef KVBENCH_HARNESS_JSON_H
#define KVBENCH_HARNESS_JSON_H

#include <cjson/cJSON.h>

#include "harness/run/journal/results.h"

/* A number with that many significant digits (17 restores any double); null for NaN, "inf" and
 * "-inf" for infinities. NULL without memory. */
cJSON *kv_real_to_json(double value, int digits);
double kv_json_to_real(const cJSON *value);        /* the reverse; NaN for anything else */

/* An object with every column as key; empty is null. NULL without memory. */
cJSON *kv_row_to_json(const struct kv_row *row, int digits);

/* Fills an initialised row. KV_OK, KV_EMEMORY, or KV_EINPUT when a column has the wrong kind of
 * value. Unknown keys are left alone and missing ones stay empty: files outlive columns. */
int kv_row_from_json(struct kv_row *row, const cJSON *object);

/* An array of n reals. NULL without memory. */
cJSON *kv_reals_to_json(const double *values, size_t n, int digits);

/* Adds item under name; false (and item freed) without memory, so that calls can be chained by
 * &&. */
bool kv_json_add(cJSON *object, const char *name, cJSON *item);

#endif
