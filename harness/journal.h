/* journal.jsonl: one line a finished cell, appended and flushed as it ends, so that a killed run loses
 * at most the cells that were under way. --resume reads it back. */
#ifndef KVBENCH_HARNESS_JOURNAL_H
#define KVBENCH_HARNESS_JOURNAL_H

#include "harness/base/status.h"
#include "harness/results.h"

struct kv_journal;

/* Opens DIR/journal.jsonl to append; results gives the code version and options that a cell must share
 * to be taken back, and must outlive the journal. KV_OK, KV_EENVIRONMENT or KV_EMEMORY. */
int kv_journal_open(struct kv_journal **out, const char *dir, const struct kv_results *results,
                    struct kv_error *err);

/* Any thread may append: a line goes out whole. */
int kv_journal_append(struct kv_journal *journal, const struct kv_cell *cell, struct kv_error *err);
void kv_journal_close(struct kv_journal *journal);

/* Fills the cells of results that DIR/journal.jsonl holds and counts them. A cell is told by trace hash,
 * spec, seed, isa (set in its row by the caller), code version and options. What ended as timeout, oom or
 * failed is left to be tried again. Lines that do not parse (a torn last one) are passed over; no journal
 * is no cell. KV_OK, KV_EENVIRONMENT when it cannot be read, KV_EMEMORY. */
int kv_journal_load(const char *dir, struct kv_results *results, uint32_t *n_restored,
                    struct kv_error *err);

#endif
