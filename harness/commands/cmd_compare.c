/* kvbench compare OLD NEW: two result directories, row by row, as a regression gate. Judgement
 * is in compare.c; here are options, matching and the table of what moved. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/base/params.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/output/files/csv.h"
#include "harness/output/tables/compare.h"

enum {
    MOST_GATES = 64,
    LAST_FIXED = KV_INDEX_flags /* columns behind it came later: an older file lacks some */
};

struct gate {
    const struct kv_column *column;
    double most;
};

struct comparison {
    struct kv_texts paths; /* as typed; the last is NEW */
    struct kv_tolerance tolerances[KV_N_COLUMNS];
    struct gate gates[MOST_GATES];
    uint32_t n_gates;
    bool allow_removed;
    bool unknown[KV_N_COLUMNS]; /* one of the files lacks the column */
    uint32_t matched, worse, better, other, added, removed, broken_gates;
};

struct rows {
    uint32_t n;
    struct kv_row *row;
    bool lacks[KV_N_COLUMNS]; /* the file is older than the column */
};

static void free_rows(struct rows *rows)
{
    for (uint32_t i = 0; i < rows->n; i++) kv_row_free(rows->row + i);
    free(rows->row);
    *rows = (struct rows){0};
}

/* A directory's rows.csv, or a CSV file itself. */
static int rows_path(char *path, size_t capacity, const char *given, struct kv_error *err)
{
    struct stat found;
    if (stat(given, &found) != 0)
        return kv_fail(err, KV_EINPUT, "%s: expected a result directory, found: %s", given,
                       strerror(errno));
    const char *file = S_ISDIR(found.st_mode) ? "/rows.csv" : "";
    if ((size_t)snprintf(path, capacity, "%s%s", given, file) >= capacity)
        return kv_fail(err, KV_EINPUT, "%s: expected a path below %zu bytes, found more", given,
                       capacity);
    return KV_OK;
}

static int parse_cell(struct kv_row *row, const struct kv_csv *csv, uint32_t line,
                      const struct kv_column *column, uint32_t position, struct kv_error *err)
{
    const char *cell = kv_csv_cell(csv, line, position);
    const int status = kv_row_parse(row, column, cell);
    if (status == KV_EINPUT)
        return kv_fail(err, KV_EINPUT, "%s: line %u: %s: expected a number or nothing, found %s",
                       csv->path, csv->lines[line + 1], column->name, cell);
    return status == KV_OK ? KV_OK : kv_fail(err, status, "%s: no memory", csv->path);
}

static int parse_rows(struct rows *rows, const struct kv_csv *csv, struct kv_error *err)
{
    rows->row = calloc(csv->n_rows + 1, sizeof *rows->row);
    if (!rows->row) return kv_fail(err, KV_EMEMORY, "%s: no memory", csv->path);
    for (; rows->n < csv->n_rows; rows->n++) kv_row_init(rows->row + rows->n);
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++) {
        uint32_t position;
        int status = kv_csv_column(csv, kv_columns[c].name, &position, err);
        rows->lacks[c] = status != KV_OK && c > LAST_FIXED;
        if (rows->lacks[c]) continue;
        for (uint32_t i = 0; status == KV_OK && i < rows->n; i++)
            status = parse_cell(rows->row + i, csv, i, &kv_columns[c], position, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

static bool same(const char *left, const char *right)
{
    return strcmp(left ? left : "", right ? right : "") == 0;
}

static const struct kv_row *find_row(const struct rows *rows, const struct kv_row *like)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        const struct kv_row *row = rows->row + i;
        if (row->seed == like->seed && same(row->method, like->method) &&
            same(row->layer, like->layer) && same(row->trace, like->trace))
            return row;
    }
    return NULL;
}

static int refuse_doubles(const struct rows *rows, const char *path, struct kv_error *err)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        const struct kv_row *row = rows->row + i;
        if (find_row(rows, row) != row)
            return kv_fail(err, KV_EINPUT,
                           "%s: %s, %s, layer %s: expected one row for a seed, found two", path,
                           row->trace, row->method, row->layer);
    }
    return KV_OK;
}

static int read_rows(struct rows *rows, const char *given, struct kv_error *err)
{
    char path[4096];
    struct kv_csv *csv = NULL;
    int status = rows_path(path, sizeof path, given, err);
    if (status == KV_OK) status = kv_csv_read(&csv, path, err);
    if (status == KV_OK) status = parse_rows(rows, csv, err);
    if (status == KV_OK) status = refuse_doubles(rows, path, err);
    kv_csv_free(csv);
    return status;
}

