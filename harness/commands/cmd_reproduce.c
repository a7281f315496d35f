/* kvbench reproduce [PAPER...]: claimed figures of papers against measured ones. The claims are
 * data (claims.h); here are options, the order of work and the table. */
#include <glob.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/base/params.h"
#include "harness/claims/claims.h"
#include "harness/output/json.h"

enum { MOST_NAMES = 64 };

struct reproduce {
    const char *papers[MOST_NAMES + 1], *traces[MOST_NAMES];
    uint32_t n_papers, n_traces;
    const char *folder, *isa;
    uint64_t seed;
    bool json;
    glob_t bundled;
};

static const char *option_value(const char *name, int argc, char **argv, int *i)
{
    const size_t length = strlen(name);
    if (strncmp(argv[*i], name, length) != 0) return NULL;
    if (argv[*i][length] == '=') return argv[*i] + length + 1;
    return argv[*i][length] == '\0' && *i + 1 < argc ? argv[++*i] : NULL;
}

static int take_seed(struct reproduce *reproduce, const char *value, struct kv_error *err)
{
    if (kv_read_whole(value, 0, UINT64_MAX, &reproduce->seed)) return KV_OK;
    return kv_fail(err, KV_EUSAGE, "reproduce: --seed: expected a number, found %s", value);
}

static int take_name(const char **names, uint32_t *n, const char *name, struct kv_error *err)
{
    if (*n == MOST_NAMES)
        return kv_fail(err, KV_EUSAGE, "reproduce: expected at most %d, found one more: %s",
                       MOST_NAMES, name);
    names[(*n)++] = name;
    return KV_OK;
}

static int unknown_option(const char *argument, struct kv_error *err)
{
    static const char *const known[] = {"--trace", "--claims", "--seed", "--isa", "--json", "--all", NULL};
    char option[64];
    snprintf(option, sizeof option, "%.*s", (int)strcspn(argument, "="), argument);
    for (size_t i = 0; known[i]; i++)
        if (strcmp(known[i], option) == 0)
            return kv_fail(err, KV_EUSAGE, "reproduce: %s: expected a value after it", option);
    const char *nearest = kv_nearest(option, known);
    return kv_fail(err, KV_EUSAGE, "reproduce: unknown option %s%s%s", option,
                   nearest ? "; the nearest known one is " : "", nearest ? nearest : "");
}

static int take_argument(struct reproduce *reproduce, int argc, char **argv, int *i,
                         struct kv_error *err)
{
    const char *value;
    if (strcmp(argv[*i], "--json") == 0) reproduce->json = true;
    else if (strcmp(argv[*i], "--all") == 0) reproduce->n_papers = 0;
    else if ((value = option_value("--trace", argc, argv, i)))
        return take_name(reproduce->traces, &reproduce->n_traces, value, err);
    else if ((value = option_value("--seed", argc, argv, i)))
        return take_seed(reproduce, value, err);
    else if ((value = option_value("--claims", argc, argv, i))) reproduce->folder = value;
    else if ((value = option_value("--isa", argc, argv, i))) reproduce->isa = value;
    else if (argv[*i][0] == '-') return unknown_option(argv[*i], err);
    else return take_name(reproduce->papers, &reproduce->n_papers, argv[*i], err);
    return KV_OK;
}

/* Without --trace: the bundled ones, in the order of their names. None is no error: claims that
 * want one say so. */
static int take_bundled_traces(struct reproduce *reproduce, struct kv_error *err)
{
    char folder[4096], pattern[4200];
    if (reproduce->n_traces || !kv_tree_folder(folder, "traces/data")) return KV_OK;
    snprintf(pattern, sizeof pattern, "%s/*.h5", folder);
    if (glob(pattern, 0, NULL, &reproduce->bundled) != 0) return KV_OK;
    for (size_t i = 0; i < reproduce->bundled.gl_pathc; i++) {
        const int status = take_name(reproduce->traces, &reproduce->n_traces,
                                     reproduce->bundled.gl_pathv[i], err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

/* ---- which claims ---- */

static bool is_wanted(const struct reproduce *reproduce, const struct kv_claim *claim)
{
    for (uint32_t i = 0; i < reproduce->n_papers; i++)
        if (strcmp(reproduce->papers[i], claim->source) == 0 ||
            strcmp(reproduce->papers[i], claim->claim) == 0)
            return true;
    return reproduce->n_papers == 0;
}

/* Every paper that was asked for is there; else the nearest name. */
static int check_papers(const struct reproduce *reproduce, const struct kv_claims *claims,
                        struct kv_error *err)
{
    for (uint32_t i = 0; i < reproduce->n_papers; i++) {
        const char *names[MOST_NAMES + 1] = {0};
        const char *paper = reproduce->papers[i];
        bool known = false;
        for (uint32_t c = 0, n = 0; c < claims->n; c++) {
            const struct kv_claim *claim = claims->claim + c;
            known |= strcmp(claim->source, paper) == 0 || strcmp(claim->claim, paper) == 0;
            if (n < MOST_NAMES && (!n || strcmp(names[n - 1], claim->source) != 0))
                names[n++] = claim->source;
        }
        const char *nearest = known ? NULL : kv_nearest(paper, names);
        if (!known)
            return kv_fail(err, KV_EUSAGE, "reproduce: unknown paper or claim %s%s%s", paper,
                           nearest ? "; the nearest known one is " : "", nearest ? nearest : "");
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
    const struct kv_measuring measuring = {&kernels, reproduce->seed, reproduce->n_traces,
                                           reproduce->traces};
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
    return claim->expected[0] && strcmp(claim->expected, kv_claim_verdict_name(claim->verdict)) != 0;
}

static void print_claim(const struct kv_claim *claim)
{
    char measured[32];
    printf("%-28s %8s %9s  %-21s  %s%s\n", claim->claim,
           claim->claimed[0] ? claim->claimed : "-", figure_text(claim->measured, measured),
           kv_claim_verdict_name(claim->verdict), claim->metric, surprises(claim) ? "  (!)" : "");
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
    return kv_fail(err, KV_EGATE, "reproduce: verdicts other than the expected ones: %u, the first: %s: "
                                  "expected %s, found %s",
                   n, first->claim, first->expected, kv_claim_verdict_name(first->verdict));
}

int kv_cmd_reproduce(int argc, char **argv, struct kv_error *err)
{
    struct reproduce reproduce = {.isa = "auto"};
    struct kv_claims claims = {0};
    int status = KV_OK;
    for (int i = 1; status == KV_OK && i < argc; i++)
        status = take_argument(&reproduce, argc, argv, &i, err);
    if (status == KV_OK) status = kv_claims_read(&claims, reproduce.folder, err);
    if (status == KV_OK) status = check_papers(&reproduce, &claims, err);
    if (status == KV_OK) status = take_bundled_traces(&reproduce, err);
    if (status == KV_OK) status = test_claims(&reproduce, &claims, err);
    if (status == KV_OK && reproduce.json) status = print_json(&reproduce, &claims, err);
    else if (status == KV_OK) print_table(&reproduce, &claims);
    if (status == KV_OK) status = verdict(&reproduce, &claims, err);
    globfree(&reproduce.bundled);
    kv_claims_free(&claims);
    return status;
}
