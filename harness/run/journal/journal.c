/* Cells to lines and back. Reals are written with 17 digits, which restore any double exactly. */
#include "harness/run/journal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/output/files/json.h"
#include "harness/output/row.h"

enum { DIGITS = 17 };

struct kv_journal {
    int file;
    char *path, *code_version, *options;
};

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* ---- writing ------------------------------------------------------------------------------- */

/* A killed run may have left half a line: end it, or the next cell would be lost with it. */
static int end_torn_line(int file)
{
    char last = '\n';
    const off_t size = lseek(file, 0, SEEK_END);
    if (size > 0 && pread(file, &last, 1, size - 1) != 1) return errno;
    return last == '\n' || write(file, "\n", 1) == 1 ? 0 : errno;
}

int kv_journal_open(struct kv_journal **out, const char *dir, const char *code_version,
                    const char *options, struct kv_error *err)
{
    *out = NULL;
    struct kv_journal *journal = calloc(1, sizeof *journal);
    if (journal) journal->file = -1;
    if (!journal || kv_text_set(&journal->path, "%s/journal.jsonl", dir) != KV_OK
        || kv_text_set(&journal->code_version, "%s", or_empty(code_version)) != KV_OK
        || kv_text_set(&journal->options, "%s", or_empty(options)) != KV_OK) {
        kv_journal_close(journal);
        return kv_fail(err, KV_EMEMORY, "out of memory");
    }
    journal->file = open(journal->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const int cause = journal->file < 0 ? errno : end_torn_line(journal->file);
    if (cause) {
        kv_fail(err, KV_EENVIRONMENT, "%s: expected to append to it, found: %s", journal->path,
                strerror(cause));
        kv_journal_close(journal);
        return KV_EENVIRONMENT;
    }
    *out = journal;
    return KV_OK;
}

void kv_journal_close(struct kv_journal *journal)
{
    if (!journal) return;
    if (journal->file >= 0) close(journal->file);
    free(journal->path);
    free(journal->code_version);
    free(journal->options);
    free(journal);
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, cJSON_CreateString(or_empty(text)));
}

static bool add_real(cJSON *object, const char *name, double value)
{
    return kv_json_add(object, name, kv_real_to_json(value, DIGITS));
}

static bool add_layers(cJSON *object, const struct kv_cell *cell)
{
    const uint32_t n = cell->layers ? cell->n_layers : 0;
    cJSON *layers = cJSON_CreateArray();
    if (!kv_json_add(object, "layers", layers)) return false;
    for (uint32_t l = 0; l < n; l++) {
        cJSON *row = kv_row_to_json(&cell->layers[l], DIGITS);
        if (row && cJSON_AddItemToArray(layers, row)) continue;
        cJSON_Delete(row);
        return false;
    }
    return true;
}

static bool add_measures(cJSON *object, const struct kv_cell *cell)
{
    double tokens[KV_DEPTH_BINS];
    char digest[24];
    for (size_t b = 0; b < KV_DEPTH_BINS; b++) tokens[b] = cell->bin_token[b];
    snprintf(digest, sizeof digest, "%016" PRIx64, cell->answer_digest);
    const size_t heads = cell->head_error ? (size_t)cell->n_layers * cell->q_heads : 0;
    return add_layers(object, cell)
        && kv_json_add(object, "bins", kv_reals_to_json(cell->bin_error, KV_DEPTH_BINS, DIGITS))
        && kv_json_add(object, "bin_tokens", kv_reals_to_json(tokens, KV_DEPTH_BINS, DIGITS))
        && kv_json_add(object, "head_error", kv_reals_to_json(cell->head_error, heads, DIGITS))
        && add_real(object, "q_heads", cell->q_heads)
        && add_real(object, "allocated_bytes", (double)cell->allocated_bytes)
        && add_real(object, "seconds", cell->seconds)
        && add_real(object, "replay_seconds", cell->replay_seconds)
        && add_real(object, "measure_seconds", cell->measure_seconds)
        && add_text(object, "answer_digest", digest)
        && add_text(object, "asked_budget", cell->asked_budget);
}

