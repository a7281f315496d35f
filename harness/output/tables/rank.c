/* Order, front and labels. A short label keeps, of the canonical spec, bits, budgets, ranks, what is
 * no default, and whatever differs between specs of the same stages in this run. */
#include "harness/output/tables/rank.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/row.h"
#include "methods/spec/spec.h"

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

const struct kv_cell *kv_cells_of_trace(const struct kv_results *results, uint32_t t, uint32_t *n)
{
    *n = results->n_traces ? results->n_cells / results->n_traces : 0;
    return results->cells ? results->cells + (size_t)*n * t : NULL;
}

const char *kv_find_flag(const char *flags, const char *word)
{
    static const char separators[] = " ,;";
    const size_t length = strlen(word);
    for (const char *at = or_empty(flags); *at;) {
        at += strspn(at, separators);
        const size_t span = strcspn(at, separators);
        const bool prefix = length && word[length - 1] == ':';
        if (strncmp(at, word, length) == 0 && (prefix || span == length)) return at;
        at += span;
    }
    return NULL;
}

/* ---- labels -------------------------------------------------------------------------------- */

/* The stage names of a spec: "snapkv:budget=512+kivi:bits=2" -> "snapkv+kivi". */
static void stage_names(const char *spec, char *names, size_t capacity)
{
    size_t used = 0;
    bool in_name = true;
    for (; *spec && used + 1 < capacity; spec++) {
        if (*spec == ':') in_name = false;
        if (*spec == '+') in_name = true;
        if (in_name) names[used++] = *spec;
    }
    names[used] = '\0';
}

/* Whether stage number `stage` of spec has exactly this ":key=value". */
static bool stage_has(const char *spec, unsigned stage, const char *token, size_t length)
{
    for (; *spec && stage; spec++) stage -= *spec == '+';
    for (; *spec && *spec != '+'; spec++) {
        if (strncmp(spec, token, length) == 0 && (!spec[length] || strchr(":+", spec[length]))) {
            return true;
        }
    }
    return false;
}

static bool always_shown(const char *token, size_t length)
{
    const char *equals = memchr(token, '=', length);
    const size_t key = equals ? (size_t)(equals - token) : 0;
    return (key >= 5 && strncmp(equals - 4, "bits", 4) == 0 && strchr(":.", equals[-5]))
        || (key == 7 && strncmp(token, ":budget", 7) == 0)
        || (key == 6 && strncmp(token, ":query", 6) == 0)
        || (key == 5 && strncmp(token, ":rank", 5) == 0);
}

/* The list holds the stage's method at its defaults: of `rest`, and of what is no method, it is empty. */
static void read_defaults(struct kv_spec_list *defaults, const char *stage)
{
    struct kv_error err;
    kv_spec_free(defaults);
    kv_spec_parse_name(defaults, stage, &err);
}

static bool is_default(const struct kv_spec_list *defaults, const char *token, size_t length)
{
    return defaults->n == 0 || stage_has(defaults->specs[0].text, 0, token, length);
}

static bool tells_apart(const struct kv_cell *cells, uint32_t n, const char *names, unsigned stage,
                        const char *token, size_t length)
{
    char others[256];
    for (uint32_t c = 0; c < n; c++) {
        const char *spec = or_empty(cells[c].row.method);
        stage_names(spec, others, sizeof others);
        if (strcmp(names, others) == 0 && !stage_has(spec, stage, token, length)) return true;
    }
    return false;
}

static bool has_other_seed(const struct kv_cell *cells, uint32_t n, const struct kv_cell *cell)
{
    for (uint32_t c = 0; c < n; c++) {
        if (strcmp(or_empty(cells[c].row.method), or_empty(cell->row.method)) == 0
            && cells[c].row.seed != cell->row.seed) return true;
    }
    return false;
}

static char *make_label(const struct kv_cell *cells, uint32_t n, const struct kv_cell *cell)
{
    const char *spec = or_empty(cell->row.method);
    char names[256], *label = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&label, &length);
    if (!out) return NULL;
    stage_names(spec, names, sizeof names);
    unsigned stage = 0;
    struct kv_spec_list defaults = {0};
    read_defaults(&defaults, spec);
    for (size_t token = 0; *spec; spec += token) {
        token = 1 + strcspn(spec + 1, ":+");
        if (*spec == '+') stage++, read_defaults(&defaults, spec + 1);
        if (*spec != ':' || always_shown(spec, token) || !is_default(&defaults, spec, token) ||
            tells_apart(cells, n, names, stage, spec, token)) fwrite(spec, 1, token, out);
    }
    kv_spec_free(&defaults);
    if (has_other_seed(cells, n, cell)) fprintf(out, " #%lld", (long long)cell->row.seed);
    if (fclose(out) != 0) {
        free(label);
        return NULL;
    }
    return label;
}

/* ---- order and front ----------------------------------------------------------------------- */

static bool is_ok(const struct kv_cell *cell)
{
    return cell->row.status && strcmp(cell->row.status, "ok") == 0;
}

