/* The writers by name. */
#include "harness/output/files/writers.h"

#include <errno.h>
#include <string.h>

#include "harness/output/tables/table.h"

static int write_table(FILE *file, const struct kv_results *results)
{
    kv_print_table(file, results, kv_wants_colour(file));
    return KV_OK;
}

static const struct { const char *name; int (*write)(FILE *, const struct kv_results *); } writers[] = {
    {"table", write_table},
    {"markdown", kv_write_markdown},
    {"csv", kv_write_csv},
    {"json", kv_write_json},
};
enum { N_WRITERS = sizeof writers / sizeof writers[0] };

static size_t find_writer(const char *format)
{
    size_t w = 0;
    while (w < N_WRITERS && strcmp(writers[w].name, format) != 0) w++;
    return w;
}

int kv_check_format(const char *format, struct kv_error *err)
{
    if (find_writer(format) < N_WRITERS) return KV_OK;
    return kv_fail(err, KV_EUSAGE, "--format: expected table, markdown, csv or json, found `%s`",
                   format);
}

int kv_write_rows(FILE *file, const struct kv_results *results, const char *format,
                  struct kv_error *err)
{
    const int status = kv_check_format(format, err);
    if (status != KV_OK) return status;
    errno = 0;
    if (writers[find_writer(format)].write(file, results) != KV_OK) {
        return kv_fail(err, KV_EMEMORY, "--format %s: out of memory", format);
    }
    if (fflush(file) != 0 || ferror(file)) {
        return kv_fail(err, KV_EENVIRONMENT, "output: expected to write every row, found: %s",
                       strerror(errno ? errno : EIO));
    }
    return KV_OK;
}
