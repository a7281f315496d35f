/* Claims as data and their verdicts; see claims.h. */
#include "harness/claims/claims.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/output/files/csv.h"
#include "harness/install.h"

static const struct { const char *name; size_t offset; } fields[] = {
    {"claim", offsetof(struct kv_claim, claim)},
    {"paper", offsetof(struct kv_claim, paper)},
    {"table", offsetof(struct kv_claim, table)},
    {"setting", offsetof(struct kv_claim, setting)},
    {"measure", offsetof(struct kv_claim, measure)},
    {"metric", offsetof(struct kv_claim, metric)},
    {"claimed", offsetof(struct kv_claim, claimed)},
    {"tolerance", offsetof(struct kv_claim, tolerance)},
    {"direction", offsetof(struct kv_claim, direction)},
    {"expected", offsetof(struct kv_claim, expected)},
    {"note", offsetof(struct kv_claim, note)},
};

enum { N_FIELDS = sizeof fields / sizeof *fields };

static char **field_of(struct kv_claim *claim, size_t field)
{
    return (char **)((char *)claim + fields[field].offset);
}

static void free_claim(struct kv_claim *claim)
{
    for (size_t field = 0; field < N_FIELDS; field++) free(*field_of(claim, field));
    free(claim->source);
}

void kv_claims_free(struct kv_claims *claims)
{
    for (uint32_t i = 0; i < claims->n; i++) free_claim(claims->claim + i);
    free(claims->claim);
    *claims = (struct kv_claims){0};
}

/* ---- reading ---- */

static int fill_claim(struct kv_claim *claim, const struct kv_csv *csv, uint32_t row,
                      const char *source, struct kv_error *err)
{
    *claim = (struct kv_claim){.measured = NAN, .source = strdup(source)};
    for (size_t field = 0; field < N_FIELDS; field++) {
        uint32_t column;
        const int status = kv_csv_column(csv, fields[field].name, &column, err);
        if (status != KV_OK) return status;
        *field_of(claim, field) = strdup(kv_csv_cell(csv, row, column));
        if (!*field_of(claim, field) || !claim->source)
            return kv_fail(err, KV_EMEMORY, "%s: no memory", csv->path);
    }
    return KV_OK;
}

