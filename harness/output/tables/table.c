/* The numbers of the terminal table: two grids a trace, columns as wide as what they hold. */
#include "harness/output/tables/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/output/row.h"
#include "harness/output/tables/short_number.h"
#include "harness/output/tables/table_notes.h"

enum cell_kind {
    METHOD, REAL, FOUR_DIGITS, TWO_DECIMALS, INTERVAL, BYTES, BYTES_REAL, HOST_BYTES, SHARE, KEPT, TEXT, FLAGS
};

struct table_column {
    const char *head;
    enum cell_kind kind;
    int column;               /* index in kv_columns; INTERVAL: of the lower end */
};

static const struct table_column by_dkl[] = {
    {"method", METHOD, 0},
    {"bits", TWO_DECIMALS, KV_INDEX_bits_per_element},
    {"ratio", TWO_DECIMALS, KV_INDEX_compression_ratio},
    {"dkl", REAL, KV_INDEX_dkl},
    {"95% interval", INTERVAL, KV_INDEX_dkl_low},
    {"p99", REAL, KV_INDEX_dkl_p99},
    {"dnll1", REAL, KV_INDEX_dnll1},
    {"ppl_est", FOUR_DIGITS, KV_INDEX_ppl_est},
    {"valid", TEXT, KV_INDEX_validity},
    {"out.err", REAL, KV_INDEX_output_error},
    {"flags", FLAGS, 0},
    {NULL, TEXT, 0},
};

static const struct table_column by_output_error[] = {
    {"method", METHOD, 0},
    {"bits", TWO_DECIMALS, KV_INDEX_bits_per_element},
    {"ratio", TWO_DECIMALS, KV_INDEX_compression_ratio},
    {"out.err", REAL, KV_INDEX_output_error},
    {"95% interval", INTERVAL, KV_INDEX_output_error_low},
    {"p50", REAL, KV_INDEX_error_p50},
    {"p95", REAL, KV_INDEX_error_p95},
    {"p99", REAL, KV_INDEX_error_p99},
    {"max", REAL, KV_INDEX_error_max},
    {"flags", FLAGS, 0},
    {NULL, TEXT, 0},
};

static const struct table_column bytes_and_causes[] = {
    {"method", METHOD, 0},
    {"kept/asked", KEPT, 0},
    {"resident", BYTES, KV_INDEX_resident_bytes},
    {"codes", SHARE, KV_INDEX_payload_bytes},
    {"meta", SHARE, KV_INDEX_metadata_bytes},
    {"exact", SHARE, KV_INDEX_residual_bytes},
    {"basis", SHARE, KV_INDEX_basis_bytes},
    {"read/step", BYTES_REAL, KV_INDEX_read_bytes_per_step},
    {"host", HOST_BYTES, KV_INDEX_offloaded_bytes},
    {"host read", HOST_BYTES, KV_INDEX_offloaded_read_bytes_per_step},
    {"res.err", REAL, KV_INDEX_residual_error},
    {"attn.KL", REAL, KV_INDEX_attention_kl},
    {"drift", REAL, KV_INDEX_mass_drift},
    {"lost", REAL, KV_INDEX_lost_mass},
    {"span", REAL, KV_INDEX_span_retention},
    {NULL, TEXT, 0},
};

enum { MAX_COLUMNS = 15, CELL_BYTES = 56 };

struct grid {
    const struct table_column *columns;
    const struct kv_ranking *ranking;
    uint32_t n_columns, n_rows;
    char (*cells)[CELL_BYTES];          /* [n_rows][n_columns]; the method's label is not among them */
    int width[MAX_COLUMNS];             /* 0 = left out, nothing to show */
    bool nothing[MAX_COLUMNS];          /* left out: 0 in every row */
};

static double number_at(const struct kv_row *row, int column)
{
    const char *field = (const char *)row + kv_columns[column].offset;
    int64_t count;
    double value;
    memcpy(&value, field, sizeof value);
    memcpy(&count, field, sizeof count);
    if (kv_columns[column].kind == KV_COLUMN_COUNT) return count < 0 ? NAN : (double)count;
    return value;
}

static void print_interval(char *text, const struct kv_row *row, int column)
{
    char low[24], high[24];
    kv_short_real(low, number_at(row, column));
    kv_short_real(high, number_at(row, column + 1));
    if (low[0] == '-' && !low[1]) snprintf(text, CELL_BYTES, "-");
    else snprintf(text, CELL_BYTES, "%s..%s", low, high);
}

