/* kvbench report [--out FILE] DIR...: one page from result directories (default: report.html in the
 * first). */
#include "harness/commands/commands.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/commands/arguments.h"
#include "harness/output/files/report.h"
#include "harness/output/row.h"

/* Splits "a/b.html" into a folder and a name. */
static int split_path(const char *path, char **folder, char **name)
{
    const char *slash = strrchr(path, '/');
    int status = kv_text_set(name, "%s", slash ? slash + 1 : path);
    if (status != KV_OK) return status;
    if (!slash) return kv_text_set(folder, ".");
    return kv_text_set(folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

struct report_options {
    const char *out;
    struct kv_texts dirs;
};

static const struct kv_argument table[] = {
    {"--out", KV_TEXT, offsetof(struct report_options, out), "FILE",
     "default: report.html in the first DIR"},
    {"", KV_TEXTS, offsetof(struct report_options, dirs), "DIR...", NULL, 1, KV_MOST_TEXTS},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "report",
    .usage = "kvbench report DIR...: one page from result directories\n\n",
    .table = table};

int kv_cmd_report(int argc, char **argv, struct kv_error *err)
{
    struct report_options options = {.out = NULL};
    char *folder = NULL, *name = NULL;
    int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    if (status != KV_OK) return status;
    status = options.out ? split_path(options.out, &folder, &name)
                         : kv_text_set(&folder, "%s", options.dirs.at[0]);
    if (status == KV_OK && !name) status = kv_text_set(&name, "report.html");
    if (status != KV_OK) kv_fail(err, status, "report: out of memory");
    if (status == KV_OK)
        status =
            kv_report_write(folder, (char *const *)options.dirs.at, (int)options.dirs.n, name, err);
    if (status == KV_OK) printf("%s/%s\n", folder, name);
    free(folder);
    free(name);
    return status;
}
