/* Data and drawing; see memory_plot.h. */
#include "harness/memory/memory_plot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/figures/plot.h"

/* From 1Ki to 1Mi tokens, two points an octave; a run through all rows costs more and stops
 * earlier. */
enum { FIRST = 1 << 10, LAST = 1 << 20, LAST_COUNTED = 1 << 16 };

struct kv_memory_plot {
    char *dir;
    FILE *data;
    uint32_t n_curves, n_models, n_methods; /* methods of the last model so far */
    int longest;                            /* name of a curve */
    char model[96];                         /* of the last curve */
    struct { FILE *out; char *text; size_t length; } models, methods; /* their numbers, a curve each */
};

static FILE *create(const char *dir, const char *name, struct kv_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    if (!file)
        kv_fail(err, KV_EENVIRONMENT, "%s: expected to write it, found: %s", path, strerror(errno));
    return file;
}

int kv_memory_plot_open(struct kv_memory_plot **out, const char *dir, struct kv_error *err)
{
    struct kv_memory_plot *plot = calloc(1, sizeof *plot);
    if (plot) plot->dir = strdup(dir);
    *out = plot;
    if (plot) {
        plot->models.out = open_memstream(&plot->models.text, &plot->models.length);
        plot->methods.out = open_memstream(&plot->methods.text, &plot->methods.length);
    }
    if (!plot || !plot->dir || !plot->models.out || !plot->methods.out) {
        kv_memory_plot_close(plot);
        *out = NULL;
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    }
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return kv_fail(err, KV_EENVIRONMENT, "%s: expected to make it, found: %s", dir,
                       strerror(errno));
    plot->data = create(dir, "memory.dat", err);
    return plot->data ? KV_OK : KV_EENVIRONMENT;
}

/* A block of the data file: its name, then context and bytes. The weights of a model are a curve
 * too. */
static void begin_curve(struct kv_memory_plot *plot, const char *model, const char *method, uint32_t number)
{
    fprintf(plot->models.out, "%u ", plot->n_models);
    fprintf(plot->methods.out, "%u ", number);
    fputs(plot->n_curves++ ? "\n\n" : "", plot->data);
    const int length = fprintf(plot->data, "\"%s  %s\"\n", model, method) - 3;
    if (length > plot->longest) plot->longest = length;
}

int kv_memory_plot_add(struct kv_memory_plot *plot, const char *model, const char *method,
                       struct kv_memory *memory, int64_t weights, struct kv_error *err)
{
    const uint32_t last = kv_memory_is_counted(memory, LAST) ? LAST : LAST_COUNTED;
    int status = KV_OK;
    const bool another = strcmp(plot->model, model) != 0;
    if (another) plot->n_models++, plot->n_methods = 0;
    if (another && weights > 0) {
        begin_curve(plot, model, "weights", 0);
        fprintf(plot->data, "%d %" PRId64 "\n%d %" PRId64 "\n", FIRST, weights, LAST, weights);
    }
    snprintf(plot->model, sizeof plot->model, "%s", model);
    begin_curve(plot, model, method, ++plot->n_methods);
    for (uint32_t context = FIRST; status == KV_OK && context <= last; context *= 2)
        for (uint32_t half = 0; status == KV_OK && half < 2 && (half == 0 || context < last);
             half++) {
            struct kv_memory_total total;
            const uint32_t tokens = context + half * (context / 2);
            status = kv_memory_at(memory, tokens, &total, err);
            if (status == KV_OK) fprintf(plot->data, "%u %" PRId64 "\n", tokens, total.total);
        }
    return status;
}

static int write_scripts(const struct kv_memory_plot *plot, struct kv_error *err)
{
    FILE *figures = create(plot->dir, "figures.gp", err);
    if (!figures) return KV_EENVIRONMENT;
    fflush(plot->models.out), fflush(plot->methods.out);
    fprintf(figures, "curves = %u\nlongest = %d\nmodels = '%s'\nmethods = '%s'\nload 'memory_context.gp'\n",
            plot->n_curves, plot->longest, plot->models.text, plot->methods.text);
    fclose(figures);
    const int status = kv_plot_write_script(plot->dir, "style.gp", err);
    return status == KV_OK ? kv_plot_write_script(plot->dir, "memory_context.gp", err) : status;
}

int kv_memory_plot_draw(struct kv_memory_plot *plot, struct kv_error *err)
{
    const bool bad = fclose(plot->data) != 0;
    plot->data = NULL;
    if (bad) return kv_fail(err, KV_EENVIRONMENT, "%s/memory.dat: cannot write", plot->dir);
    const int status = write_scripts(plot, err);
    const char *failure = status == KV_OK ? kv_plot_run(plot->dir, 1) : NULL;
    if (failure) fprintf(stderr, "%s: not drawn: %s\n", plot->dir, failure);
    return status;
}

void kv_memory_plot_close(struct kv_memory_plot *plot)
{
    if (!plot) return;
    if (plot->data) fclose(plot->data);
    if (plot->models.out) fclose(plot->models.out);
    if (plot->methods.out) fclose(plot->methods.out);
    free(plot->models.text);
    free(plot->methods.text);
    free(plot->dir);
    free(plot);
}
