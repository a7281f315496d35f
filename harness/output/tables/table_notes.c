/* The words around the tables: what was measured and how, what flags mean, what is empty and
 * why, what did not run. A table without them would be quotable out of context. */
#include "harness/output/tables/table_notes.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/row.h"
#include "harness/output/tables/short_number.h"

/* ---- paragraphs ---------------------------------------------------------------------------- */

/* Bytes of the next piece that must not be broken, with the blanks before it; long specs may break
 * after a separator. */
static size_t next_piece(const char *text)
{
    size_t length = strspn(text, " ");
    while (text[length] && text[length] != ' ') {
        length++;
        if (strchr(":+,/", text[length - 1]) && length > 24) break;
    }
    return length;
}

static int columns_of(const char *text, size_t length)
{
    int columns = 0;
    for (size_t i = 0; i < length; i++) columns += ((unsigned char)text[i] & 0xC0) != 0x80;
    return columns;
}

static void print_wrapped(FILE *file, const char *text)
{
    for (int column = 0; *text;) {
        size_t length = next_piece(text);
        if (column && column + columns_of(text, length) > KV_NOTE_COLUMNS) {
            const size_t blanks = strspn(text, " ");
            text += blanks;
            length -= blanks;
            fputs("\n    ", file);
            column = 4;
        }
        fwrite(text, 1, length, file);
        column += columns_of(text, length);
        text += length;
    }
    fputc('\n', file);
}

/* One paragraph: wrapped at 100 columns with a hanging indent, or one Markdown list item. Control
 * characters become `?`, so that a trace cannot steer the terminal. */
__attribute__((format(printf, 3, 4))) static void
print_note(FILE *file, enum kv_note_style style, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) return;
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    }
    if (style == KV_NOTE_MARKDOWN) fprintf(file, "- %s\n", text);
    else print_wrapped(file, text);
    free(text);
}

/* ---- flags --------------------------------------------------------------------------------- */

struct flag_letter { char letter; const char *flag, *meaning; };

static const struct flag_letter flag_letters[] = {
    {'=', "same-as:", "answers identical to an earlier row's (below)"},
    {'o', "oracle", "oracle, uses what no cache can know: a limit, not a method"},
    {'r', "random", "depends on the seed"},
    {'s', "saves-reads", "reads less, stores no less"},
    {'h', "offloaded", "keeps rows in host memory: bits, ratio and read/step are the device's alone"},
    {'i', "inactive", "had nothing to do here: nothing was coded or dropped"},
    {'q', "query-aware", "saw the question when it chose what to keep"},
    {'a', "query-agnostic", "chose what to keep before the question (query=agnostic)"},
    {'c', "same-trace", "calibrated on the text it is scored on"},
};
enum { N_LETTERS = sizeof flag_letters / sizeof flag_letters[0] };

/* Said for the whole table elsewhere. */
static bool is_universal(const char *flag, size_t length)
{
    return (length == 9 && memcmp(flag, "open-loop", 9) == 0)
        || (length == 12 && memcmp(flag, "no-gradients", 12) == 0)
        || (length == 12 && memcmp(flag, "not-verified", 12) == 0);
}

static bool row_has(const struct kv_ranked *row, const struct flag_letter *letter)
{
    if (letter->letter == '=') return row->same_as != NULL;
    if (letter->letter == 'o' && kv_find_flag(row->cell->row.calibration, letter->flag)) return true;
    if (letter->letter == 'c') return kv_find_flag(row->cell->row.calibration, letter->flag) != NULL;
    return kv_find_flag(row->cell->row.flags, letter->flag) != NULL;
}

static bool has_a_letter(const char *flag)
{
    for (size_t l = 0; l < N_LETTERS; l++) {
        if (kv_find_flag(flag, flag_letters[l].flag) == flag) return true;
    }
    return false;
}

void kv_flag_letters(char text[24], const struct kv_ranking *ranking, const struct kv_ranked *row)
{
    size_t n = 0;
    for (size_t l = 0; l < N_LETTERS; l++) {
        if (row_has(row, &flag_letters[l])) text[n++] = flag_letters[l].letter;
    }
    const char *flags = row->cell->row.flags ? row->cell->row.flags : "";
    for (const char *at = flags; *(at += strspn(at, " ,;")); at += strcspn(at, " ,;")) {
        const bool other = !is_universal(at, strcspn(at, " ,;")) && !has_a_letter(at);
        if (other && (n == 0 || text[n - 1] != '+')) text[n++] = '+';
    }
    text[n] = '\0';
}

