/* Writers, tables, result folder, journal, plots: what users read and what a killed run leaves. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/output/files/csv.h"
#include "harness/run/journal/journal.h"
#include "harness/figures/label_place.h"
#include "harness/figures/plot.h"
#include "harness/output/tables/rank.h"
#include "harness/output/files/report.h"
#include "harness/output/files/aside.h"
#include "harness/output/files/result_dir.h"
#include "harness/output/row.h"
#include "harness/output/tables/rank.h"
#include "harness/output/tables/short_number.h"
#include "harness/output/tables/table.h"
#include "harness/output/tables/table_notes.h"
#include "harness/output/files/writers.h"
#include "tests/unit/output_fixture.h"

static char *printed(const struct kv_results *results, const char *format)
{
    char *text = NULL;
    size_t length = 0;
    struct kv_error err;
    FILE *file = open_memstream(&text, &length);
    cr_assert_eq(kv_write_rows(file, results, format, &err), KV_OK);
    fclose(file);
    return text;
}

static char *new_folder(char name[64])
{
    strcpy(name, "/tmp/kvbench-output-XXXXXX");
    cr_assert_not_null(mkdtemp(name));
    return name;
}

static char *read_file(const char *folder, const char *name)
{
    char path[512], *text = calloc(1, 1 << 22);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    text[fread(text, 1, (1 << 22) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static bool has_file(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static int count_entries(const char *folder)
{
    int n = 0;
    DIR *open_folder = opendir(folder);
    while (open_folder && readdir(open_folder)) n++;
    if (open_folder) closedir(open_folder);
    return n - 2;
}

static void remove_tree(const char *path)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    cr_expect_eq(system(command), 0);
}

/* ---- rows ---------------------------------------------------------------------------------- */

Test(row, text_form_restores_every_kind)
{
    struct kv_row row, back;
    char scratch[40];
    kv_row_init(&row);
    kv_row_init(&back);
    kv_text_set(&row.reason, "a \"quoted\", two\nlines");
    row.tokens = 1024;
    row.dkl = 0.0123456789012;
    row.ppl_est = INFINITY;
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        const char *text = kv_row_text(&row, &kv_columns[i], scratch);
        cr_assert_eq(kv_row_parse(&back, &kv_columns[i], text), KV_OK);
    }
    cr_expect_str_eq(back.reason, row.reason);
    cr_expect_eq(back.tokens, 1024);
    cr_expect_eq(back.prefill_length, -1);
    cr_expect_float_eq(back.dkl, 0.0123456789, 1e-16);
    cr_expect(isinf(back.ppl_est));
    cr_expect(isnan(back.dnll1));
    cr_expect_eq(kv_row_parse(&back, kv_column_find("dkl"), "0.1x"), KV_EINPUT);
    cr_expect_eq(kv_row_parse(&back, kv_column_find("tokens"), "1.5"), KV_EINPUT);
    kv_row_free(&row);
    kv_row_free(&back);
}

Test(csv_writer, quotes_what_rfc_4180_wants_and_leaves_empty_what_is_not_defined)
{
    struct kv_results *results = output_fixture(6, 2, false);
    char *text = printed(results, "csv");
    cr_expect_eq(strncmp(text, "trace,trace_hash,model,method,family,layer,isa,seed,status,", 58), 0);
    cr_expect(strstr(text, ",timeout,\"over 10 s, \"\"--timeout\"\" reached\","));
    cr_expect(strstr(text, ",768,512,2304,"));
    const char *failed = strstr(text, ",timeout,"), *end = strchr(failed, '\n');
    cr_expect_eq(strncmp(end - 20, ",,,,none,open-loop", 18) != 0, true);
    cr_expect(strstr(failed, ",,,,,,,,") < end);
    free(text);
    output_fixture_free(results);
}

