/* `run`, the default: replays traces through methods; a table on stdout, a result directory on disk. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "harness/commands/commands.h"
#include "harness/install.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/journal/journal.h"
#include "harness/commands/options.h"
#include "harness/run/journal/progress.h"
#include "harness/output/files/provenance.h"
#include "harness/output/files/result_dir.h"
#include "harness/output/row.h"
#include "harness/output/files/shell_word.h"
#include "harness/run/run.h"
#include "harness/output/tables/table.h"
#include "harness/output/files/writers.h"

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

struct session {                      /* what the callbacks of a run share */
    struct kv_journal *journal;
    struct kv_past_cells *past;
    struct kv_progress progress;
    bool verbose;
    struct kv_result_dir *dir;
    const struct kv_results *planned; /* written as the manifest when the first cell ends; then NULL */
};

static bool restore(void *context, struct kv_cell *cell)
{
    const struct session *session = context;
    return session->past && kv_past_cells_restore(session->past, cell);
}

static int finished(void *context, const struct kv_cell *cell, struct kv_error *err)
{
    struct session *session = context;
    int status = kv_journal_append(session->journal, cell, err);
    if (status == KV_OK && session->planned) status = kv_result_dir_begin(session->dir, session->planned, err);
    session->planned = NULL;
    const char *reason = cell->row.reason ? cell->row.reason : "";
    if (session->verbose)
        fprintf(stderr, "%s: %s: %s%s%s, %.3g s\n", cell->row.trace, cell->row.method, cell->row.status,
                *reason ? ": " : "", reason, cell->seconds);
    return status;
}

static void progress(void *context, double done)
{
    kv_progress_step(&((struct session *)context)->progress, done);
}

static bool is_full(const struct kv_run_options *options) { return strcmp(options->metrics, "full") == 0; }

/* What changes rows beside traces, specs, seed and isa, as arguments. */
static char *row_options(const struct kv_run_options *options)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return NULL;
    for (uint32_t l = 0; l < options->layers.n; l++)
        fprintf(out, "%s%u", l ? "," : " --layers ", options->layers.at[l]);
    if (options->queries) fprintf(out, " --queries %u", options->queries);
    if (options->calibrate) fputs(" --calibrate", out), kv_shell_word(out, options->calibrate);
    if (options->no_verify) fputs(" --no-verify", out);
    if (is_full(options)) fputs(" --metrics full", out);
    const bool written = fclose(out) == 0 && length > 0;
    if (written) memmove(text, text + 1, length);
    else free(text);
    return written ? text : NULL;
}

/* What cells of the journal must share: the options, with what a calibration holds and not its path alone. */
static int journal_key(char **key, const struct kv_run_options *options, const char *said, struct kv_error *err)
{
    struct kv_calibration *calibration = NULL;
    *key = NULL;
    int status = options->calibrate ? kv_calibration_open(&calibration, options->calibrate, KV_NO_VERIFY, err) : KV_OK;
    if (status == KV_OK)
        status = kv_text_set(key, "%s%s%s", said ? said : "", calibration ? " " : "",
                             calibration ? kv_calibration_hash(calibration) : "");
    kv_calibration_close(calibration);
    return status;
}

static char *join_command(int argc, char **argv)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return NULL;
    fputs("kvbench run", out);
    for (int i = 1; i < argc; i++) kv_shell_word(out, argv[i]);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static int default_traces(struct kv_run_options *options, struct kv_error *err)
{
    static const char *const names[] = {"traces/data/prose.h5", "traces/data/code.h5"};
    if (options->n_traces) return KV_OK;
    options->traces = calloc(2, sizeof *options->traces);
    for (int i = 0; options->traces && i < 2; i++) {
        options->traces[i] = kv_install_path(names[i]);
        if (!options->traces[i]) return kv_fail(err, KV_EMEMORY, "out of memory");
        options->n_traces++;
    }
    return options->traces ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory");
}

static const char default_methods[] = "f16,int:bits=8/4/2,kivi:bits=4/2,turboquant:bits=4/3/2,streaming,h2o,snapkv";

