/* journal.jsonl: one line a finished cell, appended and flushed as it ends, so that a killed run
 * loses at most the cells that were under way. --resume reads it back. */
#ifndef KVBENCH_HARNESS_JOURNAL_H
#define KVBENCH_HARNESS_JOURNAL_H

#include "harness/base/status.h"
#include "harness/run/journal/results.h"

struct kv_journal;

/* Opens DIR/journal.jsonl to append. code_version and options (what else changes rows; NULL =
 * none) go into every line: a cell is only taken back by a run that shares them. KV_OK,
 * KV_EENVIRONMENT or KV_EMEMORY. */
int kv_journal_open(struct kv_journal **out, const char *dir, const char *code_version,
                    const char *options, struct kv_error *err);

/* Any thread may append: a line goes out whole. */
int kv_journal_append(struct kv_journal *journal, const struct kv_cell *cell, struct kv_error *err);
void kv_journal_close(struct kv_journal *journal);

/* The cells of an earlier run that this one may take back: same code version and options, ended
 * as ok or unsupported (timeout, oom and failed are tried again). Lines that do not parse, such
 * as a torn last one, are passed over; no journal is no cell. KV_OK, KV_EENVIRONMENT when it
 * cannot be read, KV_EMEMORY. */
struct kv_past_cells;
int kv_past_cells_read(struct kv_past_cells **out, const char *dir, const char *code_version,
                       const char *options, struct kv_error *err);
void kv_past_cells_free(struct kv_past_cells *past);

/* Fills a cell whose row names trace hash, method, isa and seed from the past one that shares
 * them, layers and bins included. False, and the cell untouched, when there is none. */
bool kv_past_cells_restore(const struct kv_past_cells *past, struct kv_cell *cell);

#endif
