/* What `memory` prints: rows with the same columns for all parts, so that CSV and JSON are one
 * table. */
#ifndef KVBENCH_HARNESS_MEMORY_MEMORY_ROWS_H
#define KVBENCH_HARNESS_MEMORY_MEMORY_ROWS_H

#include <stdint.h>
#include <stdio.h>

#include "harness/base/status.h"

/* Whole numbers of a row; KV_MEMORY_NOTHING where a column says nothing. */
enum kv_memory_column {
    KV_MC_CONTEXT,
    KV_MC_BATCH,
    KV_MC_BYTES,
    KV_MC_LEAST,
    KV_MC_PAYLOAD,
    KV_MC_METADATA,
    KV_MC_RESIDUAL,
    KV_MC_BASIS,
    KV_MC_STATE,
    KV_MC_INDEX,
    KV_MC_PARAMETERS,
    KV_MC_WEIGHTS,
    KV_MC_BREAK_EVEN,
    KV_MC_FIT_CONTEXT,
    KV_MC_FIT_BATCH,
    KV_MC_BLOCK,
    KV_MC_ALLOCATED,
    KV_MC_WASTE,
    KV_MC_DEVICE,
    KV_MC_RING,
    KV_MC_USERS,
    KV_MC_USERS_SHARED,
    KV_MC_OFFLOADED,
    KV_MEMORY_COLUMNS
};

#define KV_MEMORY_NOTHING INT64_MIN

enum kv_memory_part { KV_PART_CHAIN, KV_PART_METHOD, KV_PART_SERVING };

struct kv_memory_row {
    char model[96], item[512];
    enum kv_memory_part part;
    const char *status; /* ok, unsupported */
    char note[256];     /* the reason, or a remark */
    int64_t value[KV_MEMORY_COLUMNS];
    double bytes_per_token, bits_per_element, compression_ratio, of_weights; /* NaN: nothing */
};

struct kv_memory_model { /* what stands above a model's tables */
    char name[96], heading[512], source[256];
};

struct kv_memory_rows {
    uint32_t n, n_models;
    struct kv_memory_row *row;
    struct kv_memory_model *model;
};

/* A new row of a part, empty; NULL without memory. */
struct kv_memory_row *kv_memory_add(struct kv_memory_rows *rows, const char *model,
                                    enum kv_memory_part part);
void kv_memory_rows_free(struct kv_memory_rows *rows);

/* format: table, markdown, csv or json. */
int kv_memory_write(FILE *file, const struct kv_memory_rows *rows, const char *format,
                    struct kv_error *err);

/* "4.00 GiB"; text [16]. */
const char *kv_memory_human(int64_t bytes, char *text);

#endif