/* The run's definition, hashed: names the result directory. */
static void definition_hash(const struct kv_run_options *options, const struct kv_spec_list *specs, char out[17])
{
    char *rows = row_options(options);
    uint64_t hash = XXH3_64bits_withSeed(options->isa, strlen(options->isa), options->seed);
    if (rows) hash = XXH3_64bits_withSeed(rows, strlen(rows), hash);
    hash += ((uint64_t)options->seeds << 1) + options->per_layer;
    free(rows);
    for (uint32_t s = 0; s < specs->n; s++) hash = XXH3_64bits_withSeed(specs->specs[s].text, strlen(specs->specs[s].text), hash);
    for (uint32_t t = 0; t < options->n_traces; t++) hash = XXH3_64bits_withSeed(options->traces[t], strlen(options->traces[t]), hash);
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int write_results(struct kv_run_options *options, struct kv_result_dir *dir,
                         const struct kv_results *results, struct kv_error *err)
{
    int status = kv_result_dir_write_all(dir, results, !options->no_plots && !results->interrupted, err);
    const bool table = strcmp(options->format, "table") == 0;
    struct kv_error late;
    int printed = KV_OK;
    if (table) kv_print_table(stdout, results, kv_wants_colour(stdout));
    else printed = kv_write_rows(stdout, results, options->format, &late);
    if (fflush(stdout) != 0 && printed == KV_OK)
        printed = kv_fail(&late, KV_EENVIRONMENT, "stdout: cannot write: %s", strerror(errno));
    if (!options->quiet) fprintf(stderr, "results: %s\n", kv_result_dir_path(dir));
    if (status == KV_OK && options->profile) status = kv_profile_write(options->profile, results, err);
    if (status == KV_OK && printed != KV_OK) status = printed, *err = late;
    return status;
}

/* What the manifest says of a run before it has ended, killed or not. */
static int plan(struct kv_results *planned, const struct kv_run_options *options, const struct kv_spec_list *specs,
                const struct kv_results *results, struct kv_error *err)
{
    *planned = *results;
    planned->isa = options->isa, planned->seed = options->seed, planned->seeds = options->seeds;
    planned->threads = (int)options->threads;
    planned->per_layer = options->per_layer, planned->interrupted = true;
    planned->specs = calloc(specs->n, sizeof *planned->specs);
    planned->traces = calloc(options->n_traces, sizeof *planned->traces);
    if (!planned->specs || !planned->traces) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (; planned->n_specs < specs->n; planned->n_specs++)
        planned->specs[planned->n_specs] = specs->specs[planned->n_specs].text;
    for (; planned->n_traces < options->n_traces; planned->n_traces++)
        planned->traces[planned->n_traces].path = options->traces[planned->n_traces];
    return KV_OK;
}

static int run_into(struct kv_run_options *options, const struct kv_spec_list *specs,
                    struct kv_results *results, struct kv_result_dir *dir, struct kv_error *err)
{
    struct kv_results planned = {0};
    struct session session = {.dir = dir, .planned = &planned};
    const char *path = kv_result_dir_path(dir);
    char *key = NULL;
    int status = plan(&planned, options, specs, results, err);
    if (status == KV_OK) status = kv_result_dir_plan(dir, &planned, err);
    if (status == KV_OK) status = journal_key(&key, options, results->options, err);
    if (status == KV_OK && options->resume)
        status = kv_past_cells_read(&session.past, path, results->code_version, key, err);
    if (status == KV_OK)
        status = kv_journal_open(&session.journal, path, results->code_version, key, err);
    free(key);
    if (status != KV_OK) {
        kv_past_cells_free(session.past);
        free(planned.specs), free(planned.traces);
        return status;
    }
    const struct kv_run_request request = {
        .specs = specs, .traces = options->traces, .n_traces = options->n_traces,
        .layers = options->layers.at, .n_layers = options->layers.n, .isa = options->isa,
        .threads = (int)options->threads, .seed = options->seed, .seeds = options->seeds,
        .queries = options->queries, .calibrate = options->calibrate, .timeout_seconds = options->timeout_seconds,
        .per_layer = options->per_layer, .no_verify = options->no_verify, .audit = options->audit, .full_metrics = is_full(options),
        .stop = &stop, .context = &session, .restore = restore, .finished = finished, .progress = progress};
    session.verbose = options->verbose;
    kv_progress_begin(&session.progress, options->quiet || options->verbose);
    status = kv_run(&request, results, err);
    kv_progress_end(&session.progress);
    kv_journal_close(session.journal);
    kv_past_cells_free(session.past);
    free(planned.specs), free(planned.traces);
    /* Whatever ended the run, what it finished is written. */
    if (results->n_cells > 0) {
        struct kv_error late;
        const int written = write_results(options, dir, results, &late);
        if (written != KV_OK && (status == KV_OK || status == KV_ECELL)) status = written, *err = late;
    }
    return status;
}

static int run(struct kv_run_options *options, int argc, char **argv, struct kv_error *err)
{
    struct kv_spec_list specs;
    struct kv_results results = {0};
    struct kv_result_dir *dir = NULL;
    char hash[17];
    int status = kv_check_format(options->format, err);
    if (status == KV_OK) status = kv_spec_parse(&specs, options->methods ? options->methods : default_methods, err);
    if (status != KV_OK) return status;
    if (options->split) status = kv_spec_split(&specs, err);
    if (status == KV_OK) status = default_traces(options, err);
    if (status == KV_OK) {
        kv_provenance_fill(&results);
        results.command = join_command(argc, argv);
        results.options = row_options(options);
        definition_hash(options, &specs, hash);
        status = kv_result_dir_open(&dir, options->resume ? options->resume : options->out, hash, err);
    }
    if (status == KV_OK) {
        catch_signals();
        status = run_into(options, &specs, &results, dir, err);
    }
    kv_result_dir_close(dir);
    kv_results_free(&results);
    kv_spec_free(&specs);
    return status;
}

int kv_cmd_run(int argc, char **argv, struct kv_error *err)
{
    struct kv_run_options options;
    int status = kv_options_parse(&options, argc - 1, argv + 1, err);
    if (status == KV_OK) status = run(&options, argc, argv, err);
    kv_options_free(&options);
    return status;
}
