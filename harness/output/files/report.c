/* The HTML report: result files in, one page out. */
#include "harness/output/files/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/files/aside.h"
#include "harness/output/files/csv.h"
#include "harness/figures/figure.h"
#include "harness/output/files/json.h"
#include "harness/output/tables/rank.h"
#include "harness/output/row.h"
#include "harness/output/tables/short_number.h"
#include "harness/output/tables/table_notes.h"

struct source {                   /* one result directory, read back */
    char *dir;
    struct kv_results results;
    cJSON *manifest;              /* owns the texts that results point to */
};

/* ---- reading ------------------------------------------------------------------------------- */

static int read_text(char **out, const char *path, struct kv_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        return kv_fail(err, KV_EINPUT, "%s: expected a result file, found: %s", path,
                       strerror(errno));
    }
    size_t length = 0, got;
    char block[16384];
    FILE *memory = open_memstream(out, &length);
    while (memory && (got = fread(block, 1, sizeof block, file)) > 0) {
        fwrite(block, 1, got, memory);
    }
    const bool failed = ferror(file);
    fclose(file);
    if (!memory || fclose(memory) != 0) return kv_fail(err, KV_EMEMORY, "%s: out of memory", path);
    return failed ? kv_fail(err, KV_EINPUT, "%s: cannot be read", path) : KV_OK;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

static double real_of(const cJSON *object, const char *name)
{
    return kv_json_to_real(cJSON_GetObjectItemCaseSensitive(object, name));
}

static uint32_t count_of(const cJSON *object, const char *name)
{
    const double value = real_of(object, name);
    return value >= 0 && value < 4e9 ? (uint32_t)value : 0;
}

