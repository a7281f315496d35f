/* Rows of a bank as a reader sees them; see bank.h. */
#include <string.h>

#include "methods/cache/bank_parts.h"
#include "methods/kernels/recorded_rows.h"

/* Columns of one lane and side inside a row of the bank; values in keys are the first of the key's. */
static void columns_of(const struct kv_bank *bank, uint32_t lane, enum kv_side side, uint32_t *first,
                       uint32_t *n)
{
    const struct kv_geometry *geometry = bank->sources->geometry;
    *first = lane * kv_side_dim(geometry, bank->side);
    if (bank->side == KV_BOTH_SIDES && side == KV_VALUES) *first += geometry->key_dim;
    *n = kv_side_dim(geometry, side);
}

static void read_exact(const struct kv_bank *bank, uint32_t lane, enum kv_side side, uint32_t token,
                       float *out)
{
    if (!kv_bank_is_handed(bank, token)) {
        const struct kv_source *source = &bank->sources[lane / bank->n_heads];
        kv_widen_rows(side == KV_KEYS ? source->keys : source->values,
                      bank->first_head + lane % bank->n_heads, token, 1, bank->kernels, out);
        return;
    }
    uint32_t first, n;
    columns_of(bank, lane, side, &first, &n);
    memcpy(out, bank->handed + (size_t)token * bank->dim + first, n * sizeof *out);
    if (bank->unrotated && side == KV_KEYS) kv_rotary_apply(&bank->rotary, token, out);
}

/* Values in keys that are stored before rotation: the whole key is turned, its first columns read. */
static void read_key_columns(const struct kv_bank *bank, uint32_t lane, uint32_t n,
                             const uint32_t *tokens, const uint32_t *places, float *out)
{
    const uint32_t width = bank->sources->geometry->value_dim;
    for (uint32_t i = 0; i < n; i++, out += width) {
        kv_bank_read(bank, lane, KV_KEYS, 1, tokens + i, places + i, bank->key_row);
        memcpy(out, bank->key_row, width * sizeof *out);
    }
}

static void decode_atoms(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                         const struct kv_columns *columns, float *out)
{
    if (columns->turned) code->type->turn->decode_turned(code, atoms, n_atoms, out);
    else code->type->decode(code, atoms, n_atoms, columns->first, columns->n, out);
}

/* One atom into block_rows, unless it lies there: while values are encoded one by one, lines of a token's
 * coded key and of a new exact row take turns, and each would decode the whole block again. */
static void decode_block(const struct kv_bank *bank, const uint8_t *atom, const struct kv_columns *columns)
{
    struct kv_decoded *held = bank->decoded;
    const struct kv_columns *before = &held->columns;
    if (held->atom == atom && before->first == columns->first && before->n == columns->n &&
        before->turned == columns->turned)
        return;
    decode_atoms(bank->code, atom, 1, columns, bank->block_rows);
    *held = (struct kv_decoded){atom, *columns};
}

/* Decodes a run of coded rows that lie one behind the other; whole atoms go straight to out. */
static void read_run(const struct kv_bank *bank, const struct kv_columns *columns, uint32_t place,
                     uint32_t run, float *out)
{
    const struct kv_code *code = bank->code;
    if (bank->counts_only) {
        memset(out, 0, (size_t)run * columns->n * sizeof *out);
        return;
    }
    const size_t atom_bytes = kv_atom_bytes(code);
    uint32_t row = place - KV_CODED;
    while (run > 0) {
        const uint32_t inside = row % code->block;
        const uint8_t *atom = bank->atoms + row / code->block * atom_bytes;
        uint32_t n = run < code->block - inside ? run : code->block - inside;
        if (inside == 0 && run >= code->block) {
            const uint32_t atoms = run / code->block;
            decode_atoms(code, atom, atoms, columns, out);
            n = atoms * code->block;
        } else {
            decode_block(bank, atom, columns);
            memcpy(out, bank->block_rows + (size_t)inside * columns->n,
                   (size_t)n * columns->n * sizeof *out);
        }
        row += n, run -= n, out += (size_t)n * columns->n;
    }
}

