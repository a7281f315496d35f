/* `perf [BENCH...|all]`: how near the program comes to what the machine can do (perf/perf.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/perf/benches.h"
#include "harness/perf/perf_row.h"
#include "harness/output/provenance.h"

static const struct {
    const char *name, *does;
    kv_perf_bench *run;
} benches[] = {
    {"attn", "exact causal attention / multiply-add peak", kv_perf_attn},
    {"attend", "query rows over codes / over 32-bit floats", kv_perf_attend},
    {"encode", "rows to codes, in cycles or beside reading them once", kv_perf_encode},
    {"fht", "Hadamard transforms, in cycles", kv_perf_fht},
    {"decode", "one query over stored codes / read bandwidth", kv_perf_decode},
    {"evict", "column sums, online eviction / exact reference", kv_perf_evict},
    {"io", "reading a layer of a trace / pread", kv_perf_io},
    {"scale", "exponents of growth beside the cost model's", kv_perf_scale},
    {"e2e", "20 methods and the reference, from file to rows", kv_perf_e2e},
};

enum { N_BENCHES = sizeof benches / sizeof *benches };

static int help(void)
{
    printf("kvbench perf [BENCH...|all] [options]: limit, ours, ratio, spread, goal; taken in "
           "turns\n\n");
    for (int i = 0; i < N_BENCHES; i++) printf("  %-10s %s\n", benches[i].name, benches[i].does);
    printf("\n  --isa NAME      kernel set (auto)\n"
           "  --repeats N     turns (9); see below\n"
           "  --tokens LIST   instead of the bench's own: 1024,4096\n"
           "  --dims LIST     head dimensions\n"
           "  --rows LIST     query rows\n"
           "  --threads LIST  numbers of threads\n"
           "  --method LIST   specs, or all\n"
           "  --file FILE     a trace, for benches that read one\n"
           "  --vs SCRIPT     a program as yardstick, timed in turn (experiments/baselines)\n"
           "  --json          one JSON object on stdout\n"
           "  --tiny          smallest sizes: numbers mean nothing\n\n"
           "A pair is a stretch of ours of at least 2 ms beside one of the limit, half of it "
           "before and half\n"
           "after; a turn is 30 ms of pairs, or one, and counts as their median; printed are "
           "medians over the\n"
           "turns. While the ratio's spread, (p90 - p10) / median over the turns, is above 15 %% "
           "and the case\n"
           "took less than 6 s, as many pairs again are taken, for turns twice as long: all of "
           "them count.\n"
           "What stays above 15 %%, or had other processes on more than 10 %% of the CPUs, is "
           "invalid. A goal\n"
           "that is missed has its reason under it, measured in the same run.\n");
    return KV_OK;
}

static int parse_sizes(struct kv_perf_sizes *sizes, const char *option, const char *text,
                       struct kv_error *err)
{
    const char *at = text;
    for (sizes->n = 0; *at && sizes->n < KV_PERF_SHAPES; at += *at == ',') {
        char *end;
        const unsigned long value = strtoul(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || (*end && *end != ',') || value < 1 ||
            value > 1ul << 24)
            break;
        sizes->at[sizes->n++] = (uint32_t)value;
        at = end;
    }
    if (sizes->n && !*at) return KV_OK;
    return kv_fail(err, KV_EUSAGE,
                   "perf: %s: expected up to %d numbers from 1 to 16777216, found %.100s", option,
                   KV_PERF_SHAPES, text);
}

static int parse_repeats(struct kv_perf_options *options, const char *text, struct kv_error *err)
{
    struct kv_perf_sizes one;
    const int status = parse_sizes(&one, "--repeats", text, err);
    if (status != KV_OK) return status;
    if (one.n != 1 || one.at[0] > 10000)
        return kv_fail(err, KV_EUSAGE,
                       "perf: --repeats: expected a number from 1 to 10000, found %s", text);
    options->repeats = one.at[0];
    return KV_OK;
}

/* An option with a value. */
static int parse_value(struct kv_perf_options *options, const char *name, const char *value,
                       struct kv_error *err)
{
    const struct {
        const char *name;
        const char **text;
        struct kv_perf_sizes *sizes;
    } table[] = {{"--isa", &options->isa, NULL},       {"--vs", &options->vs, NULL},
                 {"--method", &options->method, NULL}, {"--file", &options->file, NULL},
                 {"--tokens", NULL, &options->tokens}, {"--dims", NULL, &options->dims},
                 {"--rows", NULL, &options->rows},     {"--threads", NULL, &options->threads_list}};
    static const char *const names[] = {"--isa",  "--vs",   "--method",  "--file",    "--tokens",
                                        "--dims", "--rows", "--threads", "--repeats", "--json",
                                        "--tiny", "--help", NULL};
    if (!strcmp(name, "--repeats") && value) return parse_repeats(options, value, err);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(name, table[i].name)) continue;
        if (!value) break;
        if (table[i].sizes) return parse_sizes(table[i].sizes, name, value, err);
        *table[i].text = value;
        return KV_OK;
    }
    const char *near = kv_nearest(name, names);
    if (near && !strcmp(near, name))
        return kv_fail(err, KV_EUSAGE, "perf: %s: expected a value", name);
    return kv_fail(err, KV_EUSAGE, "perf: unknown option %s%s%s%s", name,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int choose_bench(bool *wanted, const char *word, struct kv_error *err)
{
    const char *names[N_BENCHES + 2] = {"all"};
    for (int i = 0; i < N_BENCHES; i++) {
        names[i + 1] = benches[i].name;
        if (strcmp(word, "all") == 0 || strcmp(word, benches[i].name) == 0) {
            wanted[i] = true;
            if (strcmp(word, "all")) return KV_OK;
        }
    }
    if (strcmp(word, "all") == 0) return KV_OK;
    const char *near = kv_nearest(word, names);
    return kv_fail(err, KV_EUSAGE, "perf: unknown bench %s%s%s%s", word,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int parse(struct kv_perf_options *options, bool *wanted, bool *helps, int argc, char **argv,
                 struct kv_error *err)
{
    int status = KV_OK;
    for (int i = 1; status == KV_OK && i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            options->json = true;
        else if (!strcmp(argv[i], "--tiny"))
            options->tiny = true;
        else if (!strcmp(argv[i], "--help"))
            *helps = true;
        else if (argv[i][0] != '-')
            status = choose_bench(wanted, argv[i], err);
        else {
            status = parse_value(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL, err);
            i++;
        }
    }
    return status;
}

static int run_benches(struct kv_perf *perf, const bool *wanted, struct kv_error *err)
{
    int status = KV_OK;
    for (int i = 0; status == KV_OK && i < N_BENCHES; i++) {
        if (!wanted[i]) continue;
        perf->bench = benches[i].name;
        kv_perf_heading(perf);
        status = benches[i].run(perf, err);
    }
    return status;
}

static int print_json(struct kv_perf *perf, struct kv_error *err)
{
    cJSON *all = cJSON_CreateObject();
    bool done = all && cJSON_AddStringToObject(all, "kvbench", kv_code_version());
    done = done && cJSON_AddItemToObject(all, "rows", perf->rows);
    if (done) perf->rows = NULL;
    char *text = done ? cJSON_Print(all) : NULL;
    if (text) puts(text);
    free(text);
    cJSON_Delete(all);
    return text ? KV_OK : kv_fail(err, KV_EMEMORY, "perf: out of memory for the JSON");
}

int kv_cmd_perf(int argc, char **argv, struct kv_error *err)
{
    struct kv_perf perf = {.options = {.isa = "auto", .repeats = 9}};
    bool wanted[N_BENCHES] = {false}, helps = false, any = false;
    int status = parse(&perf.options, wanted, &helps, argc, argv, err);
    if (status != KV_OK || helps) return status != KV_OK ? status : help();
    for (int i = 0; i < N_BENCHES; i++) any |= wanted[i];
    for (int i = 0; !any && i < N_BENCHES; i++) wanted[i] = true;
    status = kv_kernels_fill(&perf.kernels, perf.options.isa, err);
    if (status != KV_OK) return status;
    perf.rows = cJSON_CreateArray();
    if (!perf.rows) return kv_fail(err, KV_EMEMORY, "perf: out of memory");
    status = run_benches(&perf, wanted, err);
    if (status == KV_OK && perf.options.json)
        status = print_json(&perf, err);
    else if (status == KV_OK)
        printf("\n%u met, %u not met, %u without a goal, %u invalid\n", perf.met, perf.missed,
               perf.without_goal, perf.invalid);
    cJSON_Delete(perf.rows);
    return status;
}
