/* The CSV reader and the regression gate: what is the same, better, worse, gone, or unreadable. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/commands/commands.h"
#include "harness/output/files/csv.h"
#include "harness/output/tables/compare.h"

static char folder[] = "/tmp/kvbench-compare-XXXXXX";

static void make_folder(void)
{
    cr_redirect_stdout();
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

static void remove_folder(void)
{
    unlink("old.csv"), unlink("new.csv");
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(rmdir(folder), 0);
}

TestSuite(csv, .init = make_folder, .fini = remove_folder);
TestSuite(compare, .init = make_folder, .fini = remove_folder);

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

/* ---- the reader ---- */

static struct kv_csv *read_text(const char *text, struct kv_error *err)
{
    struct kv_csv *csv = NULL;
    write_text("old.csv", text);
    kv_csv_read(&csv, "old.csv", err);
    return csv;
}

Test(csv, quotes_commas_and_lines)
{
    struct kv_error err = {""};
    struct kv_csv *csv = read_text("a,b,c\r\n\"x,1\",\"say \"\"so\"\"\",\n,\"two\nlines\",last", &err);
    cr_assert_not_null(csv, "%s", err.text);
    cr_assert_eq(csv->n_rows, 2);
    cr_assert_eq(csv->n_columns, 3);
    cr_expect_str_eq(kv_csv_cell(csv, 0, 0), "x,1");
    cr_expect_str_eq(kv_csv_cell(csv, 0, 1), "say \"so\"");
    cr_expect_str_eq(kv_csv_cell(csv, 0, 2), "");
    cr_expect_str_eq(kv_csv_cell(csv, 1, 1), "two\nlines");
    cr_expect_str_eq(kv_csv_cell(csv, 1, 2), "last");
    cr_expect_eq(csv->lines[2], 3);
    kv_csv_free(csv);
}

static void expect_refusal(const char *text, const char *message)
{
    struct kv_error err = {""};
    cr_expect_null(read_text(text, &err));
    cr_expect_str_eq(err.text, message);
}

Test(csv, bad_files_are_named)
{
    expect_refusal("", "old.csv: expected a header line, found an empty file");
    expect_refusal("a,b\n1,2,3\n", "old.csv: line 2: expected 2 fields, found 3");
    expect_refusal("a\n\"b", "old.csv: line 2: expected a closing quote, found the end");
    expect_refusal("a\n\"b\"c\n", "old.csv: line 2: expected a comma after a field, found 'c'");
    struct kv_error err;
    struct kv_csv *csv;
    cr_expect_eq(kv_csv_read(&csv, "none.csv", &err), KV_EINPUT);
    cr_expect_str_eq(err.text,
                     "none.csv: expected a readable CSV file, found: No such file or directory");
}

/* ---- the gate ---- */

struct change { const char *column, *value; };

/* Appends a row like the plain one, with up to two fields changed. */
static void write_row(FILE *file, struct change first, struct change second)
{
    const struct change plain[] = {
        {"trace", "prose"}, {"trace_hash", "xxh3:1"}, {"method", "kivi:bits=2"}, {"layer", "all"},
        {"isa", "generic"}, {"seed", "0"}, {"status", "ok"}, {"resident_bytes", "1000"},
        {"payload_bytes", "800"}, {"metadata_bytes", "200"}, {"output_error", "0.125"},
        {"output_error_high", "0.15"}, {"span_retention", "0.9"}, {"mass_drift", "-0.02"},
        {"dkl", "0.05"}};
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++) {
        const char *name = kv_columns[c].name, *value = "";
        for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
            if (!strcmp(plain[i].column, name)) value = plain[i].value;
        if (first.column && !strcmp(first.column, name)) value = first.value;
        if (second.column && !strcmp(second.column, name)) value = second.value;
        fprintf(file, "%s%s", c ? "," : "", value);
    }
    fputc('\n', file);
}

static FILE *begin_rows(const char *path)
{
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    for (uint32_t c = 0; c < KV_N_COLUMNS; c++)
        fprintf(file, "%s%s", c ? "," : "", kv_columns[c].name);
    fputc('\n', file);
    return file;
}