static void print_name(const struct kv_row *row, const char *note)
{
    printf("%s  %s  layer %s", row->trace ? row->trace : "-", row->method ? row->method : "-",
           row->layer ? row->layer : "-");
    if (row->seed > 0) printf("  seed %lld", (long long)row->seed);
    printf("%s\n", note);
}

static const char *shown(const char *text)
{
    return text[0] ? text : "(empty)";
}

static void print_change(const struct kv_column *column, const struct kv_row *old,
                         const struct kv_row *new, const struct kv_change *change)
{
    static const char *const words[] = {"", "better", "worse", "changed"};
    char left[40], right[40], share[24] = "";
    if (!isnan(change->share)) snprintf(share, sizeof share, "%+.3g %%", 100 * change->share);
    printf("    %-20s %16s -> %-16s %-12s %s\n", column->name,
           shown(kv_row_text(old, column, left)), shown(kv_row_text(new, column, right)), share,
           words[change->verdict]);
}

/* Status stands above the measures: a row that failed has none. */
static struct kv_change judge_status(const struct kv_row *old, const struct kv_row *new)
{
    struct kv_change change = {KV_UNMOVED, false, NAN};
    if (same(old->status, new->status)) return change;
    change.verdict = same(old->status, "ok")   ? KV_WORSE
                     : same(new->status, "ok") ? KV_BETTER
                                               : KV_CHANGED;
    change.fails = change.verdict != KV_BETTER;
    return change;
}

/* Says one change, the row's name before the first; returns whether it fails. */
static bool report(const struct kv_column *column, const struct kv_row *old,
                   const struct kv_row *new, struct kv_change change, bool *named, bool *better)
{
    if (change.verdict == KV_UNMOVED) return false;
    if (!*named) print_name(new, "");
    *named = true;
    *better |= change.verdict == KV_BETTER;
    print_change(column, old, new, &change);
    return change.fails;
}

static void compare_pair(struct comparison *comparison, const struct kv_row *old,
                         const struct kv_row *new)
{
    bool named = false, better = false, fails = false;
    struct kv_change change = judge_status(old, new);
    fails |= report(kv_column_find("status"), old, new, change, &named, &better);
    const bool measured = same(old->status, "ok") && same(new->status, "ok");
    for (uint32_t c = 0; measured && c < KV_N_COLUMNS; c++) {
        if (comparison->unknown[c]) continue;
        change = kv_judge(comparison->tolerances + c, old, new);
        fails |= report(&kv_columns[c], old, new, change, &named, &better);
    }
    comparison->matched++;
    if (fails)
        comparison->worse++;
    else if (better)
        comparison->better++;
    else if (named)
        comparison->other++;
}

static void compare_rows(struct comparison *comparison, const struct rows *old,
                         const struct rows *new)
{
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++)
        comparison->unknown[c] = old->lacks[c] || new->lacks[c];
    for (uint32_t i = 0; i < new->n; i++) {
        const struct kv_row *before = find_row(old, new->row + i);
        if (before) {
            compare_pair(comparison, before, new->row + i);
        } else {
            print_name(new->row + i, "  added");
            comparison->added++;
        }
    }
    for (uint32_t i = 0; i < old->n; i++)
        if (!find_row(new, old->row + i)) {
            print_name(old->row + i, "  removed");
            comparison->removed++;
        }
}

/* A row that did not run, or lacks the measure, cannot pass a gate. */
static void check_gate(struct comparison *comparison, const struct gate *gate,
                       const struct kv_row *row)
{
    char scratch[40];
    const double value = kv_row_number(row, gate->column);
    if (same(row->status, "ok") && value <= gate->most) return;
    print_name(row, "");
    if (!same(row->status, "ok"))
        printf("    %-20s expected a row that is ok, found %s\n", gate->column->name, row->status);
    else
        printf("    %-20s expected at most %.9g, found %s\n", gate->column->name, gate->most,
               shown(kv_row_text(row, gate->column, scratch)));
    comparison->broken_gates++;
}

static int split_setting(const struct kv_given *given, const struct kv_column **column,
                         double *value, struct kv_error *err)
{
    const char *names[KV_N_COLUMNS + 1] = {0}, *text = given->value,
                                     *option = given->argument->name;
    char name[64], *end;
    const size_t length = strcspn(text, "=");
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++) names[c] = kv_columns[c].name;
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    *column = kv_column_find(name);
    if (!*column)
        return kv_fail(err, KV_EUSAGE, "compare: %s: unknown column %s%s", option, name,
                       kv_hint(name, names).text);
    if ((*column)->kind == KV_COLUMN_TEXT)
        return kv_given_refuse(given, "a column of numbers", err);
    *value = text[length] ? strtod(text + length + 1, &end) : NAN;
    if (!text[length] || end == text + length + 1 || *end || isnan(*value))
        return kv_given_refuse(given, given->argument->value, err);
    return KV_OK;
}

