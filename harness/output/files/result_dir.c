/* Where results go on disk. */
#include "harness/output/files/result_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness/output/files/aside.h"
#include "harness/figures/plot.h"
#include "harness/output/files/report.h"
#include "harness/output/row.h"
#include "harness/output/files/writers.h"

struct kv_result_dir {
    char *path;
    bool made;               /* by us: removed again when nothing was written */
    bool planned;            /* so is the manifest, which none was there before */
    bool written;
};

/* ---- the folder ---------------------------------------------------------------------------- */

/* Makes path and its parents. *made: the last one was not there. Returns an errno or 0. */
static int make_folders(const char *path, bool *made)
{
    char *copy = strdup(path);
    int cause = copy ? 0 : ENOMEM;
    for (char *slash = copy; !cause && slash;) {
        slash = strchr(slash + 1, '/');
        if (slash) *slash = '\0';
        *made = mkdir(copy, 0777) == 0;
        if (!*made && errno != EEXIST) cause = errno;
        if (slash) *slash = '/';
    }
    free(copy);
    return cause;
}

/* A name that sorts by time and tells runs of different definitions apart. */
static int default_name(char **path, const char *definition_hash, int attempt)
{
    char when[32];
    struct tm utc;
    const time_t now = time(NULL);
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    const char *hash = definition_hash && definition_hash[0] ? definition_hash : "0";
    if (attempt == 1) return kv_text_set(path, "results/%s-%.8s", when, hash);
    return kv_text_set(path, "results/%s-%.8s-%d", when, hash, attempt);
}

static int write_nothing(FILE *file, const void *what)
{
    (void)what;
    return fputc('\n', file) == EOF ? KV_EENVIRONMENT : KV_OK;
}

/* Writing and removing a file is the only honest test: permissions lie for root and on network
 * disks. */
static int try_writing(const char *path, struct kv_error *err)
{
    static const char name[] = ".can-write";
    const int status = kv_write_aside(path, name, write_nothing, NULL, err);
    if (status != KV_OK) return status;
    char *probe = NULL;
    if (kv_text_set(&probe, "%s/%s", path, name) == KV_OK) unlink(probe);
    free(probe);
    return KV_OK;
}

static int make_default(struct kv_result_dir *dir, const char *definition_hash)
{
    int cause = 0;
    for (int attempt = 1; attempt < 1000 && !dir->made; attempt++) {
        if (default_name(&dir->path, definition_hash, attempt) != KV_OK) return ENOMEM;
        cause = make_folders(dir->path, &dir->made);
        if (cause) return cause;
    }
    return dir->made ? 0 : EEXIST;
}

int kv_result_dir_open(struct kv_result_dir **out, const char *name, const char *definition_hash,
                       struct kv_error *err)
{
    *out = NULL;
    struct kv_result_dir *dir = calloc(1, sizeof *dir);
    if (!dir) return kv_fail(err, KV_EMEMORY, "out of memory");
    int cause = 0;
    if (!name) cause = make_default(dir, definition_hash);
    else if (kv_text_set(&dir->path, "%s", name) != KV_OK) cause = ENOMEM;
    else cause = make_folders(dir->path, &dir->made);

    int status = KV_OK;
    if (cause) {
        status = kv_fail(err, KV_EENVIRONMENT, "%s: expected a folder to write results to, found: %s",
                         dir->path ? dir->path : "results", strerror(cause));
    } else {
        status = try_writing(dir->path, err);
    }
    if (status != KV_OK) kv_result_dir_close(dir);
    else *out = dir;
    return status;
}

const char *kv_result_dir_path(const struct kv_result_dir *dir)
{
    return dir->path;
}

static bool is_there(const struct kv_result_dir *dir, const char *name, struct stat *info)
{
    char *path = NULL;
    const bool there = kv_text_set(&path, "%s/%s", dir->path, name) == KV_OK && stat(path, info) == 0;
    free(path);
    return there;
}

static void remove_file(const struct kv_result_dir *dir, const char *name)
{
    char *path = NULL;
    if (kv_text_set(&path, "%s/%s", dir->path, name) == KV_OK) unlink(path);
    free(path);
}

void kv_result_dir_close(struct kv_result_dir *dir)
{
    if (!dir) return;
    /* A run that ended before its first cell leaves a journal without a line. */
    struct stat info;
    if (dir->planned && !dir->written) {
        remove_file(dir, "manifest.json");
        if (is_there(dir, "journal.jsonl", &info) && info.st_size == 0) remove_file(dir, "journal.jsonl");
    }
    if (dir->made && !dir->written) rmdir(dir->path);   /* fails, as it should, unless empty */
    free(dir->path);
    free(dir);
}

/* ---- everything ---------------------------------------------------------------------------- */

static int write_manifest(FILE *file, const void *results) { return kv_write_manifest(file, results); }
static int write_csv(FILE *file, const void *results) { return kv_write_csv(file, results); }
static int write_timings(FILE *file, const void *results) { return kv_write_timings(file, results); }
static int write_markdown(FILE *file, const void *results) { return kv_write_markdown(file, results); }

static const struct { const char *name; int (*write)(FILE *, const void *); } files[] = {
    {"manifest.json", write_manifest},
    {"rows.csv", write_csv},
    {"timings.csv", write_timings},
    {"table.md", write_markdown},
};

int kv_result_dir_plan(struct kv_result_dir *dir, const struct kv_results *planned, struct kv_error *err)
{
    struct stat info;
    if (is_there(dir, "manifest.json", &info)) return KV_OK;
    dir->planned = true;
    return kv_write_aside(dir->path, "manifest.json", write_manifest, planned, err);
}

int kv_result_dir_begin(struct kv_result_dir *dir, const struct kv_results *planned, struct kv_error *err)
{
    dir->written = true;
    return kv_write_aside(dir->path, "manifest.json", write_manifest, planned, err);
}

int kv_result_dir_write_all(struct kv_result_dir *dir, const struct kv_results *results, bool plots,
                            struct kv_error *err)
{
    int status = KV_OK;
    dir->written = true;
    for (size_t f = 0; status == KV_OK && f < sizeof files / sizeof files[0]; f++) {
        status = kv_write_aside(dir->path, files[f].name, files[f].write, results, err);
    }
    char *left_out = NULL;
    if (status == KV_OK && plots) status = kv_plot_results(dir->path, results, &left_out, err);
    if (left_out) fprintf(stderr, "kvbench: plots: %s\n", left_out);
    free(left_out);
    if (status == KV_OK) status = kv_report_write(dir->path, &dir->path, 1, "report.html", err);
    return status;
}
