/* kvbench reproduce [PAPER...]: claimed figures of papers against measured ones. The claims are
 * data (claims.h); here are options, the order of work and the table. */
#include <glob.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/claims/claims.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/output/files/json.h"

struct reproduce {
    struct kv_texts papers, traces;
    const char *folder, *isa;
    uint64_t seed;
    bool json, all;
    glob_t bundled;
};

#define FIELD(field) offsetof(struct reproduce, field)

static const struct kv_argument table[] = {
    {"--all", KV_SWITCH, FIELD(all), NULL, "every claim, as without a name"},
    {"--trace", KV_TEXTS, FIELD(traces), "FILE",
     "a recording; repeatable (default: the bundled ones)", 0, KV_MOST_TEXTS},
    {"--claims", KV_TEXT, FIELD(folder), "DIR",
     "claims as CSV files (default: experiments/papers)"},
    {"--seed", KV_SEED, FIELD(seed), "N", "seed of everything random (default 1)"},
    {"--isa", KV_TEXT, FIELD(isa), "NAME", "kernel set"},
    {"--json", KV_SWITCH, FIELD(json), NULL, "the same as JSON"},
    {"", KV_TEXTS, FIELD(papers), "PAPER|CLAIM", NULL, 0, KV_MOST_TEXTS},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "reproduce",
    .usage = "kvbench reproduce [PAPER|CLAIM...|--all] (kvbench list claims)\n\n",
    .table = table};

/* Without --trace: the bundled ones, in the order of their names. None is no error: claims that
 * want one say so. */
static int take_bundled_traces(struct reproduce *reproduce, struct kv_error *err)
{
    char folder[4096], pattern[4200];
    if (reproduce->traces.n || !kv_tree_folder(folder, "traces/data")) return KV_OK;
    snprintf(pattern, sizeof pattern, "%s/*.h5", folder);
    if (glob(pattern, 0, NULL, &reproduce->bundled) != 0) return KV_OK;
    if (reproduce->bundled.gl_pathc > KV_MOST_TEXTS)
        return kv_fail(err, KV_EUSAGE, "reproduce: %s: expected at most %d recordings", folder,
                       KV_MOST_TEXTS);
    for (size_t i = 0; i < reproduce->bundled.gl_pathc; i++)
        reproduce->traces.at[reproduce->traces.n++] = reproduce->bundled.gl_pathv[i];
    return KV_OK;
}

/* ---- which claims ---- */

static bool is_wanted(const struct reproduce *reproduce, const struct kv_claim *claim)
{
    for (uint32_t i = 0; i < reproduce->papers.n; i++)
        if (strcmp(reproduce->papers.at[i], claim->source) == 0 ||
            strcmp(reproduce->papers.at[i], claim->claim) == 0)
            return true;
    return reproduce->papers.n == 0 || reproduce->all;
}

/* Every paper that was asked for is there; else the nearest name. */
static int check_papers(const struct reproduce *reproduce, const struct kv_claims *claims,
                        struct kv_error *err)
{
    for (uint32_t i = 0; i < reproduce->papers.n; i++) {
        const char *names[KV_MOST_TEXTS + 1] = {0};
        const char *paper = reproduce->papers.at[i];
        bool known = false;
        for (uint32_t c = 0, n = 0; c < claims->n; c++) {
            const struct kv_claim *claim = claims->claim + c;
            known |= strcmp(claim->source, paper) == 0 || strcmp(claim->claim, paper) == 0;
            if (n < KV_MOST_TEXTS && (!n || strcmp(names[n - 1], claim->source) != 0))
                names[n++] = claim->source;
        }
        if (!known)
            return kv_fail(err, KV_EUSAGE, "reproduce: unknown paper or claim %s%s", paper,
                           kv_hint(paper, names).text);
    }
    return KV_OK;
}

/* The same measure with the same setting is taken once. */
static const struct kv_claim *measured_before(const struct reproduce *reproduce,
                                              const struct kv_claims *claims, uint32_t index)
{
    const struct kv_claim *claim = claims->claim + index;
    for (uint32_t c = 0; c < index; c++) {
        const struct kv_claim *other = claims->claim + c;
        if (is_wanted(reproduce, other) && strcmp(other->measure, claim->measure) == 0 &&
            strcmp(other->setting, claim->setting) == 0)
            return other;
    }
    return NULL;
}

static int test_claim(const struct reproduce *reproduce, struct kv_claims *claims, uint32_t index,
                      const struct kv_measuring *measuring, struct kv_error *err)
{
    struct kv_claim *claim = claims->claim + index;
    const struct kv_claim *before = measured_before(reproduce, claims, index);
    if (!before) return kv_claim_test(claim, measuring, err);
    claim->measured = before->measured;
    snprintf(claim->reason, sizeof claim->reason, "%s", before->reason);
    return kv_claim_judge(claim, err);
}

static int test_claims(const struct reproduce *reproduce, struct kv_claims *claims,
                       struct kv_error *err)
{
    struct kv_kernels kernels;
    int status = kv_kernels_fill(&kernels, reproduce->isa, err);
    const struct kv_measuring measuring = {&kernels, reproduce->seed, reproduce->traces.n,
                                           reproduce->traces.at};
    for (uint32_t i = 0; status == KV_OK && i < claims->n; i++)
        if (is_wanted(reproduce, claims->claim + i))
            status = test_claim(reproduce, claims, i, &measuring, err);
    return status;
}

/* ---- output ---- */