Test(csv_writer, pooled_row_comes_before_its_layers_and_only_when_asked)
{
    struct kv_results *results = output_fixture(3, 4, true);
    char folder[64], path[128];
    struct kv_csv *csv = NULL;
    struct kv_error err;
    uint32_t layer;
    results->per_layer = true;
    char *text = printed(results, "csv");
    snprintf(path, sizeof path, "%s/rows.csv", new_folder(folder));
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    cr_assert_eq(kv_csv_read(&csv, path, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_csv_column(csv, "layer", &layer, &err), KV_OK);
    cr_expect_eq(csv->n_rows, 2 * 3 * 5);
    cr_expect_eq(csv->n_columns, KV_N_COLUMNS);
    cr_expect_str_eq(kv_csv_cell(csv, 0, layer), "all");
    cr_expect_str_eq(kv_csv_cell(csv, 2, layer), "7");
    cr_expect_str_eq(kv_csv_cell(csv, 5, layer), "all");
    kv_csv_free(csv);
    free(text);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(json_writer, spells_numbers_as_the_csv_does)
{
    struct kv_results *results = output_fixture(3, 2, false);
    results->cells[0].row.dkl = 0.1 + 0.2;
    results->cells[0].row.ppl_est = INFINITY;
    char *text = printed(results, "json");
    cr_expect(strstr(text, "\"dkl\":0.3,"));
    cr_expect(strstr(text, "\"ppl_est\":\"inf\""));
    cr_expect(strstr(text, "\"span_retention\":null"));
    free(text);
    output_fixture_free(results);
}

Test(writers, unknown_format_names_the_known_ones)
{
    struct kv_error err;
    cr_expect_eq(kv_check_format("html", &err), KV_EUSAGE);
    cr_expect_str_eq(err.text, "--format: expected table, markdown, csv or json, found `html`");
}

Test(writers, full_disk_is_an_environment_error)
{
    struct kv_results *results = output_fixture(3, 2, true);
    static const char *const formats[] = {"table", "markdown", "csv", "json"};
    for (size_t f = 0; f < 4; f++) {
        struct kv_error err;
        FILE *full = fopen("/dev/full", "w");
        cr_assert_not_null(full);
        cr_expect_eq(kv_write_rows(full, results, formats[f], &err), KV_EENVIRONMENT);
        cr_expect(strstr(err.text, "No space left on device"), "%s", err.text);
        fclose(full);
    }
    output_fixture_free(results);
}

/* ---- ranking and tables -------------------------------------------------------------------- */

Test(rank, sorts_by_dkl_marks_the_front_and_keeps_the_floor_apart)
{
    struct kv_results *results = output_fixture(15, 2, true);
    struct kv_ranking ranking;
    cr_assert_eq(kv_rank(&ranking, results, 0), KV_OK);
    cr_expect(ranking.by_dkl);
    cr_expect_eq(ranking.n_rows, 15);
    cr_expect_eq(ranking.n_measured, 14);
    cr_expect_str_eq(ranking.rows[14].cell->row.status, "timeout");
    for (uint32_t r = 0; r < ranking.n_measured; r++) {
        const struct kv_ranked *row = &ranking.rows[r];
        if (r) cr_expect_geq(row->value, ranking.rows[r - 1].value);
        if (strcmp(row->label, "f16") == 0) cr_expect_eq(row->standing, KV_UNDER_FLOOR);
        if (strcmp(row->label, "kivi:bits=4") == 0) cr_expect_eq(row->standing, KV_ON_FRONT);
        if (strcmp(row->label, "kivi:bits=2") == 0) cr_expect_eq(row->standing, KV_DOMINATED);
        if (strncmp(row->label, "topk", 4) == 0) cr_expect_eq(row->standing, KV_ORACLE);
        if (strncmp(row->label, "window", 6) == 0) {
            cr_assert_not_null(row->same_as);
            cr_expect_str_eq(row->same_as->row.method,
                             "streaming:budget=0.2:sinks=4:recent=0:recent_percent=0:when=step:pooled_heads=0");
        }
    }
    kv_ranking_free(&ranking);
    output_fixture_free(results);
}

Test(rank, labels_keep_what_tells_rows_apart)
{
    struct kv_results *results = output_fixture(22, 2, true);
    struct kv_ranking ranking;
    cr_assert_eq(kv_rank(&ranking, results, 0), KV_OK);
    bool found = false, chained = false, changed = false;
    for (uint32_t r = 0; r < ranking.n_rows; r++) {
        found |= strcmp(ranking.rows[r].label, "turboquant:bits=3:mode=prod") == 0;
        changed |= strcmp(ranking.rows[r].label, "quest:budget=0.2:page_size=8") == 0;
        chained |= strcmp(ranking.rows[r].label, "snapkv:budget=0.2+kivi:bits=2") == 0;
    }
    cr_expect(found);
    cr_expect(chained);
    cr_expect(changed, "what is no default, though it tells nothing apart");
    kv_ranking_free(&ranking);
    output_fixture_free(results);
}

Test(flags, are_words_not_substrings)
{
    cr_expect_not_null(kv_find_flag("open-loop, oracle", "oracle"));
    cr_expect_null(kv_find_flag("open-loop pseudo-oracle", "oracle"));
    cr_expect_null(kv_find_flag(NULL, "oracle"));
    cr_expect_str_eq(kv_find_flag("a same-as:f16", "same-as:"), "same-as:f16");
}

static void expect_fits(const char *text)
{
    for (const char *line = text; *line;) {
        const size_t length = strcspn(line, "\n");
        cr_expect_leq(length, KV_TABLE_COLUMNS, "%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

Test(table, fits_100_columns_with_any_spec_and_any_number)
{
    struct kv_results *results = output_fixture(40, 8, false);
    char long_spec[400] = "snapkv:budget=0.2";
    while (strlen(long_spec) < 300) strcat(long_spec, "+averylongstagename:k.bits=2");
    kv_text_set(&results->cells[1].row.method, "%s", long_spec);
    kv_text_set(&results->specs[1], "%s", long_spec);
    struct kv_row *row = &results->cells[2].row;
    row->dnll1 = -1.234e-123;
    row->dkl = 1.234e-150, row->dkl_low = 1.1e-150, row->dkl_high = 3.3e-150;
    row->ppl_est = 1e300;
    row->span_retention = 0.987;
    row->residual_error = 1.1e-100;
    row->resident_bytes = INT64_MAX;
    char *text = printed(results, "table");
    expect_fits(text);
    free(text);
    output_fixture_free(results);
}

Test(table, says_which_probes_and_which_layers_are_missing)
{
    struct kv_results *results = output_fixture(15, 2, false);
    struct kv_trace_summary *trace = &results->traces[0];
    trace->has_label = trace->has_w_o = trace->has_x2 = true;
    trace->has_probes = trace->no_post_norm = false;
    char *text = printed(results, "table");
    cr_expect(strstr(text, "empty: dkl, ppl_est: trace has no"));
    cr_expect(strstr(text, "residual_error: a norm"));
    free(text);
    trace->has_w_o = false;
    trace->has_spans = true;
    text = printed(results, "table");
    cr_expect(strstr(text, "wo_error, residual_error:"));
    cr_expect(strstr(text, "span_retention: no"), "it has spans, but nobody looks there");
    free(text);
    output_fixture_free(results);
}

Test(table, says_what_is_missing_what_is_equal_and_what_failed)
{
    struct kv_results *results = output_fixture(15, 2, false);
    results->cells[0].row.kept_tokens = 160.25;
    char *text = printed(results, "table");
    cr_expect(strstr(text, "open loop"));
    cr_expect(strstr(text, "Ranked by output error"));
    cr_expect(strstr(text, "same output: window:budget=0.2 answers exactly as streaming:budget=0.2"));
    cr_expect(strstr(text, "not measured: int:bits=4: timeout: over 10 s"));
    cr_expect(strstr(text, "trace has no gradient probes"));
    cr_expect(strstr(text, "not every layer has x2"));
    cr_expect(strstr(text, "asked to keep 20% = 153 tokens and holds 160.2 at the end"));
    cr_expect(strstr(text, "worst deviation 1.3e-7"));
    cr_expect(strstr(text, "r depends on the seed"));
    cr_expect_null(strstr(text, "\033["), "no colour without a terminal");
    free(text);
    output_fixture_free(results);
}

Test(table, dims_dominated_rows_and_nothing_else)
{
    struct kv_results *results = output_fixture(5, 2, true);
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    kv_print_table(file, results, true);
    fclose(file);
    cr_expect(strstr(text, "\033[2m  kivi:bits=2"));
    cr_expect(strstr(text, "\n* kivi:bits=4"));
    free(text);
    output_fixture_free(results);
}

Test(table, a_trace_cannot_steer_the_terminal)
{
    struct kv_results *results = output_fixture(3, 2, true);
    kv_text_set(&results->traces[0].model, "evil\033[2J\nmodel");
    char *text = printed(results, "table");
    cr_expect(strstr(text, "evil?[2J?model"));
    free(text);
    output_fixture_free(results);
}

Test(table, short_numbers)
{
    static const struct { double value; const char *text; } cases[] = {
        {0, "0"}, {NAN, "-"}, {0.0123456, "0.0123"}, {1.23456, "1.23"}, {123.456, "123"},
        {4.567e-7, "4.6e-7"}, {-0.00123, "-1.2e-3"}, {99.99, "100"}, {0.99999, "1.00"}, {54321, "54321"},
        {1e6, "1.0e6"}, {2e12, "2.0e12"}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char text[24];
        kv_short_real(text, cases[c].value);
        cr_expect_str_eq(text, cases[c].text);
    }
}

Test(markdown, has_one_line_a_method_and_escapes_pipes)
{
    struct kv_results *results = output_fixture(3, 2, true);
    kv_text_set(&results->cells[0].row.flags, "open-loop a|b");
    char *text = printed(results, "markdown");
    cr_expect(strstr(text, "| `kivi:bits=2:group_size=32:residual_length=128` |"));
    cr_expect(strstr(text, "a\\|b |"));
    cr_expect(strstr(text, "## smollm2-code"));
    free(text);
    output_fixture_free(results);
}

/* ---- journal ------------------------------------------------------------------------------- */

static void journal_all(const char *folder, const struct kv_results *results)
{
    struct kv_journal *journal = NULL;
    struct kv_error err;
    cr_assert_eq(kv_journal_open(&journal, folder, "v1", "--queries 9", &err), KV_OK, "%s", err.text);
    for (uint32_t c = 0; c < results->n_cells; c++) {
        cr_assert_eq(kv_journal_append(journal, &results->cells[c], &err), KV_OK);
    }
    kv_journal_close(journal);
}

/* Empties a cell to what a run knows before it starts one. */
static void forget(struct kv_cell *cell)
{
    struct kv_cell named;
    kv_cell_init(&named);
    kv_text_set(&named.row.trace_hash, "%s", cell->row.trace_hash);
    kv_text_set(&named.row.trace, "%s", cell->row.trace);
    kv_text_set(&named.row.method, "%s", cell->row.method);
    kv_text_set(&named.row.isa, "%s", cell->row.isa);
    named.row.seed = cell->row.seed;
    kv_cell_free(cell);
    *cell = named;
}

static uint32_t restore_all(const char *folder, struct kv_results *results, const char *version,
                            const char *options)
{
    struct kv_past_cells *past = NULL;
    struct kv_error err;
    uint32_t n = 0;
    cr_assert_eq(kv_past_cells_read(&past, folder, version, options, &err), KV_OK, "%s", err.text);
    for (uint32_t c = 0; c < results->n_cells; c++) {
        forget(&results->cells[c]);
        n += kv_past_cells_restore(past, &results->cells[c]);
    }
    kv_past_cells_free(past);
    return n;
}

Test(journal, restores_cells_completely)
{
    char folder[64];
    struct kv_results *results = output_fixture(5, 3, false), *back = output_fixture(5, 3, false);
    results->per_layer = back->per_layer = true;
    results->cells[0].row.seed = back->cells[0].row.seed = INT64_MAX - 1;
    journal_all(new_folder(folder), results);
    cr_expect_eq(restore_all(folder, back, "v1", "--queries 9"), 10);
    for (uint32_t l = 0; l < 3; l++) {
        results->cells[0].layers[l].seed = INT64_MAX - 1;
    }
    char *before = printed(results, "csv"), *after = printed(back, "csv");
    cr_expect_str_eq(after, before);
    const struct kv_cell *a = &results->cells[1], *b = &back->cells[1];
    cr_expect_arr_eq(b->bin_error, a->bin_error, sizeof a->bin_error);
    cr_expect_arr_eq(b->bin_token, a->bin_token, sizeof a->bin_token);
    cr_expect_arr_eq(b->head_error, a->head_error, 3 * 9 * sizeof(double));
    cr_expect_eq(b->answer_digest, a->answer_digest);
    cr_expect_eq(b->allocated_bytes, a->allocated_bytes);
    cr_expect_str_eq(b->asked_budget, a->asked_budget);
    cr_expect(b->done);
    free(before);
    free(after);
    remove_tree(folder);
    output_fixture_free(results);
    output_fixture_free(back);
}

Test(journal, takes_nothing_back_from_other_code_or_options)
{
    char folder[64];
    struct kv_results *results = output_fixture(3, 2, true);
    journal_all(new_folder(folder), results);
    cr_expect_eq(restore_all(folder, results, "v2", "--queries 9"), 0);
    cr_expect_eq(restore_all(folder, results, "v1", NULL), 0);
    cr_expect_eq(restore_all(folder, results, "v1", "--queries 9"), 6);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(journal, a_torn_line_costs_its_cell_alone)
{
    char folder[64], path[128];
    struct kv_results *results = output_fixture(3, 2, true);
    journal_all(new_folder(folder), results);
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(truncate(path, info.st_size - 41), 0);
    cr_expect_eq(restore_all(folder, results, "v1", "--queries 9"), 5);
    struct kv_results *again = output_fixture(3, 2, true);
    journal_all(folder, again);
    cr_expect_eq(restore_all(folder, results, "v1", "--queries 9"), 6);
    remove_tree(folder);
    output_fixture_free(results);
    output_fixture_free(again);
}

Test(journal, failed_cells_are_tried_again)
{
    char folder[64];
    struct kv_results *results = output_fixture(6, 2, true);
    journal_all(new_folder(folder), results);
    cr_expect_eq(restore_all(folder, results, "v1", "--queries 9"), 10);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(journal, no_journal_is_no_cell)
{
    char folder[64];
    struct kv_results *results = output_fixture(3, 2, true);
    cr_expect_eq(restore_all(new_folder(folder), results, "v1", NULL), 0);
    remove_tree(folder);
    output_fixture_free(results);
}

/* ---- result folder ------------------------------------------------------------------------- */

static struct kv_result_dir *open_dir(const char *path)
{
    struct kv_result_dir *dir = NULL;
    struct kv_error err;
    cr_assert_eq(kv_result_dir_open(&dir, path, "abc", &err), KV_OK, "%s", err.text);
    return dir;
}

Test(result_dir, holds_every_file_and_nothing_aside)
{
    char folder[64], path[128];
    struct kv_error err;
    struct kv_results *results = output_fixture(6, 2, false);
    snprintf(path, sizeof path, "%s/a/b", new_folder(folder));
    struct kv_result_dir *dir = open_dir(path);
    cr_assert_eq(kv_result_dir_write_all(dir, results, false, &err), KV_OK, "%s", err.text);
    kv_result_dir_close(dir);
    cr_expect(has_file(path, "manifest.json"));
    cr_expect(has_file(path, "rows.csv"));
    cr_expect(has_file(path, "timings.csv"));
    cr_expect(has_file(path, "table.md"));
    cr_expect(has_file(path, "report.html"));
    cr_expect_eq(count_entries(path), 5);
    char *rows = read_file(path, "rows.csv"), *direct = printed(results, "csv");
    cr_expect_str_eq(rows, direct);
    char *manifest = read_file(path, "manifest.json");
    cr_expect(strstr(manifest, "./kvbench run --methods '"));
    cr_expect(strstr(manifest, " --trace traces/data/smollm2-prose.h5 --trace "));
    free(rows);
    free(direct);
    free(manifest);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(result_dir, a_planned_run_that_ends_without_a_cell_leaves_nothing)
{
    char folder[64], path[128];
    struct kv_error err;
    struct kv_results *results = output_fixture(3, 1, false);
    snprintf(path, sizeof path, "%s/a", new_folder(folder));
    struct kv_result_dir *dir = open_dir(path);
    cr_assert_eq(kv_result_dir_plan(dir, results, &err), KV_OK, "%s", err.text);
    cr_expect(has_file(path, "manifest.json"), "who is killed now can be resumed");
    kv_result_dir_close(dir);
    cr_expect_eq(count_entries(folder), 0);

    dir = open_dir(path);
    cr_assert_eq(kv_result_dir_write_all(dir, results, false, &err), KV_OK, "%s", err.text);
    kv_result_dir_close(dir);
    char *before = read_file(path, "manifest.json");
    results->seed++;
    dir = open_dir(path);
    cr_assert_eq(kv_result_dir_plan(dir, results, &err), KV_OK, "%s", err.text);
    kv_result_dir_close(dir);
    char *after = read_file(path, "manifest.json");
    cr_expect_str_eq(before, after, "an earlier run's stays until a cell of the new one has ended");
    free(before);
    free(after);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(result_dir, default_names_never_meet)
{
    char folder[64];
    struct kv_result_dir *first = NULL, *second = NULL;
    struct kv_error err;
    cr_assert_eq(chdir(new_folder(folder)), 0);
    cr_assert_eq(kv_result_dir_open(&first, NULL, "0123456789abcdef", &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_result_dir_open(&second, NULL, "0123456789abcdef", &err), KV_OK, "%s", err.text);
    cr_expect_str_neq(kv_result_dir_path(first), kv_result_dir_path(second));
    cr_expect(strstr(kv_result_dir_path(first), "Z-01234567"));
    kv_result_dir_close(first);
    kv_result_dir_close(second);
    cr_expect_eq(count_entries("results"), 0, "unused folders are removed again");
    cr_expect_eq(chdir("/"), 0);
    remove_tree(folder);
}

Test(result_dir, a_folder_that_cannot_be_is_an_environment_error)
{
    struct kv_result_dir *dir = NULL;
    struct kv_error err;
    cr_expect_eq(kv_result_dir_open(&dir, "/proc/kvbench", "abc", &err), KV_EENVIRONMENT);
    cr_expect_null(dir);
    cr_expect(strstr(err.text, "/proc/kvbench"), "%s", err.text);
    cr_expect_eq(kv_result_dir_open(&dir, "/dev/null/x", "abc", &err), KV_EENVIRONMENT);
    cr_expect(strstr(err.text, "Not a directory"), "%s", err.text);
}

Test(result_dir, a_read_only_folder_is_found_before_the_run)
{
    char folder[64];
    struct kv_result_dir *dir = NULL;
    struct kv_error err;
    if (geteuid() == 0) cr_skip("root may write everywhere");
    cr_assert_eq(chmod(new_folder(folder), 0555), 0);
    cr_expect_eq(kv_result_dir_open(&dir, folder, "abc", &err), KV_EENVIRONMENT);
    cr_expect(strstr(err.text, "Permission denied"), "%s", err.text);
    chmod(folder, 0755);
    remove_tree(folder);
}

static int fill_disk(FILE *file, const void *what)
{
    (void)what;
    cr_assert_not_null(freopen("/dev/full", "w", file));
    fputs("half of it", file);
    return KV_OK;
}

Test(result_dir, a_full_disk_leaves_the_old_file_and_nothing_aside)
{
    char folder[64], path[128];
    struct kv_error err;
    snprintf(path, sizeof path, "%s/rows.csv", new_folder(folder));
    FILE *old = fopen(path, "w");
    fputs("old", old);
    fclose(old);
    cr_expect_eq(kv_write_aside(folder, "rows.csv", fill_disk, NULL, &err), KV_EENVIRONMENT);
    cr_expect(strstr(err.text, "rows.csv: expected to write it, found: No space left on device"), "%s",
              err.text);
    char *text = read_file(folder, "rows.csv");
    cr_expect_str_eq(text, "old");
    cr_expect_eq(count_entries(folder), 1);
    free(text);
    remove_tree(folder);
}

/* ---- plots and report ---------------------------------------------------------------------- */

/* Data and scripts alone, in a new folder and its `plots`: what was left out. */
static char *plot_without_gnuplot(const struct kv_results *results, char folder[64], char plots[128])
{
    char *left_out = NULL;
    struct kv_error err;
    new_folder(folder);
    snprintf(plots, 128, "%s/plots", folder);
    setenv("PATH", "/nonexistent", 1);
    cr_assert_eq(kv_plot_results(folder, results, &left_out, &err), KV_OK);
    setenv("PATH", "/usr/bin:/bin", 1);
    return left_out;
}

Test(plot, without_gnuplot_data_and_scripts_stay_and_the_rest_is_named)
{
    char folder[64], plots[128];
    struct kv_results *results = output_fixture(5, 2, true);
    kv_text_set(&results->traces[1].name, "../`touch x`'");
    char *left_out = plot_without_gnuplot(results, folder, plots);
    cr_assert_not_null(left_out);
    cr_expect(strstr(left_out, "gnuplot is not installed"), "%s", left_out);
    cr_expect(strstr(left_out, "quality-smollm2-prose"), "%s", left_out);
    cr_expect(has_file(plots, "quality-smollm2-prose.dat"));
    cr_expect(has_file(plots, "memory-_.__touch_x__.dat"));
    cr_expect(has_file(plots, "figures.gp"));
    cr_expect(has_file(plots, "quality.gp"));
    cr_expect_eq(count_entries(folder), 1, "nothing stays aside");
    free(left_out);
    remove_tree(folder);
    output_fixture_free(results);
}

/* A quantizer's rows at 7 times their bytes on the host: an open circle (6), a bar that goes on, its own number. */
Test(plot, rows_on_the_host_are_shown_apart)
{
    char folder[64], plots[128], words[64];
    struct kv_results *results = output_fixture(5, 2, true);
    struct kv_row *row = NULL;
    for (uint32_t c = 0; c < results->n_cells && !row; c++)
        if (strcmp(results->cells[c].row.family, "quantizer") == 0) row = &results->cells[c].row;
    cr_assert_not_null(row);
    row->offloaded_bytes = 7 * row->resident_bytes;
    row->offloaded_read_bytes_per_step = 3.0 * (double)row->resident_bytes;
    char *left_out = plot_without_gnuplot(results, folder, plots);
    char *memory = read_file(plots, "memory-smollm2-prose.dat");
    char *quality = read_file(plots, "quality-smollm2-prose.dat");
    char *script = read_file(plots, "figures.gp");
    const double bits = row->bits_per_element;
    snprintf(words, sizeof words, "%.9g %.9g ", bits, 8 * bits);
    cr_expect(strstr(memory, words), "expected the bar %s in %s", words, memory);
    snprintf(words, sizeof words, "\"%.2f + %.2f\"", bits, 7 * bits);
    cr_expect(strstr(memory, words), "expected %s in %s", words, memory);
    snprintf(words, sizeof words, "%.9g ", 4 * bits);
    cr_expect(strstr(memory, words), "expected a read at %s in %s", words, memory);
    cr_expect(strstr(quality, " 6 "), "expected an open circle in %s", quality);
    cr_expect(strstr(script, "open: rows on the host") && strstr(script, "has_host = 1") &&
              strstr(script, "has_host = 0"));
    free(memory), free(quality), free(script), free(left_out);
    remove_tree(folder);
    output_fixture_free(results);
}

/* With nothing on the device no byte has a width but by the flag. */
Test(plot, rows_on_the_host_alone_have_a_bar)
{
    char folder[64], plots[128];
    struct kv_results *results = output_fixture(5, 2, true);
    struct kv_row *row = &results->cells[0].row;
    row->resident_bytes = row->payload_bytes = row->metadata_bytes = row->residual_bytes = row->basis_bytes = 0;
    row->bits_per_element = 0, row->offloaded_bytes = 900, row->offloaded_read_bytes_per_step = 300;
    cr_assert_eq(kv_text_set(&row->flags, "offloaded bits-with-host:4.5"), KV_OK);
    char *left_out = plot_without_gnuplot(results, folder, plots);
    char *memory = read_file(plots, "memory-smollm2-prose.dat");
    cr_expect(strstr(memory, "0 4.5 ") && strstr(memory, "\"0.00 + 4.50\"") && strstr(memory, "\n1.5 "),
              "expected a bar to 4.5 and a read at 1.5 in %s", memory);
    free(memory), free(left_out);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(plot, draws_every_figure_and_the_report_holds_them)
{
    char folder[64], plots[128], *left_out = NULL, *dirs[1];
    struct kv_error err;
    struct kv_results *results = output_fixture(40, 8, false);
    if (system("gnuplot --version > /dev/null 2>&1") != 0) cr_skip("no gnuplot");
    new_folder(folder);
    snprintf(plots, sizeof plots, "%s/plots", folder);
    cr_assert_eq(kv_plot_results(folder, results, &left_out, &err), KV_OK);
    cr_expect_null(left_out, "%s", left_out);
    for (uint32_t t = 0; t < 2; t++) {
        for (int f = 0; f < KV_FIGURES; f++) {
            char *base = NULL, name[160];
            cr_assert_eq(kv_figure_file(&base, results, t, f), KV_OK);
            snprintf(name, sizeof name, "%s.svg", base);
            char *svg = read_file(plots, name);
            cr_expect(strstr(svg, "</svg>"), "%s", name);
            free(svg);
            free(base);
        }
    }
    struct kv_result_dir *dir = NULL;
    cr_assert_eq(kv_result_dir_open(&dir, folder, "abc", &err), KV_OK);
    cr_assert_eq(kv_result_dir_write_all(dir, results, false, &err), KV_OK);
    dirs[0] = folder;
    cr_assert_eq(kv_report_write(folder, dirs, 1, "page.html", &err), KV_OK, "%s", err.text);
    char *page = read_file(folder, "page.html");
    cr_expect(strstr(page, "<svg"));
    cr_expect(strstr(page, "kivi:bits=2"));
    cr_expect_null(strstr(page, "src="), "nothing is loaded from elsewhere");
    free(page);
    kv_result_dir_close(dir);
    remove_tree(folder);
    output_fixture_free(results);
}

Test(report, names_a_folder_that_is_no_result)
{
    char folder[64], *dirs[1];
    struct kv_error err;
    dirs[0] = new_folder(folder);
    cr_expect_eq(kv_report_write(folder, dirs, 1, "page.html", &err), KV_EINPUT);
    cr_expect(strstr(err.text, "manifest.json: expected a result file"), "%s", err.text);
    cr_expect_not(has_file(folder, "page.html"));
    remove_tree(folder);
}

Test(labels, of_crowded_points_do_not_cover_each_other)
{
    enum { N = 12 };
    struct kv_label labels[N];
    for (int i = 0; i < N; i++) {
        labels[i] = (struct kv_label){.x = 300 + 9 * (i % 4), .y = 200 + 8 * (i / 4), .width = 80, .height = 13};
        labels[i].bar_low = labels[i].bar_high = labels[i].y;
    }
    kv_place_labels(labels, N, NULL, 0, 800, 500);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            const struct kv_box *a = &labels[i].box, *b = &labels[j].box;
            const bool apart = a->right <= b->left || b->right <= a->left || a->top <= b->bottom
                            || b->top <= a->bottom;
            cr_expect(apart, "labels %d and %d", i, j);
        }
        cr_expect_geq(labels[i].box.left, 0);
        cr_expect_leq(labels[i].box.right, 800);
    }
}
