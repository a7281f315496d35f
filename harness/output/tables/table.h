/* The terminal table: per trace what was measured, a block ranked by quality and a block that
 * says where bytes and errors are, then what the reader must know (flags, empty columns, rows
 * that failed). Fits 100 columns. Every trace has its own blocks: texts are never pooled. */
#ifndef KVBENCH_HARNESS_TABLE_H
#define KVBENCH_HARNESS_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "harness/run/journal/results.h"

enum { KV_TABLE_COLUMNS = 100 };

/* colour dims dominated rows and nothing else; the front is marked `*` either way. */
void kv_print_table(FILE *file, const struct kv_results *results, bool colour);

/* True on a terminal that is not dumb, unless NO_COLOR is set and not empty (no-color.org). */
bool kv_wants_colour(FILE *file);

#endif