static int add_claims(struct kv_claims *claims, const struct kv_csv *csv, const char *source,
                      struct kv_error *err)
{
    const size_t room = claims->n + (size_t)csv->n_rows + 1;
    struct kv_claim *grown = realloc(claims->claim, room * sizeof *grown);
    if (!grown) return kv_fail(err, KV_EMEMORY, "%s: no memory", csv->path);
    claims->claim = grown;
    for (uint32_t row = 0; row < csv->n_rows; row++) {
        const int status = fill_claim(claims->claim + claims->n++, csv, row, source, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

static int read_file(struct kv_claims *claims, const char *folder, const char *name,
                     struct kv_error *err)
{
    char path[4096], source[256];
    struct kv_csv *csv = NULL;
    snprintf(source, sizeof source, "%.*s", (int)(strlen(name) - strlen(".csv")), name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return kv_fail(err, KV_EINPUT, "%s: expected a shorter path", folder);
    int status = kv_csv_read(&csv, path, err);
    if (status == KV_OK) status = add_claims(claims, csv, source, err);
    kv_csv_free(csv);
    return status;
}

static int is_csv(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".csv") == 0;
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);   /* not the locale's order */
}

/* The nearest folder above `from` that has `name`. */
static bool find_above(char folder[4096], const char *from, const char *name)
{
    struct stat found;
    char path[4096], *slash = path;
    if ((size_t)snprintf(path, sizeof path, "%s", from) >= sizeof path) return false;
    while (slash) {
        const int length = snprintf(folder, 4096, "%s/%s", path, name);
        if (length < 4096 && stat(folder, &found) == 0 && S_ISDIR(found.st_mode)) return true;
        slash = strrchr(path, '/');
        if (slash) *slash = '\0';
    }
    return false;
}

/* Above the program (it lies in the tree's build folder), else around the working folder, else where
 * the program was compiled. */
_Bool kv_tree_folder(char folder[4096], const char *name)
{
    char path[4096], *installed;
    struct stat found;
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        if (find_above(folder, path, name)) return true;
    }
    if (getcwd(path, sizeof path) && find_above(folder, path, name)) return true;
    installed = kv_install_path(name);
    if (installed) snprintf(folder, 4096, "%s", installed);
    free(installed);
    return installed && stat(folder, &found) == 0 && S_ISDIR(found.st_mode);
}

int kv_claims_read(struct kv_claims *claims, const char *folder, struct kv_error *err)
{
    struct dirent **names = NULL;
    char found[4096];
    int status = KV_OK;
    *claims = (struct kv_claims){0};
    if (!folder && !kv_tree_folder(found, "experiments/papers"))
        return kv_fail(err, KV_EINPUT, "experiments/papers: expected above the program or the "
                                       "working folder, found nowhere");
    if (!folder) folder = found;
    const int n = scandir(folder, &names, is_csv, by_name);
    if (n < 0)
        return kv_fail(err, KV_EINPUT, "%s: expected a folder of claims, found: %s", folder,
                       strerror(errno));
    for (int i = 0; i < n; i++) {
        if (status == KV_OK) status = read_file(claims, folder, names[i]->d_name, err);
        free(names[i]);
    }
    free(names);
    if (status != KV_OK) kv_claims_free(claims);
    return status;
}

/* ---- settings ---- */

_Bool kv_setting_text(const char *setting, const char *key, char *value, unsigned capacity)
{
    const size_t length = strlen(key);
    for (const char *at = setting; *at; at += strcspn(at, ";"), at += *at == ';') {
        if (strncmp(at, key, length) != 0 || at[length] != '=') continue;
        const size_t size = strcspn(at + length + 1, ";");
        if (size >= capacity) return false;
        memcpy(value, at + length + 1, size);
        value[size] = '\0';
        return true;
    }
    return false;
}

double kv_setting_number(const char *setting, const char *key, double otherwise)
{
    char value[64];
    return kv_setting_text(setting, key, value, sizeof value) ? strtod(value, NULL) : otherwise;
}

/* ---- verdicts ---- */

const char *kv_claim_verdict_name(enum kv_claim_verdict verdict)
{
    static const char *const names[] = {"reproduced", "direction only", "not reproduced",
                                        "cannot be tested here"};
    return names[verdict];
}

static int bad_field(const struct kv_claim *claim, const char *field, const char *found,
                     struct kv_error *err)
{
    return kv_fail(err, KV_EINPUT, "%s.csv: claim %s: %s: expected a number%s, found %s",
                   claim->source, claim->claim, field,
                   strcmp(field, "tolerance") ? " or a bound like >0.9" : " or a share like 1%",
                   found[0] ? found : "nothing");
}

/* ">0.9" -> '>' and 0.9; "0.9" -> '=' and 0.9. */
static bool read_bound(const char *text, char *relation, double *value)
{
    char *end;
    *relation = *text == '>' || *text == '<' ? *text++ : '=';
    *value = strtod(text, &end);
    return end != text && *end == '\0';
}

static bool holds(double measured, char relation, double bound, double slack)
{
    if (relation == '>') return measured > bound - slack;
    if (relation == '<') return measured < bound + slack;
    return fabs(measured - bound) <= slack;
}

static void give(struct kv_claim *claim, enum kv_claim_verdict verdict, const char *reason)
{
    claim->verdict = verdict;
    snprintf(claim->reason, sizeof claim->reason, "%s", reason);
}

static int judge_direction(struct kv_claim *claim, const char *why_not, struct kv_error *err)
{
    char relation, reason[sizeof claim->reason];
    double bound;
    if (claim->direction[0] && !read_bound(claim->direction, &relation, &bound))
        return bad_field(claim, "direction", claim->direction, err);
    const bool kept = claim->direction[0] && holds(claim->measured, relation, bound, 0);
    snprintf(reason, sizeof reason, "%s%s%s", why_not,
             !claim->direction[0] ? "" : kept ? "; but it is " : "; nor is it ", claim->direction);
    give(claim, kept ? KV_DIRECTION_ONLY : KV_NOT_REPRODUCED, reason);
    return KV_OK;
}

int kv_claim_judge(struct kv_claim *claim, struct kv_error *err)
{
    char relation, why_not[128], *end;
    double claimed, slack;
    if (isnan(claim->measured)) {
        claim->verdict = KV_CANNOT_TEST;
        return KV_OK;
    }
    if (!claim->claimed[0]) return judge_direction(claim, "the paper prints no figure", err);
    if (!read_bound(claim->claimed, &relation, &claimed))
        return bad_field(claim, "claimed", claim->claimed, err);
    slack = strtod(claim->tolerance, &end);
    if (end == claim->tolerance || (*end && strcmp(end, "%") != 0))
        return bad_field(claim, "tolerance", claim->tolerance, err);
    if (*end == '%') slack *= fabs(claimed) / 100;
    if (holds(claim->measured, relation, claimed, slack)) {
        give(claim, KV_REPRODUCED, "");
        return KV_OK;
    }
    snprintf(why_not, sizeof why_not, "off by %+.3g %%, more than %s",
             100 * (claim->measured / claimed - 1), claim->tolerance);
    return judge_direction(claim, why_not, err);
}