static int take_gate(const struct kv_given *given, struct kv_error *err)
{
    struct comparison *comparison = given->target;
    struct gate *gate = comparison->gates + comparison->n_gates;
    if (comparison->n_gates == MOST_GATES)
        return kv_fail(err, KV_EUSAGE, "compare: --max: expected at most %d", MOST_GATES);
    comparison->n_gates++;
    return split_setting(given, &gate->column, &gate->most, err);
}

static int take_tolerance(const struct kv_given *given, struct kv_error *err)
{
    const struct kv_column *column;
    double share;
    const int status = split_setting(given, &column, &share, err);
    if (status != KV_OK) return status;
    if (share < 0) return kv_given_refuse(given, "a share of 0 or more", err);
    struct comparison *comparison = given->target;
    struct kv_tolerance *tolerance = comparison->tolerances + (column - kv_columns);
    tolerance->same_isa = tolerance->other_isa = share;
    return KV_OK;
}

static const struct kv_argument table[] = {
    {"--tolerance", KV_TAKEN, 0, "COLUMN=SHARE", "a relative change of COLUMN that is no change",
     .take = take_tolerance},
    {"--max", KV_TAKEN, 0, "COLUMN=VALUE", "the most that any row of NEW may have",
     .take = take_gate},
    {"--allow-removed", KV_SWITCH, offsetof(struct comparison, allow_removed), NULL,
     "rows of OLD may be missing in NEW"},
    {"", KV_TEXTS, offsetof(struct comparison, paths), "OLD NEW", NULL, 1, 2},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "compare",
    .usage = "kvbench compare OLD NEW: exit 1 when a row got worse, moved in bytes or is gone\n\n",
    .table = table};

static int read_arguments(struct comparison *comparison, int n, char **words, struct kv_error *err)
{
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++)
        comparison->tolerances[c] = kv_tolerance_of(&kv_columns[c]);
    const int status = kv_arguments_read(&arguments, comparison, n, words, err);
    if (status != KV_OK || comparison->paths.n == 2 || comparison->n_gates) return status;
    return kv_fail(err, KV_EUSAGE,
                   "compare: expected OLD NEW, or NEW --max COLUMN=VALUE, found %s alone",
                   comparison->paths.at[0]);
}

static int verdict(const struct comparison *comparison, struct kv_error *err)
{
    const bool removed = comparison->removed && !comparison->allow_removed;
    if (comparison->paths.n == 2)
        printf("%u rows compared: %u worse, %u better, %u otherwise changed; "
               "%u added, %u removed\n",
               comparison->matched, comparison->worse, comparison->better, comparison->other,
               comparison->added, comparison->removed);
    if (comparison->n_gates)
        printf("%u of the values that --max bounds are above it or missing\n",
               comparison->broken_gates);
    if (comparison->paths.n == 2 && !comparison->matched)
        return kv_fail(err, KV_EGATE, "compare: %s and %s have no row in common",
                       comparison->paths.at[0], comparison->paths.at[1]);
    if (!comparison->worse && !removed && !comparison->broken_gates) return KV_OK;
    return kv_fail(err, KV_EGATE, "compare: %u rows worse, %u removed, %u gates broken",
                   comparison->worse, comparison->removed, comparison->broken_gates);
}

/* Gates look at NEW alone: every row of it. No row at all is no pass. */
static int check_gates(struct comparison *comparison, const struct rows *new, struct kv_error *err)
{
    if (comparison->n_gates && !new->n)
        return kv_fail(err, KV_EGATE, "compare: %s: expected rows for --max, found none",
                       comparison->paths.at[comparison->paths.n - 1]);
    for (uint32_t g = 0; g < comparison->n_gates; g++)
        for (uint32_t i = 0; i < new->n; i++)
            check_gate(comparison, comparison->gates + g, new->row + i);
    return KV_OK;
}

int kv_cmd_compare(int argc, char **argv, struct kv_error *err)
{
    struct comparison comparison = {0};
    struct rows old = {0}, new = {0};
    int status = read_arguments(&comparison, argc - 1, argv + 1, err);
    if (status == KV_OK) status = read_rows(&new, comparison.paths.at[comparison.paths.n - 1], err);
    if (status == KV_OK && comparison.paths.n == 2) {
        status = read_rows(&old, comparison.paths.at[0], err);
        if (status == KV_OK) compare_rows(&comparison, &old, &new);
    }
    if (status == KV_OK) status = check_gates(&comparison, &new, err);
    if (status == KV_OK) status = verdict(&comparison, err);
    free_rows(&old);
    free_rows(&new);
    return status;
}
