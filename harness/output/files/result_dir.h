/* The folder of a run: results/NAME, or what --out names. Every file is written aside and
 * renamed, so that none is ever half there; a full disk or a read-only folder is
 * KV_EENVIRONMENT, naming file and cause. */
#ifndef KVBENCH_HARNESS_RESULT_DIR_H
#define KVBENCH_HARNESS_RESULT_DIR_H

#include <stdbool.h>

#include "harness/base/status.h"
#include "harness/run/journal/results.h"

struct kv_result_dir;

/* Makes the folder (and its parents) when it is not there and tries whether it can be written,
 * so that a run fails before its work and not after. name NULL: results/UTC-HASH, with -2, -3...
 * behind it when taken. KV_OK, KV_EENVIRONMENT or KV_EMEMORY. */
int kv_result_dir_open(struct kv_result_dir **out, const char *name, const char *definition_hash,
                       struct kv_error *err);

const char *kv_result_dir_path(const struct kv_result_dir *dir);

/* The manifest alone, of a run that is to begin, unless an earlier one is there: what --resume takes its
 * definition from. kv_result_dir_close removes it again when no cell was finished. */
int kv_result_dir_plan(struct kv_result_dir *dir, const struct kv_results *planned, struct kv_error *err);
/* The same when its first cell has ended: an earlier one is replaced. */
int kv_result_dir_begin(struct kv_result_dir *dir, const struct kv_results *planned, struct kv_error *err);

/* manifest.json, rows.csv, timings.csv, table.md, then plots/ (when asked for), then report.html. A
 * plot that cannot be drawn is said on stderr and is no error. */
int kv_result_dir_write_all(struct kv_result_dir *dir, const struct kv_results *results, bool plots,
                            struct kv_error *err);

/* Frees; removes a folder that this run made and that is still empty. */
void kv_result_dir_close(struct kv_result_dir *dir);

#endif