static bool flag_of(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static int read_trace(struct kv_trace_summary *trace, const cJSON *object)
{
    trace->tokens = count_of(object, "tokens");
    trace->prefill = count_of(object, "prefill");
    trace->n_layers = count_of(object, "layers");
    trace->model_layers = count_of(object, "model_layers");
    trace->element_bits = count_of(object, "element_bits");
    trace->n_windows = count_of(object, "windows");
    trace->window_tokens = count_of(object, "window_tokens");
    trace->n_fisher = count_of(object, "fisher_probes");
    trace->verified = flag_of(object, "verified");
    trace->has_probes = flag_of(object, "has_probes");
    trace->has_label = flag_of(object, "has_label");
    trace->no_post_norm = flag_of(object, "no_post_norm");
    trace->has_spans = flag_of(object, "has_spans");
    trace->has_w_o = flag_of(object, "has_w_o");
    trace->has_x2 = flag_of(object, "has_x2");
    trace->audit_deviation = real_of(object, "audit_deviation");
    trace->audit_bound = real_of(object, "audit_bound");
    int status = kv_text_set(&trace->name, "%s", text_of(object, "name"));
    if (status == KV_OK) status = kv_text_set(&trace->path, "%s", text_of(object, "path"));
    if (status == KV_OK) status = kv_text_set(&trace->hash, "%s", text_of(object, "hash"));
    if (status == KV_OK) status = kv_text_set(&trace->model, "%s", text_of(object, "model"));
    if (status == KV_OK) status = kv_text_set(&trace->text, "%s", text_of(object, "text"));
    return status;
}

static int read_lists(struct kv_results *results, const cJSON *manifest)
{
    const cJSON *traces = cJSON_GetObjectItemCaseSensitive(manifest, "traces"), *item;
    const cJSON *specs = cJSON_GetObjectItemCaseSensitive(manifest, "specs");
    const int n_traces = cJSON_GetArraySize(traces), n_specs = cJSON_GetArraySize(specs);
    int status = KV_OK;
    results->traces = calloc((size_t)n_traces + 1, sizeof *results->traces);
    results->specs = calloc((size_t)n_specs + 1, sizeof *results->specs);
    if (!results->traces || !results->specs) return KV_EMEMORY;
    cJSON_ArrayForEach(item, traces) {
        if (status == KV_OK) status = read_trace(&results->traces[results->n_traces++], item);
    }
    cJSON_ArrayForEach(item, specs) {
        const char *spec = cJSON_IsString(item) ? item->valuestring : "";
        if (status == KV_OK) status = kv_text_set(&results->specs[results->n_specs++], "%s", spec);
    }
    return status;
}

static int read_manifest(struct source *source, struct kv_error *err)
{
    char *path = NULL, *text = NULL;
    int status = kv_text_set(&path, "%s/manifest.json", source->dir);
    if (status != KV_OK) return kv_fail(err, status, "report: out of memory");
    status = read_text(&text, path, err);
    if (status == KV_OK && !(source->manifest = cJSON_Parse(text))) {
        status = kv_fail(err, KV_EINPUT, "%s: expected JSON, found something else", path);
    }
    struct kv_results *results = &source->results;
    if (status == KV_OK) {
        results->isa = text_of(source->manifest, "isa");
        results->version = text_of(source->manifest, "version");
        results->compiler = text_of(source->manifest, "compiler");
        results->cpu = text_of(source->manifest, "cpu");
        results->threads = (int)count_of(source->manifest, "threads");
        results->interrupted = flag_of(source->manifest, "interrupted");
        snprintf(results->code_version, sizeof results->code_version, "%s",
                 text_of(source->manifest, "code_version"));
        if (read_lists(results, source->manifest) != KV_OK) {
            status = kv_fail(err, KV_EMEMORY, "report: out of memory");
        }
    }
    free(path);
    free(text);
    return status;
}

static int read_row(struct kv_row *row, const struct kv_csv *csv, uint32_t r, struct kv_error *err)
{
    for (uint32_t c = 0; c < csv->n_columns; c++) {
        const struct kv_column *column = kv_column_find(csv->cells[c]);
        if (!column) continue;                      /* of a later version */
        const char *text = kv_csv_cell(csv, r, c);
        if (kv_row_parse(row, column, text) != KV_OK) {
            return kv_fail(err, KV_EINPUT, "%s: line %u, %s: expected a number, found `%s`",
                           csv->path, csv->lines[r + 1], column->name, text);
        }
    }
    return KV_OK;
}

/* Pooled rows only: the plots of the run already show layers. */
static int read_rows(struct source *source, struct kv_error *err)
{
    struct kv_results *results = &source->results;
    struct kv_csv *csv = NULL;
    char *path = NULL;
    int status = kv_text_set(&path, "%s/rows.csv", source->dir);
    if (status == KV_OK) status = kv_csv_read(&csv, path, err);
    if (status == KV_OK) {
        results->cells = calloc((size_t)csv->n_rows + 1, sizeof *results->cells);
        if (!results->cells) status = kv_fail(err, KV_EMEMORY, "report: out of memory");
    }
    for (uint32_t r = 0; status == KV_OK && r < csv->n_rows; r++) {
        struct kv_cell *cell = &results->cells[results->n_cells];
        kv_cell_init(cell);
        status = read_row(&cell->row, csv, r, err);
        const bool pooled = cell->row.layer && strcmp(cell->row.layer, "all") == 0;
        if (status == KV_OK && pooled) results->n_cells++;
        else kv_cell_free(cell);
    }
    if (status == KV_OK && results->n_traces
        && results->n_cells % results->n_traces != 0) {
        status = kv_fail(err, KV_EINPUT, "%s: expected as many rows for each of %u traces, found %u",
                         path, results->n_traces, results->n_cells);
    }
    kv_csv_free(csv);
    free(path);
    return status;
}

static void free_source(struct source *source)
{
    kv_results_free(&source->results);
    cJSON_Delete(source->manifest);
}

static int read_source(struct source *source, char *dir, struct kv_error *err)
{
    source->dir = dir;
    int status = read_manifest(source, err);
    if (status == KV_OK) status = read_rows(source, err);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------- */

static void escape(FILE *file, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", file); break;
        case '<': fputs("&lt;", file); break;
        case '>': fputs("&gt;", file); break;
        case '"': fputs("&quot;", file); break;
        default: fputc((unsigned char)*text < 0x20 && *text != '\n' ? ' ' : *text, file);
        }
    }
}

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<title>kvbench report</title>\n<style>\n"
    "body{font:15px/1.45 sans-serif;color:#222;max-width:1240px;margin:2em auto;padding:0 1em}\n"
    "h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2.2em}\n"
    "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\n"
    ".scroll{overflow-x:auto}\n"
    "th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #e6e6e6;white-space:nowrap}\n"
    "th{cursor:pointer;border-bottom:2px solid #999}\n"
    "td.text,th.text{text-align:left}\n"
    "tr.dominated td{color:#888}tr.front td{font-weight:600}\n"
    "ul.notes{color:#444;font-size:13px}\n"
    "svg{max-width:100%;height:auto}\n"
    "pre{background:#f5f5f5;padding:.7em;overflow-x:auto;font-size:13px;white-space:pre-wrap}\n"
    "</style>\n</head>\n<body>\n<h1>kvbench report</h1>\n";