static char *cell_to_line(const struct kv_journal *journal, const struct kv_cell *cell)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRId64, cell->row.seed);
    cJSON *object = cJSON_CreateObject();
    char *line = NULL;
    if (object && add_text(object, "code_version", journal->code_version)
        && add_text(object, "options", journal->options) && add_text(object, "seed", seed)
        && kv_json_add(object, "row", kv_row_to_json(&cell->row, DIGITS))
        && add_measures(object, cell)) line = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return line;
}

int kv_journal_append(struct kv_journal *journal, const struct kv_cell *cell, struct kv_error *err)
{
    char *line = cell_to_line(journal, cell), *ended = NULL;
    int status = line ? kv_text_set(&ended, "%s\n", line) : KV_EMEMORY;
    if (status == KV_OK) {
        /* One write to an O_APPEND file: lines of several threads never mix. */
        const size_t length = strlen(ended);
        const ssize_t written = write(journal->file, ended, length);
        if (written != (ssize_t)length) {
            status = kv_fail(err, KV_EENVIRONMENT, "%s: expected to append a cell, found: %s",
                             journal->path, strerror(written < 0 ? errno : ENOSPC));
        }
    } else {
        kv_fail(err, KV_EMEMORY, "%s: out of memory", journal->path);
    }
    free(line);
    free(ended);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------- */

struct kv_past_cells {
    size_t n;
    cJSON **cells;            /* lines as they were read; measures are parsed when asked for */
};

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return or_empty(text);
}

static double real_of(const cJSON *object, const char *name)
{
    return kv_json_to_real(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* Reads exactly n reals; false when the array has another length. */
static bool read_reals(const cJSON *object, const char *name, double *values, size_t n)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, name), *item;
    if (!cJSON_IsArray(array) || (size_t)cJSON_GetArraySize(array) != n) return false;
    size_t i = 0;
    cJSON_ArrayForEach(item, array) values[i++] = kv_json_to_real(item);
    return true;
}

static bool read_layers(struct kv_cell *cell, const cJSON *object)
{
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(object, "layers"), *layer;
    const int n = cJSON_GetArraySize(layers);
    if (!cJSON_IsArray(layers)) return false;
    if (n == 0) return true;
    cell->layers = calloc((size_t)n, sizeof *cell->layers);
    if (!cell->layers) return false;
    cJSON_ArrayForEach(layer, layers) {
        struct kv_row *row = &cell->layers[cell->n_layers++];
        kv_row_init(row);
        if (kv_row_from_json(row, layer) != KV_OK) return false;
    }
    return true;
}

static bool read_heads(struct kv_cell *cell, const cJSON *object)
{
    const double q_heads = real_of(object, "q_heads");
    if (!(q_heads >= 0 && q_heads < 1e6)) return false;
    cell->q_heads = (uint32_t)q_heads;
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, "head_error");
    if (cJSON_GetArraySize(array) == 0) return true;
    const size_t n = (size_t)cell->n_layers * cell->q_heads;
    cell->head_error = calloc(n ? n : 1, sizeof *cell->head_error);
    return cell->head_error && read_reals(object, "head_error", cell->head_error, n);
}

/* Fills an empty cell; false when the line is not what kv_journal_append writes. */
static bool read_cell(struct kv_cell *cell, const cJSON *object)
{
    double tokens[KV_DEPTH_BINS];
    const cJSON *row = cJSON_GetObjectItemCaseSensitive(object, "row");
    if (!cJSON_IsObject(row) || kv_row_from_json(&cell->row, row) != KV_OK) return false;
    if (!read_layers(cell, object) || !read_heads(cell, object)
        || !read_reals(object, "bins", cell->bin_error, KV_DEPTH_BINS)
        || !read_reals(object, "bin_tokens", tokens, KV_DEPTH_BINS)) return false;
    for (size_t b = 0; b < KV_DEPTH_BINS; b++) {
        cell->bin_token[b] = tokens[b] >= 0 && tokens[b] < 4e9 ? (uint32_t)tokens[b] : 0;
    }
    const double bytes = real_of(object, "allocated_bytes");
    cell->allocated_bytes = bytes >= 0 && bytes < 9e18 ? (int64_t)bytes : 0;
    cell->seconds = real_of(object, "seconds");
    cell->replay_seconds = real_of(object, "replay_seconds");
    cell->measure_seconds = real_of(object, "measure_seconds");
    cell->answer_digest = strtoull(text_of(object, "answer_digest"), NULL, 16);
    snprintf(cell->asked_budget, sizeof cell->asked_budget, "%s", text_of(object, "asked_budget"));
    return true;
}

