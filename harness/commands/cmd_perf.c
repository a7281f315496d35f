/* `perf [BENCH...|all]`: how near the program comes to what the machine can do (perf/perf.h). */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/perf/benches.h"
#include "harness/perf/perf_row.h"
#include "harness/output/files/provenance.h"

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

struct perf_options {
    struct kv_perf_options of;
    bool wanted[N_BENCHES];
};

static int take_bench(const struct kv_given *given, struct kv_error *err)
{
    const char *names[N_BENCHES + 2] = {"all"}, *word = given->value;
    const bool all = strcmp(word, "all") == 0;
    bool known = all;
    for (int i = 0; i < N_BENCHES; i++) {
        names[i + 1] = benches[i].name;
        if (!all && strcmp(word, benches[i].name) != 0) continue;
        ((struct perf_options *)given->target)->wanted[i] = known = true;
    }
    return known ? KV_OK
                 : kv_fail(err, KV_EUSAGE, "perf: unknown bench %s%s", word,
                           kv_hint(word, names).text);
}

#define FIELD(field) offsetof(struct perf_options, of.field)
#define SIZES(field) KV_LIST, FIELD(field), "LIST"

static const struct kv_argument table[] = {
    {"--isa", KV_TEXT, FIELD(isa), "NAME", "kernel set (auto)"},
    {"--repeats", KV_WHOLE, FIELD(repeats), "N", "turns (9); see below", 1, 10000},
    {"--tokens", SIZES(tokens), "instead of the bench's own: 1024,4096", 1, 1 << 24,
     KV_PERF_SHAPES},
    {"--dims", SIZES(dims), "head dimensions", 1, 1 << 24, KV_PERF_SHAPES},
    {"--rows", SIZES(rows), "query rows", 1, 1 << 24, KV_PERF_SHAPES},
    {"--threads", SIZES(threads_list), "numbers of threads", 1, 1 << 24, KV_PERF_SHAPES},
    {"--method", KV_TEXT, FIELD(method), "LIST", "specs, or all"},
    {"--file", KV_TEXT, FIELD(file), "FILE", "a trace, for benches that read one"},
    {"--vs", KV_TEXT, FIELD(vs), "SCRIPT",
     "a program as yardstick, timed in turn (experiments/baselines)"},
    {"--json", KV_SWITCH, FIELD(json), NULL, "one JSON object on stdout"},
    {"--tiny", KV_SWITCH, FIELD(tiny), NULL, "smallest sizes: numbers mean nothing"},
    {"", KV_TAKEN, 0, "BENCH", NULL, .take = take_bench},
    {NULL}};

static void help(void)
{
    printf("kvbench perf [BENCH...|all] [options]: limit, ours, ratio, spread, goal; taken in "
           "turns\n\n");
    for (int i = 0; i < N_BENCHES; i++) printf("  %-10s %s\n", benches[i].name, benches[i].does);
    putchar('\n');
    kv_arguments_print(table);
    printf("\nA pair is a stretch of ours of at least 2 ms beside one of the limit, half of it "
           "before and half\n"
           "after; a turn is 30 ms of pairs, or one, and counts as their median; printed are "
           "medians over the\n"
           "turns. While the ratio's spread, (p90 - p10) / median over the turns, is above 15 %% "
           "and the case\n"
           "took less than 6 s, as many pairs again are taken, for turns twice as long: all of "
           "them count.\n"
           "What stays above 15 %%, or had other processes on more than 10 %% of the CPUs, is "
           "invalid. Sibling\n"
           "is the share of looks at which the core's other hardware thread was at work, told by the "
           "instructions\n"
           "that are left in flight. A goal that is missed has its reason under it, measured in the "
           "same run.\n");
}

static const struct kv_arguments arguments = {.who = "perf", .help = help, .table = table};

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
    struct perf_options options = {.of = {.isa = "auto", .repeats = 9}};
    bool any = false;
    int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    if (status != KV_OK) return status;
    struct kv_perf perf = {.options = options.of};
    for (int i = 0; i < N_BENCHES; i++) any |= options.wanted[i];
    for (int i = 0; !any && i < N_BENCHES; i++) options.wanted[i] = true;
    status = kv_kernels_fill(&perf.kernels, perf.options.isa, err);
    if (status != KV_OK) return status;
    perf.rows = cJSON_CreateArray();
    if (!perf.rows) return kv_fail(err, KV_EMEMORY, "perf: out of memory");
    kv_sibling_create(&perf.sibling);
    status = run_benches(&perf, options.wanted, err);
    kv_sibling_free(&perf.sibling);
    if (status == KV_OK && perf.options.json)
        status = print_json(&perf, err);
    else if (status == KV_OK)
        printf("\n%u met, %u not met, %u without a goal, %u invalid\n", perf.met, perf.missed,
               perf.without_goal, perf.invalid);
    cJSON_Delete(perf.rows);
    return status;
}
