/* The numbers behind the figures: one data file a figure, blocks separated by two blank lines, and
 * figures.gp, which names each figure's ranges and texts and draws them all. */
#include "harness/figures/plot.h"

#include <stdlib.h>
#include <string.h>

#include "harness/output/files/aside.h"
#include "harness/output/row.h"

static int (*const writers[KV_FIGURES])(struct kv_figure_page *) = {
    [KV_FIGURE_QUALITY] = kv_figure_quality, [KV_FIGURE_LAYERS] = kv_figure_layers,
    [KV_FIGURE_POSITION] = kv_figure_position, [KV_FIGURE_MEMORY] = kv_figure_memory,
};

struct figure_job { const struct kv_results *results; const struct kv_ranking *ranking;
                    enum kv_figure kind; FILE *script; uint32_t number; };

static int write_figure(FILE *data, const void *what)
{
    const struct figure_job *job = what;
    struct kv_figure_page figure = {.script = job->script, .data = data, .results = job->results,
                            .ranking = job->ranking};
    return writers[job->kind](&figure);
}

/* The data file of one figure and its part of the script. */
static int add_figure(const char *dir, struct figure_job *job, uint32_t trace, struct kv_error *err)
{
    char *base = NULL, *file = NULL;
    int status = kv_figure_file(&base, job->results, trace, job->kind);
    if (status == KV_OK) status = kv_text_set(&file, "%s.dat", base);
    if (status == KV_OK) {
        kv_figure_set_text(job->script, "base", "%s", base);
        status = kv_write_aside(dir, file, write_figure, job, err);
        fprintf(job->script, "if (mine(%u)) load '%s.gp'\n\n", job->number, kv_figure_names[job->kind]);
    }
    free(base);
    free(file);
    return status;
}

static int write_text(FILE *file, const void *text)
{
    return fputs(text, file) == EOF ? KV_EENVIRONMENT : KV_OK;
}

int kv_plot_write_script(const char *dir, const char *name, struct kv_error *err)
{
    const struct kv_plot_script *script = kv_plot_scripts;
    while (strcmp(script->name, name) != 0) script++;
    return kv_write_aside(dir, name, write_text, script->text, err);
}

static int add_figures(const char *dir, const struct kv_results *results, FILE *script,
                       struct kv_error *err)
{
    int status = KV_OK;
    uint32_t number = 0;
    fprintf(script, "# Draws every figure of this run: gnuplot figures.gp\n"
                    "if (!exists('share')) share = -1     # of %d processes: all of it\n"
                    "mine(number) = share < 0 || number %% %d == share\n\n", KV_PLOT_SHARES, KV_PLOT_SHARES);
    for (uint32_t t = 0; status == KV_OK && t < results->n_traces; t++) {
        struct kv_ranking ranking;
        status = kv_rank(&ranking, results, t);
        if (status != KV_OK) return kv_fail(err, status, "plots: out of memory");
        for (int f = 0; ranking.n_measured && status == KV_OK && f < KV_FIGURES; f++) {
            struct figure_job job = {results, &ranking, f, script, number++};
            status = add_figure(dir, &job, t, err);
        }
        kv_ranking_free(&ranking);
    }
    return status;
}

int kv_write_plot_data(const char *dir, const struct kv_results *results, struct kv_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *script = open_memstream(&text, &length);
    if (!script) return kv_fail(err, KV_EMEMORY, "plots: out of memory");
    int status = add_figures(dir, results, script, err);
    if (fclose(script) != 0 && status == KV_OK) {
        status = kv_fail(err, KV_EMEMORY, "plots: out of memory");
    }
    if (status == KV_OK) status = kv_write_aside(dir, "figures.gp", write_text, text, err);
    free(text);
    if (status == KV_OK) status = kv_plot_write_script(dir, "style.gp", err);
    for (int f = 0; status == KV_OK && f < KV_FIGURES; f++) {
        char name[64];
        snprintf(name, sizeof name, "%s.gp", kv_figure_names[f]);
        status = kv_plot_write_script(dir, name, err);
    }
    return status;
}