static void print_flag_legend(FILE *file, const struct kv_ranking *ranking,
                              enum kv_note_style style)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return;
    const char *between = "";
    for (size_t l = 0; l < N_LETTERS; l++) {
        for (uint32_t r = 0; r < ranking->n_measured; r++) {
            if (!row_has(&ranking->rows[r], &flag_letters[l])) continue;
            fprintf(out, "%s%c %s", between, flag_letters[l].letter, flag_letters[l].meaning);
            between = "; ";
            break;
        }
    }
    if (fclose(out) == 0 && length) print_note(file, style, "flags: %s.", text);
    free(text);
}

/* The flags that no letter stands for; which layers are served together in words. */
static void print_unlettered(FILE *file, const struct kv_ranked *row, enum kv_note_style style)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return;
    for (const char *at = row->cell->row.flags; *(at += strspn(at, " ,;")); at += strcspn(at, " ,;")) {
        const size_t n = strcspn(at, " ,;"), joined = strlen("joined:");
        if (is_universal(at, n) || has_a_letter(at)) continue;
        const bool layers = strncmp(at, "joined:", joined) == 0;
        if (layers) fprintf(out, "; layers served together: %.*s", (int)(n - joined), at + joined);
        else fprintf(out, "; %.*s", (int)n, at);
    }
    if (fclose(out) == 0 && length) print_note(file, style, "+ %s: %s", row->label, text + 2);
    free(text);
}

static void print_other_flags(FILE *file, const struct kv_ranking *ranking,
                              enum kv_note_style style)
{
    char letters[24];
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_ranked *row = &ranking->rows[r];
        kv_flag_letters(letters, ranking, row);
        if (strchr(letters, '+')) print_unlettered(file, row, style);
    }
}

/* ---- heading ------------------------------------------------------------------------------- */

static void describe_probes(char *text, size_t capacity, const struct kv_trace_summary *trace)
{
    if (!trace->has_probes) snprintf(text, capacity, "no %s probes", trace->has_label ? "Fisher" : "gradient");
    else snprintf(text, capacity, "probes: %u window%s, %u tokens, %u Fisher", trace->n_windows,
                  trace->n_windows == 1 ? "" : "s", trace->window_tokens, trace->n_fisher);
}

/* The text's description without its digest, which table.md's reader finds in the manifest. */
static void describe_text(char *out, size_t capacity, const char *text)
{
    const char *digest = text ? strstr(text, " sha256:") : NULL;
    const char *rest = digest ? strchr(digest, ';') : NULL;
    int length;
    if (!rest) length = snprintf(out, capacity, "%s", text ? text : "");
    else length = snprintf(out, capacity, "%.*s%s", (int)(digest - text), text, rest);
    if ((size_t)length >= capacity) strcpy(out + capacity - 4, "...");
}

void kv_print_layer_share(char text[48], const struct kv_trace_summary *trace)
{
    if (trace->model_layers) snprintf(text, 48, "%u of %u layers", trace->n_layers, trace->model_layers);
    else snprintf(text, 48, "%u layers of an unknown number", trace->n_layers);
}

void kv_print_heading(FILE *file, const struct kv_results *results,
                      const struct kv_ranking *ranking, enum kv_note_style style)
{
    const struct kv_trace_summary *trace = ranking->trace;
    char probes[96];
    describe_probes(probes, sizeof probes, trace);
    char text[160];
    describe_text(text, sizeof text, trace->text);
    print_note(file, style, "%s: %s%s%s; hash %.21s%s", trace->name ? trace->name : "?",
               trace->model ? trace->model : "?", text[0] ? "; text: " : "", text,
               trace->hash ? trace->hash : "?",
               trace->verified ? "" : " (not verified)");
    char layers[48];
    kv_print_layer_share(layers, trace);
    print_note(file, style, "%u tokens: %u prefill + %u decode; %s; %s; %u-bit K and V; %s kernels",
               trace->tokens, trace->prefill, trace->tokens - trace->prefill, layers, probes, trace->element_bits,
               results->isa ? results->isa : "?");
    print_note(file, style, ranking->by_dkl
               ? "open loop: answers do not feed back into the model. Ranked by dkl (nats/token): "
                 "estimated KL from the exact model, lower is better"
               : "open loop: answers do not feed back into the model. Ranked by output error "
                 "(no gradients), lower is better");
}