/* "153/153": rows held at the end (mean over heads) and the budget asked for, in tokens. */
static void print_kept(char *text, const struct kv_cell *cell)
{
    const char *equals = strrchr(cell->asked_budget, '=');
    const char *asked = equals ? equals + 1 + strspn(equals + 1, " ") : cell->asked_budget;
    const double kept = cell->row.kept_tokens;
    if (isnan(kept)) snprintf(text, CELL_BYTES, "-");
    else snprintf(text, CELL_BYTES, kept == floor(kept) ? "%.0f%s%.8s" : "%.1f%s%.8s", kept,
                  asked[0] ? "/" : "", asked);
}

static void print_share(char *text, const struct kv_row *row, int column)
{
    const double part = number_at(row, column), whole = (double)row->resident_bytes;
    if (isnan(part) || whole <= 0) snprintf(text, CELL_BYTES, "-");
    else if (part == 0) snprintf(text, CELL_BYTES, "0");
    else if (part < 0.005 * whole) snprintf(text, CELL_BYTES, "<1%%");
    else snprintf(text, CELL_BYTES, "%.0f%%", 100 * part / whole);
}

/* Few methods have any: the column is there when one does. */
static void print_host_bytes(char *text, double bytes)
{
    if (bytes > 0) kv_short_bytes(text, bytes);
    else snprintf(text, CELL_BYTES, "-");
}

static void print_cell(char *text, const struct table_column *column,
                       const struct kv_ranking *ranking, const struct kv_ranked *ranked)
{
    const struct kv_row *row = &ranked->cell->row;
    char scratch[40];
    switch (column->kind) {
    case METHOD: text[0] = '\0'; break;
    case REAL: kv_short_real(text, number_at(row, column->column)); break;
    case FOUR_DIGITS:
        if (isnan(number_at(row, column->column))) snprintf(text, CELL_BYTES, "-");
        else snprintf(text, CELL_BYTES, "%#.4g", number_at(row, column->column));
        break;
    case TWO_DECIMALS:
        if (isnan(number_at(row, column->column))) snprintf(text, CELL_BYTES, "-");
        else snprintf(text, CELL_BYTES, "%.2f", number_at(row, column->column));
        break;
    case INTERVAL: print_interval(text, row, column->column); break;
    case BYTES:
    case BYTES_REAL: kv_short_bytes(text, number_at(row, column->column)); break;
    case HOST_BYTES: print_host_bytes(text, number_at(row, column->column)); break;
    case SHARE: print_share(text, row, column->column); break;
    case KEPT: print_kept(text, ranked->cell); break;
    case TEXT:
        snprintf(text, CELL_BYTES, "%.40s", kv_row_text(row, &kv_columns[column->column], scratch));
        if (!text[0]) snprintf(text, CELL_BYTES, "-");
        break;
    case FLAGS: kv_flag_letters(text, ranking, ranked); break;
    }
}

static char *grid_cell(const struct grid *grid, uint32_t row, uint32_t column)
{
    return grid->cells[(size_t)row * grid->n_columns + column];
}

static bool shows_something(const struct grid *grid, uint32_t column)
{
    for (uint32_t r = 0; r < grid->n_rows; r++) {
        const char *text = grid_cell(grid, r, column);
        if (text[0] && strcmp(text, "-") != 0) return true;
    }
    return false;
}

static bool is_nothing(const struct grid *grid, uint32_t column)
{
    bool nothing = grid->columns[column].kind == SHARE && grid->width[column] > 0;
    for (uint32_t r = 0; nothing && r < grid->n_rows; r++)
        nothing = strcmp(grid_cell(grid, r, column), "0") == 0;
    return nothing;
}

/* Shares that are 0 in every row make room for labels; they are said below the grid. */
static int make_room(struct grid *grid, int wanted)
{
    int gained = 0;
    for (uint32_t c = grid->n_columns; c-- > 1 && gained < wanted;) {
        if (!is_nothing(grid, c)) continue;
        gained += grid->width[c] + 1;
        grid->width[c] = 0, grid->nothing[c] = true;
    }
    return gained;
}

/* Numbers first; the method gets what is left, and a longer label a line of its own. */
static void set_widths(struct grid *grid)
{
    int used = 2, longest = 6;
    for (uint32_t c = 1; c < grid->n_columns; c++) {
        int width = (int)strlen(grid->columns[c].head);
        for (uint32_t r = 0; r < grid->n_rows; r++) {
            const int length = (int)strlen(grid_cell(grid, r, c));
            if (length > width) width = length;
        }
        grid->width[c] = shows_something(grid, c) ? width : 0;
        used += grid->width[c] ? width + 1 : 0;
    }
    for (uint32_t r = 0; r < grid->n_rows; r++) {
        const int length = (int)strlen(grid->ranking->rows[r].label);
        if (length > longest) longest = length;
    }
    int room = KV_TABLE_COLUMNS - used;
    room += make_room(grid, longest - room);
    grid->width[0] = longest < room ? longest : room;
}