static void write_rows(const char *path, struct change first, struct change second)
{
    FILE *file = begin_rows(path);
    write_row(file, first, second);
    fclose(file);
}

static int compare(const char *option, struct kv_error *err)
{
    char *argv[] = {"compare", "old.csv", "new.csv", (char *)option};
    err->text[0] = '\0';
    return kv_cmd_compare(option ? 4 : 3, argv, err);
}

static const struct change none;

/* The verdict when one or two fields differ from the plain row. */
static int verdict(struct change first, struct change second, const char *option)
{
    struct kv_error err;
    write_rows("old.csv", none, none);
    write_rows("new.csv", first, second);
    return compare(option, &err);
}

static int moved(const char *column, const char *value)
{
    return verdict((struct change){column, value}, none, NULL);
}

/* Without the header and the empty field of the last column. */
Test(compare, columns_that_came_later_are_not_asked_of_older_files)
{
    char header[4096], row[4096], text[8200];
    struct kv_error err;
    write_rows("old.csv", none, none);
    write_rows("new.csv", (struct change){kv_columns[KV_N_COLUMNS - 1].name, "7"}, none);
    FILE *file = fopen("old.csv", "r");
    cr_assert(file && fgets(header, sizeof header, file) && fgets(row, sizeof row, file));
    fclose(file);
    *strrchr(header, ',') = *strrchr(row, ',') = '\0';
    snprintf(text, sizeof text, "%s\n%s\n", header, row);
    write_text("old.csv", text);
    cr_expect_eq(compare(NULL, &err), KV_OK, "%s", err.text);
}

Test(compare, the_same_rows_pass) { cr_expect_eq(verdict(none, none, NULL), KV_OK); }

Test(compare, worse_fails_and_better_does_not)
{
    cr_expect_eq(moved("output_error", "0.126"), KV_EGATE);
    cr_expect_eq(moved("output_error", "0.124"), KV_OK);
    cr_expect_eq(moved("output_error", "0.12500001"), KV_OK);        /* 8e-8 */
    cr_expect_eq(moved("span_retention", "0.8"), KV_EGATE);
    cr_expect_eq(moved("span_retention", "0.95"), KV_OK);
    cr_expect_eq(moved("mass_drift", "0.03"), KV_EGATE);
    cr_expect_eq(moved("mass_drift", "0.01"), KV_OK);
    cr_expect_eq(moved("output_error", ""), KV_EGATE);               /* a measure was lost */
    cr_expect_eq(moved("wo_error", "0.5"), KV_OK);                   /* one appeared */
}

Test(compare, bytes_and_identity_are_exact)
{
    cr_expect_eq(moved("resident_bytes", "1001"), KV_EGATE);
    cr_expect_eq(moved("resident_bytes", "999"), KV_OK);
    cr_expect_eq(moved("trace_hash", "xxh3:2"), KV_EGATE);
    cr_expect_eq(moved("flags", "oracle"), KV_EGATE);
    cr_expect_eq(moved("tokens", "1024"), KV_OK);                    /* empty before */
    cr_expect_eq(moved("payload_bytes", "810"), KV_EGATE);
    cr_expect_eq(verdict((struct change){"payload_bytes", "810"},
                         (struct change){"resident_bytes", "990"}, NULL), KV_OK);
}

Test(compare, an_interval_follows_its_measure)
{
    cr_expect_eq(moved("output_error_high", "0.16"), KV_EGATE);
    cr_expect_eq(verdict((struct change){"output_error_high", "0.16"},
                         (struct change){"output_error", "0.12"}, NULL), KV_OK);
}

Test(compare, another_isa_has_more_room)
{
    const struct change avx2 = {"isa", "avx2"};
    cr_expect_eq(moved("output_error", "0.12505"), KV_EGATE);        /* 4e-4 */
    cr_expect_eq(verdict((struct change){"output_error", "0.12505"}, avx2, NULL), KV_OK);
    cr_expect_eq(verdict((struct change){"output_error", "0.1253"}, avx2, NULL), KV_EGATE);
    cr_expect_eq(verdict((struct change){"payload_bytes", "801"}, avx2, NULL), KV_EGATE);
}