/* Text in lines of at most `width`, each behind `indent` blanks. */
static void print_wrapped(const char *text, int indent, int width)
{
    while (*text) {
        int length = (int)strlen(text);
        if (length > width) {
            length = width;
            while (length > 1 && text[length] != ' ') length--;
        }
        printf("%*s%.*s\n", indent, "", length, text);
        text += length;
        while (*text == ' ') text++;
    }
}

static const char *figure_text(double figure, char text[32])
{
    if (isnan(figure)) return "-";
    snprintf(text, 32, "%.4g", figure);
    return text;
}

/* Better than expected is as unexplained as worse: the note beside it tells of another figure. */
static bool surprises(const struct kv_claim *claim)
{
    return claim->expected[0] &&
           strcmp(claim->expected, kv_claim_verdict_name(claim->verdict)) != 0;
}

static void print_claim(const struct kv_claim *claim)
{
    char measured[32];
    printf("%-28s %8s %9s  %-21s  %s%s\n", claim->claim, claim->claimed[0] ? claim->claimed : "-",
           figure_text(claim->measured, measured), kv_claim_verdict_name(claim->verdict),
           claim->metric, surprises(claim) ? "  (!)" : "");
    print_wrapped(claim->reason, 4, 96);
    if (claim->verdict != KV_REPRODUCED) print_wrapped(claim->note, 4, 96);
}

static void print_table(const struct reproduce *reproduce, const struct kv_claims *claims)
{
    const char *paper = "";
    printf("%-28s %8s %9s  %-21s  %s\n", "claim", "claimed", "measured", "verdict", "figure");
    for (uint32_t i = 0; i < claims->n; i++) {
        const struct kv_claim *claim = claims->claim + i;
        if (!is_wanted(reproduce, claim)) continue;
        if (strcmp(paper, claim->paper) != 0) printf("\n%s\n", claim->paper);
        paper = claim->paper;
        print_claim(claim);
    }
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, cJSON_CreateString(text));
}

static bool add_claim(cJSON *array, const struct kv_claim *claim)
{
    cJSON *object = cJSON_CreateObject();
    const bool whole =
        object && add_text(object, "source", claim->source) &&
        add_text(object, "claim", claim->claim) && add_text(object, "paper", claim->paper) &&
        add_text(object, "table", claim->table) && add_text(object, "setting", claim->setting) &&
        add_text(object, "measure", claim->measure) && add_text(object, "metric", claim->metric) &&
        add_text(object, "claimed", claim->claimed) &&
        add_text(object, "tolerance", claim->tolerance) &&
        add_text(object, "direction", claim->direction) &&
        kv_json_add(object, "measured", kv_real_to_json(claim->measured, 9)) &&
        add_text(object, "verdict", kv_claim_verdict_name(claim->verdict)) &&
        add_text(object, "reason", claim->reason) &&
        add_text(object, "expected", claim->expected) && add_text(object, "note", claim->note);
    if (whole && cJSON_AddItemToArray(array, object)) return true;
    cJSON_Delete(object);
    return false;
}

static int print_json(const struct reproduce *reproduce, const struct kv_claims *claims,
                      struct kv_error *err)
{
    cJSON *array = cJSON_CreateArray();
    bool whole = array != NULL;
    for (uint32_t i = 0; whole && i < claims->n; i++)
        if (is_wanted(reproduce, claims->claim + i)) whole = add_claim(array, claims->claim + i);
    char *text = whole ? cJSON_Print(array) : NULL;
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(array);
    return text ? KV_OK : kv_fail(err, KV_EMEMORY, "reproduce: no memory");
}

static int verdict(const struct reproduce *reproduce, const struct kv_claims *claims,
                   struct kv_error *err)
{
    uint32_t counts[KV_CANNOT_TEST + 1] = {0}, n = 0;
    const struct kv_claim *first = NULL;
    for (uint32_t i = 0; i < claims->n; i++) {
        const struct kv_claim *claim = claims->claim + i;
        if (!is_wanted(reproduce, claim)) continue;
        counts[claim->verdict]++;
        if (surprises(claim) && !n++) first = claim;
    }
    if (!reproduce->json)
        printf("\n%u reproduced, %u direction only, %u not reproduced, %u cannot be tested here\n",
               counts[KV_REPRODUCED], counts[KV_DIRECTION_ONLY], counts[KV_NOT_REPRODUCED],
               counts[KV_CANNOT_TEST]);
    if (!n) return KV_OK;
    return kv_fail(err, KV_EGATE,
                   "reproduce: verdicts other than the expected ones: %u, the first: %s: "
                   "expected %s, found %s",
                   n, first->claim, first->expected, kv_claim_verdict_name(first->verdict));
}

int kv_cmd_reproduce(int argc, char **argv, struct kv_error *err)
{
    struct reproduce reproduce = {.isa = "auto", .seed = 1};
    struct kv_claims claims = {0};
    int status = kv_arguments_read(&arguments, &reproduce, argc - 1, argv + 1, err);
    if (status == KV_OK) status = kv_claims_read(&claims, reproduce.folder, err);
    if (status == KV_OK) status = check_papers(&reproduce, &claims, err);
    if (status == KV_OK) status = take_bundled_traces(&reproduce, err);
    if (status == KV_OK) status = test_claims(&reproduce, &claims, err);
    if (status == KV_OK && reproduce.json)
        status = print_json(&reproduce, &claims, err);
    else if (status == KV_OK)
        print_table(&reproduce, &claims);
    if (status == KV_OK) status = verdict(&reproduce, &claims, err);
    globfree(&reproduce.bundled);
    kv_claims_free(&claims);
    return status;
}
