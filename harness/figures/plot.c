/* Runs gnuplot over a run's plot data: in a folder aside, whose files move to DIR/plots when it
 * is done. Two processes share the figures: most of their time is the compression of PNG. */
#include "harness/figures/plot.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/output/row.h"

enum { NOT_FOUND = 127, SECONDS_AT_MOST = 60, MOST_SHARES = KV_PLOT_SHARES };

/* Only calls that are safe after a fork of a threaded program. The alarm outlives exec: a
 * gnuplot that hangs ends. */
static void become_gnuplot(const char *dir, const char *share)
{
    const int null = open("/dev/null", O_RDWR);
    if (chdir(dir) != 0 || null < 0) _exit(NOT_FOUND - 1);
    const int log = open("gnuplot.log", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (log < 0) _exit(NOT_FOUND - 1);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    alarm(SECONDS_AT_MOST);
    execlp("gnuplot", "gnuplot", "-d", "-e", share, "figures.gp", (char *)NULL);
    _exit(errno == ENOENT ? NOT_FOUND : NOT_FOUND - 1);
}

static pid_t start_gnuplot(const char *dir, int share)
{
    char text[32];
    snprintf(text, sizeof text, "share = %d", share);
    const pid_t child = fork();
    if (child == 0) become_gnuplot(dir, text);
    return child;
}

static const char *wait_for(pid_t child)
{
    int ended = 0;
    if (child < 0) return "gnuplot could not be started";
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) return NULL;
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == NOT_FOUND) return "gnuplot is not installed";
    return "gnuplot failed, see gnuplot.log there";
}

const char *kv_plot_run(const char *dir, int shares)
{
    pid_t children[MOST_SHARES];
    const char *failure = NULL;
    assert(shares <= MOST_SHARES);
    fflush(NULL);
    for (int share = 0; share < shares; share++) children[share] = start_gnuplot(dir, share);
    for (int share = 0; share < shares; share++) {
        const char *own = wait_for(children[share]);
        if (!failure) failure = own;
    }
    return failure;
}

/* Moves every file; the first that cannot be moved is the error. */
static int move_files(const char *from, const char *to, struct kv_error *err)
{
    DIR *folder = opendir(from);
    int status = folder ? KV_OK : kv_fail(err, KV_EENVIRONMENT, "%s: expected to read it, found: %s",
                                          from, strerror(errno));
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char *source = NULL, *target = NULL;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (kv_text_set(&source, "%s/%s", from, entry->d_name) != KV_OK
            || kv_text_set(&target, "%s/%s", to, entry->d_name) != KV_OK) {
            status = kv_fail(err, KV_EMEMORY, "plots: out of memory");
        } else if (rename(source, target) != 0 && status == KV_OK) {
            status = kv_fail(err, KV_EENVIRONMENT, "%s: expected to write it, found: %s", target,
                             strerror(errno));
        }
        free(source);
        free(target);
    }
    if (folder) closedir(folder);
    return status;
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char *file = NULL;
        if (kv_text_set(&file, "%s/%s", path, entry->d_name) == KV_OK) unlink(file);
        free(file);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

static bool is_there(const char *dir, const char *base, const char *ending)
{
    char *path = NULL;
    struct stat info;
    const bool there = kv_text_set(&path, "%s/%s%s", dir, base, ending) == KV_OK
                    && stat(path, &info) == 0 && info.st_size > 0;
    free(path);
    return there;
}

/* Figures that have data and no drawing. */
static void list_missing(FILE *out, const char *dir, const struct kv_results *results)
{
    for (uint32_t t = 0; t < results->n_traces; t++) {
        for (int f = 0; f < KV_FIGURES; f++) {
            char *base = NULL;
            if (kv_figure_file(&base, results, t, f) == KV_OK && is_there(dir, base, ".dat")
                && !is_there(dir, base, ".svg")) fprintf(out, " %s", base);
            free(base);
        }
    }
}

static int draw(const char *aside, const char *plots, const struct kv_results *results,
                char **left_out, struct kv_error *err)
{
    int status = kv_write_plot_data(aside, results, err);
    if (status != KV_OK) return status;
    const char *failure = kv_plot_run(aside, KV_PLOT_SHARES);
    char *text = NULL, *log = NULL;
    size_t length = 0;
    if (failure && left_out) {
        FILE *out = open_memstream(&text, &length);
        if (!out) return kv_fail(err, KV_EMEMORY, "plots: out of memory");
        fprintf(out, "%s: left out of %s:", failure, plots);
        list_missing(out, aside, results);
        if (fclose(out) == 0) *left_out = text;
    }
    const bool keep_log = failure && strstr(failure, "log");
    if (!keep_log && kv_text_set(&log, "%s/gnuplot.log", aside) == KV_OK) unlink(log);
    free(log);
    return move_files(aside, plots, err);
}

int kv_plot_results(const char *dir, const struct kv_results *results, char **left_out,
                    struct kv_error *err)
{
    char *aside = NULL, *plots = NULL;
    if (left_out) *left_out = NULL;
    int status = kv_text_set(&aside, "%s/.plots.%ld", dir, (long)getpid());
    if (status == KV_OK) status = kv_text_set(&plots, "%s/plots", dir);
    if (status != KV_OK) {
        kv_fail(err, status, "plots: out of memory");
    } else if ((mkdir(aside, 0777) != 0 && errno != EEXIST)
               || (mkdir(plots, 0777) != 0 && errno != EEXIST)) {
        status = kv_fail(err, KV_EENVIRONMENT, "%s: expected to make it, found: %s", plots,
                         strerror(errno));
    } else {
        status = draw(aside, plots, results, left_out, err);
    }
    if (aside) remove_folder(aside);
    free(aside);
    free(plots);
    return status;
}