/* A click on a head sorts by that column; a second one the other way round. */
static const char page_tail[] =
    "<script>\n"
    "document.querySelectorAll('th').forEach(function(th){th.onclick=function(){\n"
    " var body=th.closest('table').tBodies[0],i=th.cellIndex,up=th.dataset.up!=='1';\n"
    " th.dataset.up=up?'1':'0';\n"
    " var key=function(r){var v=r.cells[i].dataset.v;return v===undefined?r.cells[i].textContent:v};\n"
    " Array.from(body.rows).sort(function(a,b){\n"
    "  var x=key(a),y=key(b),n=Number(x)-Number(y);\n"
    "  if(x===''||y==='')return (x==='')-(y==='');\n"
    "  if(isNaN(n))n=x<y?-1:x>y?1:0;\n"
    "  return up?n:-n}).forEach(function(r){body.appendChild(r)})}});\n"
    "</script>\n</body>\n</html>\n";

static const int shown[] = {
    KV_INDEX_bits_per_element, KV_INDEX_compression_ratio, KV_INDEX_dkl, KV_INDEX_dkl_low,
    KV_INDEX_dkl_high, KV_INDEX_dkl_p99, KV_INDEX_dnll1, KV_INDEX_ppl_est, KV_INDEX_validity,
    KV_INDEX_output_error, KV_INDEX_residual_error, KV_INDEX_attention_kl, KV_INDEX_mass_drift,
    KV_INDEX_lost_mass, KV_INDEX_span_retention, KV_INDEX_resident_bytes,
    KV_INDEX_read_bytes_per_step, KV_INDEX_kept_tokens, KV_INDEX_calibration, KV_INDEX_flags,
};
enum { N_SHOWN = sizeof shown / sizeof shown[0] };

static void write_value(FILE *file, const struct kv_row *row, const struct kv_column *column)
{
    char scratch[40], number[24];
    const char *text = kv_row_text(row, column, scratch);
    if (column->kind == KV_COLUMN_TEXT) {
        fputs("<td class=\"text\">", file);
        escape(file, text);
    } else {
        fprintf(file, "<td data-v=\"%s\">", text);
        if (column->kind == KV_COLUMN_REAL && text[0]) {
            kv_short_real(number, strtod(text, NULL));
            text = number;
        }
        fputs(text, file);
    }
    fputs("</td>", file);
}

static void write_table(FILE *file, const struct kv_ranking *ranking)
{
    static const char *const classes[] = {[KV_ON_FRONT] = "front", [KV_DOMINATED] = "dominated",
                                          [KV_UNDER_FLOOR] = "floor", [KV_ORACLE] = "oracle",
                                          [KV_UNMEASURED] = ""};
    fputs("<div class=\"scroll\"><table>\n<thead><tr><th></th><th class=\"text\">method</th>", file);
    for (size_t i = 0; i < N_SHOWN; i++) {
        const struct kv_column *column = &kv_columns[shown[i]];
        fprintf(file, "<th%s title=\"", column->kind == KV_COLUMN_TEXT ? " class=\"text\"" : "");
        escape(file, column->meaning);
        fprintf(file, "\">%s</th>", column->name);
    }
    fputs("</tr></thead>\n<tbody>\n", file);
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_ranked *row = &ranking->rows[r];
        fprintf(file, "<tr class=\"%s\"><td>%s</td><td class=\"text\" title=\"",
                classes[row->standing], row->standing == KV_ON_FRONT ? "*" : "");
        escape(file, row->cell->row.method ? row->cell->row.method : "");
        fputs("\">", file);
        escape(file, row->label);
        fputs("</td>", file);
        for (size_t i = 0; i < N_SHOWN; i++) {
            write_value(file, &row->cell->row, &kv_columns[shown[i]]);
        }
        fputs("</tr>\n", file);
    }
    fputs("</tbody>\n</table></div>\n", file);
}