/* A coded row of a bank that turns by definition, in the recorded space. */
static void read_back(const struct kv_bank *bank, uint32_t lane, enum kv_side side, uint32_t token,
                      uint32_t place, float *out)
{
    const struct kv_code *code = bank->code;
    const uint32_t inside = (place - KV_CODED) % code->block;
    uint32_t first, n;
    columns_of(bank, lane, side, &first, &n);
    if (bank->counts_only) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    bank->decoded->atom = NULL;
    code->type->decode(code, bank->atoms + (place - KV_CODED) / code->block * kv_atom_bytes(code), 1, 0,
                       code->dim, bank->block_rows);
    code->type->turn->back(code, token, bank->block_rows + (size_t)inside * code->dim, bank->recorded_row);
    memcpy(out, bank->recorded_row + first, n * sizeof *out);
}

/* How many rows from i on lie one behind the other. */
static uint32_t run_of(const struct kv_bank *bank, uint32_t i, uint32_t n, const uint32_t *tokens,
                       const uint32_t *places)
{
    const struct kv_bank *part = tokens ? kv_bank_part_of(bank, tokens[i]) : bank;
    uint32_t run = 1;
    while (i + run < n && places[i + run] == places[i] + run &&
           (!tokens || kv_bank_part_of(bank, tokens[i + run]) == part))
        run++;
    return run;
}

uint32_t kv_bank_turned_columns(const struct kv_bank *bank, enum kv_side side)
{
    /* For speed: where a row is one lane's of one side. */
    const bool alone = bank->n_lanes == 1 && bank->side == side && !bank->later && !bank->unrotated;
    return bank->must_turn || alone ? kv_turned_columns(bank->code, side) : 0;
}

void kv_bank_read_turned(const struct kv_bank *bank, enum kv_side side, uint32_t n, const uint32_t *places,
                         float *out)
{
    const struct kv_columns columns = {0, kv_bank_turned_columns(bank, side), !bank->must_turn};
    for (uint32_t i = 0, run; i < n; i += run) {
        run = run_of(bank, i, n, NULL, places);
        read_run(bank, &columns, places[i], run, out + (size_t)i * columns.n);
    }
}

void kv_bank_read(const struct kv_bank *bank, uint32_t lane, enum kv_side side, uint32_t n,
                  const uint32_t *tokens, const uint32_t *places, float *out)
{
    struct kv_columns columns = {0};
    if (bank->unrotated && bank->side == KV_KEYS && side == KV_VALUES) {
        read_key_columns(bank, lane, n, tokens, places, out);
        return;
    }
    columns_of(bank, lane, side, &columns.first, &columns.n);
    for (uint32_t i = 0, run; i < n; i += run) {
        float *row = out + (size_t)i * columns.n;
        run = 1;
        if (places[i] < KV_CODED) {
            read_exact(bank, lane, side, tokens[i], row);
            continue;
        }
        if (bank->must_turn) {
            read_back(bank, lane, side, tokens[i], places[i], row);
            continue;
        }
        run = run_of(bank, i, n, tokens, places);
        read_run(kv_bank_part_of(bank, tokens[i]), &columns, places[i], run, row);
        if (bank->unrotated && side == KV_KEYS)
            for (uint32_t r = 0; r < run; r++)
                kv_rotary_apply(&bank->rotary, tokens[i + r], row + (size_t)r * columns.n);
    }
}

double kv_bank_touched(const struct kv_bank *bank, uint32_t n, const uint32_t *tokens, const uint8_t *reads)
{
    const struct kv_bank *last = NULL;
    uint32_t last_atom = 0;
    double bytes = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        if (!reads[i]) continue;
        const struct kv_bank *part = kv_bank_part_of(bank, tokens[i]);
        const uint32_t place = bank->where[tokens[i]];
        if (place < KV_CODED) {
            bytes += (double)kv_bank_exact_row_bytes(bank);
            continue;
        }
        const uint32_t atom = (place - KV_CODED) / part->code->block;
        if (part != last || atom != last_atom)
            bytes += (double)part->code->payload_bytes + part->atom_used[atom];
        last = part, last_atom = atom;
    }
    return bytes / bank->n_lanes;
}