static bool same_cell(const struct kv_row *row, const cJSON *object)
{
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(object, "row");
    return strcmp(or_empty(row->trace_hash), text_of(other, "trace_hash")) == 0
        && strcmp(or_empty(row->method), text_of(other, "method")) == 0
        && strcmp(or_empty(row->isa), text_of(other, "isa")) == 0
        && row->seed == strtoll(text_of(object, "seed"), NULL, 10);
}

/* Trace name and seed are the caller's: a recording may have been renamed in between, and a JSON
 * number may not hold a seed of 64 bits. */
static bool rename_trace(struct kv_cell *cell, const struct kv_row *as)
{
    bool good = kv_text_set(&cell->row.trace, "%s", or_empty(as->trace)) == KV_OK;
    cell->row.seed = as->seed;
    for (uint32_t l = 0; good && l < cell->n_layers; l++) {
        good = kv_text_set(&cell->layers[l].trace, "%s", or_empty(as->trace)) == KV_OK;
        cell->layers[l].seed = as->seed;
    }
    return good;
}

bool kv_past_cells_restore(const struct kv_past_cells *past, struct kv_cell *cell)
{
    for (size_t i = past->n; i-- > 0;) {        /* the latest first */
        struct kv_cell found;
        if (!same_cell(&cell->row, past->cells[i])) continue;
        kv_cell_init(&found);
        if (read_cell(&found, past->cells[i]) && rename_trace(&found, &cell->row)) {
            found.done = true;
            kv_cell_free(cell);
            *cell = found;
            return true;
        }
        kv_cell_free(&found);
    }
    return false;
}

static bool worth_taking(const cJSON *object, const char *code_version, const char *options)
{
    const char *status = text_of(cJSON_GetObjectItemCaseSensitive(object, "row"), "status");
    return strcmp(or_empty(code_version), text_of(object, "code_version")) == 0
        && strcmp(or_empty(options), text_of(object, "options")) == 0
        && (strcmp(status, "ok") == 0 || strcmp(status, "unsupported") == 0);
}

/* Takes ownership of object. */
static int keep(struct kv_past_cells *past, cJSON *object)
{
    cJSON **more = realloc(past->cells, (past->n + 1) * sizeof *more);
    if (!more) {
        cJSON_Delete(object);
        return KV_EMEMORY;
    }
    past->cells = more;
    past->cells[past->n++] = object;
    return KV_OK;
}

void kv_past_cells_free(struct kv_past_cells *past)
{
    for (size_t i = 0; past && i < past->n; i++) cJSON_Delete(past->cells[i]);
    if (past) free(past->cells);
    free(past);
}

static int read_lines(struct kv_past_cells *past, FILE *file, const char *code_version,
                      const char *options)
{
    char *line = NULL;
    size_t capacity = 0;
    int status = KV_OK;
    while (status == KV_OK && getline(&line, &capacity, file) > 0) {
        cJSON *object = cJSON_Parse(line);
        if (object && worth_taking(object, code_version, options)) status = keep(past, object);
        else cJSON_Delete(object);
    }
    free(line);
    return status;
}

int kv_past_cells_read(struct kv_past_cells **out, const char *dir, const char *code_version,
                       const char *options, struct kv_error *err)
{
    char *path = NULL;
    *out = calloc(1, sizeof **out);
    if (!*out || kv_text_set(&path, "%s/journal.jsonl", dir) != KV_OK) {
        kv_past_cells_free(*out);
        *out = NULL;
        return kv_fail(err, KV_EMEMORY, "out of memory");
    }
    errno = 0;
    int status = KV_OK;
    FILE *file = fopen(path, "r");
    if (file) {
        status = read_lines(*out, file, code_version, options);
        if (status != KV_OK) kv_fail(err, status, "%s: out of memory", path);
        fclose(file);
    } else if (errno != ENOENT) {
        status = kv_fail(err, KV_EENVIRONMENT, "%s: expected to read it, found: %s", path,
                         strerror(errno));
    }
    if (status != KV_OK) {
        kv_past_cells_free(*out);
        *out = NULL;
    }
    free(path);
    return status;
}
