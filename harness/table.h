/* The terminal table: per trace what was measured, a block ranked by quality and a block that
 * says where bytes and errors are, then what the reader must know (flags, empty columns, rows
 * that failed). Fits 100 columns. Every trace has its own blocks: texts are never pooled. */
#ifndef KVBENCH_HARNESS_TABLE_H
#define KVBENCH_HARNESS_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "harness/rank.h"

enum { KV_TABLE_COLUMNS = 100 };

/* colour dims dominated rows and nothing else; the front is marked `*` either way. */
void kv_print_table(FILE *file, const struct kv_results *results, bool colour);

/* True on a terminal that is not dumb, unless NO_COLOR is set and not empty (no-color.org). */
bool kv_wants_colour(FILE *file);

/* Three digits in at most seven characters: 0.0123, 1.23, 4.5e-7, "-" for NaN. */
void kv_short_real(char text[24], double value);
void kv_short_bytes(char text[24], double bytes);   /* 812, 1.31Ki, 14.2Mi, "-" */

/* Flag letters of a row ("o", "=s"), in the order of the legend. */
void kv_flag_letters(char text[24], const struct kv_ranking *ranking, const struct kv_ranked *row);

/* What stands around the numbers, in both tables. */
enum kv_note_style { KV_NOTE_TERMINAL, KV_NOTE_MARKDOWN };
void kv_print_heading(FILE *file, const struct kv_results *results,
                      const struct kv_ranking *ranking, enum kv_note_style style);
void kv_print_notes(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style);
void kv_print_footer(FILE *file, const struct kv_results *results, enum kv_note_style style);

/* One paragraph: wrapped at 100 columns with a hanging indent, or one Markdown list item. Control
 * characters become `?`, so that a trace cannot steer the terminal. */
void kv_print_note(FILE *file, enum kv_note_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