Test(compare, a_tolerance_can_be_widened)
{
    const struct change worse = {"output_error", "0.13"};
    cr_expect_eq(verdict(worse, none, "--tolerance=output_error=0.05"), KV_OK);
    cr_expect_eq(verdict(worse, none, "--tolerance=output_error=0.01"), KV_EGATE);
}

Test(compare, status_is_judged_first)
{
    cr_expect_eq(moved("status", "failed"), KV_EGATE);
    struct kv_error err;
    write_rows("old.csv", (struct change){"status", "timeout"}, none);
    write_rows("new.csv", none, none);
    cr_expect_eq(compare(NULL, &err), KV_OK);
}

Test(compare, added_rows_are_said_removed_rows_fail)
{
    struct kv_error err;
    FILE *file = begin_rows("old.csv");
    write_row(file, none, none);
    write_row(file, (struct change){"layer", "3"}, none);
    fclose(file);
    write_rows("new.csv", none, none);
    cr_expect_eq(compare(NULL, &err), KV_EGATE);
    cr_expect_str_eq(err.text, "compare: 0 rows worse, 1 removed, 0 gates broken");
    cr_expect_eq(compare("--allow-removed", &err), KV_OK);
    rename("old.csv", "swap.csv"), rename("new.csv", "old.csv"), rename("swap.csv", "new.csv");
    cr_expect_eq(compare(NULL, &err), KV_OK);
}

Test(compare, max_holds_for_every_row)
{
    cr_expect_eq(verdict(none, none, "--max=output_error=0.125"), KV_OK);
    cr_expect_eq(verdict(none, none, "--max=output_error=0.12"), KV_EGATE);
    cr_expect_eq(verdict(none, none, "--max=wo_error=1"), KV_EGATE);         /* empty */
    struct kv_error err;
    char *argv[] = {"compare", "new.csv", "--max", "dkl=0.1"};
    cr_expect_eq(kv_cmd_compare(4, argv, &err), KV_OK);                       /* NEW alone */
    write_rows("new.csv", (struct change){"status", "failed"}, none);
    cr_expect_eq(kv_cmd_compare(4, argv, &err), KV_EGATE);
}

static void expect_error(const char *option, int status, const char *message)
{
    struct kv_error err;
    cr_expect_eq(compare(option, &err), status);
    cr_expect_str_eq(err.text, message);
}

Test(compare, bad_arguments_and_files_are_named)
{
    write_rows("old.csv", none, none);
    write_rows("new.csv", none, none);
    expect_error("--max=dk=1", KV_EUSAGE,
                 "compare: --max: unknown column dk; did you mean dkl?");
    expect_error("--max=dkl=x", KV_EUSAGE, "compare: --max: expected COLUMN=VALUE, found dkl=x");
    expect_error("--max=flags=1", KV_EUSAGE,
                 "compare: --max: expected a column of numbers, found flags=1");
    expect_error("--tolerance=dkl=-1", KV_EUSAGE,
                 "compare: --tolerance: expected a share of 0 or more, found dkl=-1");
    expect_error("--tolerence=dkl=1", KV_EUSAGE,
                 "compare: unknown option --tolerence; did you mean --tolerance?");
    expect_error("third.csv", KV_EUSAGE, "compare: expected OLD NEW, at most 2, found also third.csv");
    write_text("old.csv", "trace,method\nprose,kivi\n");
    expect_error(NULL, KV_EINPUT,
                 "old.csv: expected a column trace_hash, found 2 others, the first trace");
    write_rows("new.csv", (struct change){"dkl", "much"}, none);
    expect_error(NULL, KV_EINPUT, "new.csv: line 2: dkl: expected a number or nothing, found much");
    FILE *file = begin_rows("new.csv");
    write_row(file, none, none);
    write_row(file, none, none);
    fclose(file);
    expect_error(NULL, KV_EINPUT, "new.csv: prose, kivi:bits=2, layer all: expected one row for a "
                                  "seed, found two");
    unlink("old.csv");
    write_rows("new.csv", none, none);
    expect_error(NULL, KV_EINPUT,
                 "old.csv: expected a result directory, found: No such file or directory");
}