static bool grid_make(struct grid *grid, const struct kv_ranking *ranking,
                      const struct table_column *columns)
{
    *grid = (struct grid){.columns = columns, .ranking = ranking, .n_rows = ranking->n_measured};
    while (columns[grid->n_columns].head) grid->n_columns++;
    grid->cells = calloc((size_t)grid->n_rows * grid->n_columns + 1, sizeof *grid->cells);
    if (!grid->cells) return false;
    for (uint32_t r = 0; r < grid->n_rows; r++) {
        for (uint32_t c = 0; c < grid->n_columns; c++) {
            print_cell(grid_cell(grid, r, c), &columns[c], ranking, &ranking->rows[r]);
        }
    }
    set_widths(grid);
    return true;
}

static void print_label(FILE *file, const char *label, int width)
{
    const int length = (int)strlen(label);
    if (length <= width) {
        fprintf(file, "%-*s", width, label);
        return;
    }
    const int room = KV_TABLE_COLUMNS - 2;
    fprintf(file, length > room ? "%.*s...\n" : "%.*s\n", length > room ? room - 3 : room, label);
    fprintf(file, "  %-*s", width, "");
}

static void print_row(FILE *file, const struct grid *grid, uint32_t row, bool colour)
{
    static const char marks[] = {[KV_ON_FRONT] = '*', [KV_DOMINATED] = ' ', [KV_UNDER_FLOOR] = '-',
                                 [KV_ORACLE] = '-', [KV_UNMEASURED] = ' '};
    const struct kv_ranked *ranked = &grid->ranking->rows[row];
    const bool dim = colour && ranked->standing == KV_DOMINATED;
    fprintf(file, "%s%c ", dim ? "\033[2m" : "", marks[ranked->standing]);
    print_label(file, ranked->label, grid->width[0]);
    for (uint32_t c = 1; c < grid->n_columns; c++) {
        if (grid->width[c] == 0) continue;
        const bool left = grid->columns[c].kind == FLAGS;
        const char *text = grid_cell(grid, row, c);
        if (left) fprintf(file, "%s%s", text[0] ? " " : "", text);
        else fprintf(file, " %*s", grid->width[c], text);
    }
    fprintf(file, "%s\n", dim ? "\033[0m" : "");
}

static void print_grid(FILE *file, const struct kv_ranking *ranking,
                       const struct table_column *columns, bool colour)
{
    struct grid grid;
    if (!grid_make(&grid, ranking, columns)) {
        fputs("(no memory for the table; see rows.csv)\n", file);
        return;
    }
    fprintf(file, "  %-*s", grid.width[0], "method");
    for (uint32_t c = 1; c < grid.n_columns; c++) {
        if (grid.width[c]) fprintf(file, " %*s", grid.width[c], grid.columns[c].head);
    }
    fputc('\n', file);
    for (uint32_t r = 0; r < grid.n_rows; r++) print_row(file, &grid, r, colour);
    for (uint32_t c = 1; c < grid.n_columns; c++)
        if (grid.nothing[c]) fprintf(file, "  (%s: 0 in every row)\n", grid.columns[c].head);
    free(grid.cells);
}

static void print_trace(FILE *file, const struct kv_results *results, uint32_t t, bool colour)
{
    struct kv_ranking ranking;
    if (kv_rank(&ranking, results, t) != KV_OK) {
        fputs("(no memory for the table; see rows.csv)\n", file);
        return;
    }
    kv_print_heading(file, results, &ranking, KV_NOTE_TERMINAL);
    if (ranking.n_measured) {
        fputc('\n', file);
        print_grid(file, &ranking, ranking.by_dkl ? by_dkl : by_output_error, colour);
        fputc('\n', file);
        print_grid(file, &ranking, bytes_and_causes, colour);
        fputc('\n', file);
    }
    kv_print_notes(file, &ranking, KV_NOTE_TERMINAL);
    kv_ranking_free(&ranking);
}

void kv_print_table(FILE *file, const struct kv_results *results, bool colour)
{
    for (uint32_t t = 0; t < results->n_traces; t++) {
        if (t) fputs("\n\n", file);
        print_trace(file, results, t, colour);
    }
    if (results->n_cells) {
        fputc('\n', file);
        kv_print_footer(file, results, KV_NOTE_TERMINAL);
    }
    if (results->interrupted) fputs("\nInterrupted: only what was finished is shown.\n", file);
}

bool kv_wants_colour(FILE *file)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(fileno(file)) && !(no_colour && no_colour[0])
        && terminal && strcmp(terminal, "dumb") != 0;
}