/* ---- notes --------------------------------------------------------------------------------- */

static void note_marks(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    char floor_text[24];
    const char *rank = ranking->by_dkl ? "dkl" : "output error";
    bool unranked = false, hosts = false;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        unranked |= ranking->rows[r].standing == KV_UNDER_FLOOR;
        hosts |= ranking->rows[r].cell->row.offloaded_bytes > 0;
    }
    const char *sizes = hosts ? "bits, host bytes" : "bits";
    kv_short_real(floor_text, ranking->floor);
    if (unranked) {
        print_note(file, style, "* Pareto front of %s and %s; - not ranked: an oracle, or at "
                   "or under the floor, %s, the error of an f16 copy.", sizes, rank, floor_text);
    } else {
        print_note(file, style, "* Pareto front of %s and %s; - an oracle, not ranked.%s",
                   sizes, rank, isnan(ranking->floor) ? " No f16 row: the noise floor is not known." : "");
    }
}

static void note_same_output(FILE *file, const struct kv_ranking *ranking,
                             enum kv_note_style style)
{
    for (uint32_t r = 0; r < ranking->n_rows; r++) {
        const struct kv_ranked *row = &ranking->rows[r];
        for (uint32_t o = 0; row->same_as && o < ranking->n_rows; o++) {
            if (ranking->rows[o].cell != row->same_as) continue;
            print_note(file, style, "same output: %s answers exactly as %s.", row->label,
                       ranking->rows[o].label);
        }
    }
}

/* What a budget in bytes or bits came to: "256KiB = 204" and what is stored. */
static void note_stored(FILE *file, const struct kv_ranked *ranked, enum kv_note_style style)
{
    const struct kv_cell *cell = ranked->cell;
    const int unit = (int)strcspn(cell->asked_budget, " ");
    if (cell->asked_budget[unit - 1] == 'b')
        print_note(file, style,
                   "budget: %s was asked to store %.*s bits per element (%s rows a head) and"
                   " stores %.6g.",
                   ranked->label, unit - 1, cell->asked_budget, cell->asked_budget + unit + 3,
                   cell->row.bits_per_element);
    else
        print_note(file, style,
                   "budget: %s was asked to store %.*s a layer (%s rows a head) and stores"
                   " %.6gKiB.",
                   ranked->label, unit, cell->asked_budget, cell->asked_budget + unit + 3,
                   (double)cell->row.resident_bytes / 1024.0 / cell->n_layers);
}

/* True for "256KiB = 204" and "2.5b = 204". */
static bool is_stored(const char *asked)
{
    const size_t unit = strcspn(asked, " ");
    return unit > 0 && asked[unit] && (asked[unit - 1] == 'b' || asked[unit - 1] == 'B');
}

static bool keeps_alike(const struct kv_ranked *a, const struct kv_ranked *b)
{
    return strcmp(a->cell->asked_budget, b->cell->asked_budget) == 0
        && a->cell->row.kept_tokens == b->cell->row.kept_tokens;
}

static bool like_before(const struct kv_ranking *ranking, uint32_t row)
{
    for (uint32_t r = 0; r < row; r++)
        if (keeps_alike(&ranking->rows[r], &ranking->rows[row])) return true;
    return false;
}

/* One sentence for all rows that were asked for and hold the same. */
static void note_kept(FILE *file, const struct kv_ranking *ranking, uint32_t first,
                      enum kv_note_style style)
{
    const struct kv_cell *cell = ranking->rows[first].cell;
    char *text = NULL;
    size_t length = 0;
    uint32_t n = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return;
    for (uint32_t r = first; r < ranking->n_measured; r++)
        if (keeps_alike(&ranking->rows[first], &ranking->rows[r]))
            fprintf(out, "%s%s", n++ ? ", " : "", ranking->rows[r].label);
    if (fclose(out) == 0 && length)
        print_note(file, style, "budget: %s %s asked to keep %s tokens and hold%s %.4g at the end.", text,
                   n > 1 ? "were" : "was", cell->asked_budget, n > 1 ? "" : "s", cell->row.kept_tokens);
    free(text);
}