static bool any_dkl(const struct kv_cell *cells, uint32_t n)
{
    for (uint32_t c = 0; c < n; c++) {
        if (is_ok(&cells[c]) && !isnan(cells[c].row.dkl)) return true;
    }
    return false;
}

static const struct kv_cell *same_answers(const struct kv_cell *cells, const struct kv_cell *cell)
{
    const char *flag = kv_find_flag(cell->row.flags, "same-as:");
    for (const struct kv_cell *other = cells; other < cell; other++) {
        if (!is_ok(other) || !is_ok(cell)) continue;
        const char *spec = or_empty(other->row.method);
        if (flag && strncmp(flag + 8, spec, strlen(spec)) == 0
            && (!flag[8 + strlen(spec)] || strchr(" ,;", flag[8 + strlen(spec)]))) return other;
        if (cell->answer_digest && cell->answer_digest == other->answer_digest) return other;
    }
    return NULL;
}

/* Best first; equal values smaller first, then as given (cells are in one array). */
static int better_first(const void *left, const void *right)
{
    const struct kv_ranked *a = left, *b = right;
    const bool a_out = a->standing == KV_UNMEASURED, b_out = b->standing == KV_UNMEASURED;
    if (a_out != b_out) return a_out ? 1 : -1;
    if (!a_out && a->value != b->value) return a->value < b->value ? -1 : 1;
    const double a_bits = a->cell->row.bits_per_element, b_bits = b->cell->row.bits_per_element;
    if (!a_out && a_bits != b_bits) return a_bits < b_bits ? -1 : 1;
    return a->cell < b->cell ? -1 : 1;
}

/* What lies on the host is a cost beside the bits: no trade is known between the two. */
static bool dominates(const struct kv_ranked *a, const struct kv_ranked *b)
{
    const double a_bits = a->cell->row.bits_per_element, b_bits = b->cell->row.bits_per_element;
    const int64_t a_host = a->cell->row.offloaded_bytes, b_host = b->cell->row.offloaded_bytes;
    return a->value <= b->value && a_bits <= b_bits && a_host <= b_host &&
           (a->value < b->value || a_bits < b_bits || a_host < b_host);
}

static void find_front(struct kv_ranking *ranking)
{
    for (uint32_t i = 0; i < ranking->n_measured; i++) {
        struct kv_ranked *row = &ranking->rows[i];
        if (row->standing != KV_ON_FRONT) continue;
        for (uint32_t j = 0; j < ranking->n_measured; j++) {
            const struct kv_ranked *other = &ranking->rows[j];
            if (other->standing <= KV_DOMINATED && dominates(other, row)) {
                row->standing = KV_DOMINATED;
            }
        }
    }
}

static double floor_of(const struct kv_cell *cells, uint32_t n, bool by_dkl)
{
    for (uint32_t c = 0; c < n; c++) {
        if (!is_ok(&cells[c]) || strcmp(or_empty(cells[c].row.method), "f16") != 0) continue;
        return by_dkl ? cells[c].row.dkl : cells[c].row.output_error;
    }
    return NAN;
}

static void stand(struct kv_ranked *row, const struct kv_ranking *ranking)
{
    const struct kv_row *values = &row->cell->row;
    row->value = ranking->by_dkl ? values->dkl : values->output_error;
    row->standing = KV_ON_FRONT;
    if (!is_ok(row->cell) || isnan(row->value)) row->standing = KV_UNMEASURED;
    else if (row->value <= ranking->floor) row->standing = KV_UNDER_FLOOR;
    else if (kv_find_flag(values->flags, "oracle")
             || strcmp(or_empty(values->calibration), "oracle") == 0) row->standing = KV_ORACLE;
}

int kv_rank(struct kv_ranking *out, const struct kv_results *results, uint32_t trace)
{
    uint32_t n;
    const struct kv_cell *cells = kv_cells_of_trace(results, trace, &n);
    *out = (struct kv_ranking){.trace = &results->traces[trace], .n_rows = n};
    out->by_dkl = any_dkl(cells, n);
    out->floor = floor_of(cells, n, out->by_dkl);
    out->rows = calloc(n ? n : 1, sizeof *out->rows);
    if (!out->rows) return KV_EMEMORY;
    for (uint32_t c = 0; c < n; c++) {
        struct kv_ranked *row = &out->rows[c];
        row->cell = &cells[c];
        row->label = make_label(cells, n, row->cell);
        row->same_as = same_answers(cells, row->cell);
        stand(row, out);
        out->n_measured += row->standing != KV_UNMEASURED;
        if (!row->label) {
            kv_ranking_free(out);
            return KV_EMEMORY;
        }
    }
    qsort(out->rows, n, sizeof *out->rows, better_first);
    find_front(out);
    return KV_OK;
}

void kv_ranking_free(struct kv_ranking *ranking)
{
    for (uint32_t r = 0; ranking->rows && r < ranking->n_rows; r++) free(ranking->rows[r].label);
    free(ranking->rows);
    *ranking = (struct kv_ranking){0};
}