/* Notes come as Markdown list items; here as those of HTML. */
static void write_notes(FILE *file, const struct kv_results *results,
                        const struct kv_ranking *ranking)
{
    char *text = NULL, *rest = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return;
    kv_print_heading(out, results, ranking, KV_NOTE_MARKDOWN);
    kv_print_notes(out, ranking, KV_NOTE_MARKDOWN);
    if (fclose(out) == 0) {
        fputs("<ul class=\"notes\">\n", file);
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            fputs("<li>", file);
            escape(file, line + (strncmp(line, "- ", 2) == 0 ? 2 : 0));
            fputs("</li>\n", file);
        }
        fputs("</ul>\n", file);
    }
    free(text);
}

/* The figure's <svg> element without what stands before it; nothing when it was not drawn. */
static void write_plot(FILE *file, const struct source *source, uint32_t trace, enum kv_figure figure)
{
    char *base = NULL, *path = NULL, *svg = NULL;
    struct kv_error ignored;
    if (kv_figure_file(&base, &source->results, trace, figure) == KV_OK
        && kv_text_set(&path, "%s/plots/%s.svg", source->dir, base) == KV_OK
        && read_text(&svg, path, &ignored) == KV_OK) {
        const char *start = strstr(svg, "<svg");
        if (start && !strstr(start, "<script")) fprintf(file, "<p>%s</p>\n", start);
    }
    free(base);
    free(path);
    free(svg);
}

static int write_source(FILE *file, const struct source *source)
{
    fputs("<pre>", file);
    escape(file, text_of(source->manifest, "repeat"));
    fputs("</pre>\n<p>kvbench ", file);
    escape(file, source->results.code_version);
    fputs(", ", file);
    escape(file, source->results.compiler);
    fputs(", ", file);
    escape(file, source->results.cpu);
    fputs("</p>\n", file);
    for (uint32_t t = 0; t < source->results.n_traces; t++) {
        struct kv_ranking ranking;
        if (kv_rank(&ranking, &source->results, t) != KV_OK) return KV_EMEMORY;
        fputs("<h2>", file);
        escape(file, ranking.trace->name ? ranking.trace->name : "?");
        fputs("</h2>\n", file);
        write_table(file, &ranking);
        write_notes(file, &source->results, &ranking);
        kv_ranking_free(&ranking);
        for (int f = 0; f < KV_FIGURES; f++) write_plot(file, source, t, f);
    }
    return KV_OK;
}

struct page { const struct source *sources; int n; };

static int write_page(FILE *file, const void *what)
{
    const struct page *page = what;
    int status = KV_OK;
    fputs(page_head, file);
    for (int s = 0; status == KV_OK && s < page->n; s++) {
        status = write_source(file, &page->sources[s]);
    }
    fputs(page_tail, file);
    return status;
}

int kv_report_write(const char *out, char *const *dirs, int n, const char *name,
                    struct kv_error *err)
{
    struct source *sources = calloc((size_t)n + 1, sizeof *sources);
    if (!sources) return kv_fail(err, KV_EMEMORY, "report: out of memory");
    int status = KV_OK;
    for (int s = 0; status == KV_OK && s < n; s++) status = read_source(&sources[s], dirs[s], err);
    const struct page page = {sources, n};
    if (status == KV_OK) status = kv_write_aside(out, name, write_page, &page, err);
    for (int s = 0; s < n; s++) free_source(&sources[s]);
    free(sources);
    return status;
}