/* The budget that a share stands for, and budgets that were not met within half a token. */
static void note_budgets(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_cell *cell = ranking->rows[r].cell;
        const char *equals = strrchr(cell->asked_budget, '=');
        const double asked = strtod(equals ? equals + 1 : cell->asked_budget, NULL);
        if (is_stored(cell->asked_budget)) {
            note_stored(file, &ranking->rows[r], style);
            continue;
        }
        if (!cell->asked_budget[0] || isnan(cell->row.kept_tokens)
            || fabs(cell->row.kept_tokens - asked) <= 0.5 || like_before(ranking, r)) continue;
        note_kept(file, ranking, r, style);
    }
}

static const char *without_probes(const struct kv_trace_summary *trace)
{
    if (trace->has_probes)
        return trace->has_label ? "" : "; dnll1, ppl_est: trace has no label probe";
    return trace->has_label ? "; dkl, ppl_est: trace has no Fisher probes"
                            : "; dkl, dnll1, ppl_est: trace has no gradient probes";
}

static void note_empty(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    const struct kv_trace_summary *trace = ranking->trace;
    bool spans = false;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        spans |= !isnan(ranking->rows[r].cell->row.span_retention);
    }
    char text[512];
    snprintf(text, sizeof text, "%s%s%s%s",
             without_probes(trace),
             trace->has_w_o ? "" : "; wo_error, residual_error: not every layer has w_o",
             !trace->has_w_o       ? ""
             : !trace->has_x2      ? "; residual_error: not every layer has x2"
             : trace->no_post_norm ? ""
                                   : "; residual_error: a norm follows w_o",
             spans              ? ""
             : trace->has_spans ? "; span_retention: no head's scored queries look at the trace's spans"
                                : "; span_retention: trace has no spans");
    if (text[0]) print_note(file, style, "empty: %s.", text + 2);
    if (trace->has_probes && !ranking->by_dkl && ranking->n_measured) {
        print_note(file, style, "empty: dkl, dnll1, ppl_est: not every probed token was scored.");
    }
}

static void note_audit(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    char deviation[24], bound[24];
    kv_short_real(deviation, ranking->trace->audit_deviation);
    kv_short_real(bound, ranking->trace->audit_bound);
    print_note(file, style, "audit: fast exact attention against double precision: worst deviation "
               "%s, bound %s.", deviation, bound);
}

static void note_failures(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    for (uint32_t r = ranking->n_measured; r < ranking->n_rows; r++) {
        const struct kv_row *row = &ranking->rows[r].cell->row;
        print_note(file, style, "not measured: %s: %s%s%s", ranking->rows[r].label,
                   row->status ? row->status : "not run", row->reason ? ": " : "",
                   row->reason ? row->reason : "");
    }
}

void kv_print_notes(FILE *file, const struct kv_ranking *ranking, enum kv_note_style style)
{
    note_failures(file, ranking, style);
    if (ranking->n_measured == 0) return;
    note_marks(file, ranking, style);
    print_flag_legend(file, ranking, style);
    print_other_flags(file, ranking, style);
    note_same_output(file, ranking, style);
    note_budgets(file, ranking, style);
    note_empty(file, ranking, style);
    note_audit(file, ranking, style);
}

/* What holds for every trace, once. */
void kv_print_footer(FILE *file, const struct kv_results *results, enum kv_note_style style)
{
    bool probes = false;
    for (uint32_t t = 0; t < results->n_traces; t++) probes |= results->traces[t].has_probes;
    print_note(file, style, "bits: bits per element of K and V, everything that stays resident; ratio: "
               "recorded bits / bits; codes, meta, exact, basis: shares of the resident bytes.");
    if (probes) {
        print_note(file, style, "dkl is second-order and reads low: about 1.25x for quantizers, "
                   "1.5-1.9x for evictors; `low`: above 0.1 it still ranks but reads lower still.");
    }
    fputc('\n', file);
    fputs(style == KV_NOTE_TERMINAL ? "methods in full:\n" : "Methods in full:\n\n", file);
    for (uint32_t s = 0; s < results->n_specs; s++) {
        const char *quote = style == KV_NOTE_MARKDOWN ? "`" : "";
        print_note(file, style, "%s%s%s%s", style == KV_NOTE_MARKDOWN ? "" : "  ", quote,
                   results->specs[s], quote);
    }
}
