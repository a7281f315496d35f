/* What stands around the numbers, in the terminal's table and in table.md. */
#ifndef KVBENCH_HARNESS_TABLE_NOTES_H
#define KVBENCH_HARNESS_TABLE_NOTES_H

#include <stdio.h>

#include "harness/output/tables/rank.h"

enum { KV_NOTE_COLUMNS = 100 };

/* Flag letters of a row ("o", "=s"), in the order of the legend. */
void kv_flag_letters(char text[24], const struct kv_ranking *ranking, const struct kv_ranked *row);

enum kv_note_style { KV_NOTE_TERMINAL, KV_NOTE_MARKDOWN };
/* "8 of 30 layers": of how many, when model_config says. */
void kv_print_layer_share(char text[48], const struct kv_trace_summary *trace);
void kv_print_heading(FILE *file, const struct kv_results *results,
                      const struct kv_ranking *ranking, enum kv_note_style style);
void kv_print_notes(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style);
void kv_print_footer(FILE *file, const struct kv_results *results, enum kv_note_style style);

#endif
