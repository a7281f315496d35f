/* kvbench report [--out FILE] DIR...: one page from result directories (default: report.html in the
 * first). */
#include "harness/commands/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/report.h"
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

int kv_cmd_report(int argc, char **argv, struct kv_error *err)
{
    const char *out = NULL;
    char **dirs = calloc((size_t)argc + 1, sizeof *dirs), *folder = NULL, *name = NULL;
    int n = 0, status = dirs ? KV_OK : kv_fail(err, KV_EMEMORY, "report: out of memory");
    for (int a = 1; status == KV_OK && a < argc; a++) {
        if (strcmp(argv[a], "--out") == 0 && a + 1 < argc) out = argv[++a];
        else if (argv[a][0] == '-') {
            status = kv_fail(err, KV_EUSAGE, "report: expected [--out FILE] DIR..., found `%s`",
                             argv[a]);
        } else {
            dirs[n++] = argv[a];
        }
    }
    if (status == KV_OK && n == 0) {
        status = kv_fail(err, KV_EUSAGE, "report: expected [--out FILE] DIR..., found no directory");
    }
    if (status == KV_OK) {
        status = out ? split_path(out, &folder, &name) : kv_text_set(&folder, "%s", dirs[0]);
        if (status == KV_OK && !name) status = kv_text_set(&name, "report.html");
        if (status != KV_OK) kv_fail(err, status, "report: out of memory");
    }
    if (status == KV_OK) status = kv_report_write(folder, dirs, n, name, err);
    if (status == KV_OK) printf("%s/%s\n", folder, name);
    free(dirs);
    free(folder);
    free(name);
    return status;
}
