/* Banks; see bank.h. */
#include "methods/bank.h"

#include <assert.h>
#include <string.h>

static uint32_t side_dim(const struct kv_geometry *geometry, enum kv_side side)
{
    return side == KV_KEYS     ? geometry->key_dim
           : side == KV_VALUES ? geometry->value_dim
                               : geometry->key_dim + geometry->value_dim;
}

/* True when this codec changes rows of the recorded type. */
static bool is_lossy(const struct kv_codec *codec, const struct kv_bank *bank)
{
    static const uint32_t exact[] = {[KV_F16] = KV_EXACT_F16, [KV_BF16] = KV_EXACT_BF16,
                                     [KV_F32] = KV_EXACT_F32};
    return bank->unrotated || !(codec->traits & exact[bank->source.keys->dtype]);
}

static int reserve_places(struct kv_bank *bank, struct kv_error *err)
{
    const size_t tokens = bank->source.geometry->tokens;
    bank->where = kv_pool_take(bank->pool, tokens * sizeof *bank->where);
    bank->holders = kv_pool_take(bank->pool, tokens * sizeof *bank->holders);
    bank->queue = kv_pool_take(bank->pool, tokens * sizeof *bank->queue);
    if (!bank->where || !bank->holders || !bank->queue)
        return kv_fail(err, KV_EMEMORY, "out of memory for the places of %zu rows", tokens);
    return KV_OK;
}

/* Atoms have their final size only after the fit. */
static int reserve_atoms(struct kv_bank *bank, struct kv_error *err)
{
    const struct kv_code *code = bank->code;
    bank->max_atoms = bank->source.geometry->tokens / code->block + 1;
    const size_t kept = bank->counts_only ? 0 : bank->max_atoms * kv_atom_bytes(code);
    bank->atoms = kv_pool_take(bank->pool, kept);
    bank->atom_holders = kv_pool_take(bank->pool, bank->max_atoms * sizeof *bank->atom_holders);
    bank->atom_used = kv_pool_take(bank->pool, bank->max_atoms * sizeof *bank->atom_used);
    bank->block_rows = kv_pool_take(bank->pool, (size_t)code->block * code->dim * sizeof(float));
    if (!bank->atoms || !bank->atom_holders || !bank->atom_used || !bank->block_rows)
        return kv_fail(err, KV_EMEMORY, "%s: out of memory for %u atoms of %zu bytes",
                       code->type->name, bank->max_atoms, kv_atom_bytes(code));
    return KV_OK;
}

static bool keys_unrotated(const struct kv_stage *stage, enum kv_side side,
                           const struct kv_geometry *geometry)
{
    if (!stage || side == KV_VALUES || geometry->rope.layout == KV_ROPE_NONE) return false;
    if (stage->modifiers[KV_KEYS].unrotated) return true;
    for (; stage; stage = stage->rest)
        if (stage->codec->traits & KV_UNROTATED_KEYS) return true;
    return false;
}

/* The bank of the rows after the prompt: its own code, queue, atoms and counts. */
static int create_later(struct kv_bank *bank, struct kv_error *err)
{
    const size_t tokens = bank->source.geometry->tokens;
    struct kv_bank *later = kv_pool_take(bank->pool, sizeof *later);
    uint32_t *queue = kv_pool_take(bank->pool, tokens * sizeof *queue);
    bank->is_late = kv_pool_take(bank->pool, tokens);
    if (!later || !queue || !bank->is_late)
        return kv_fail(err, KV_EMEMORY, "out of memory for the places of %zu rows", tokens);
    *later = *bank;
    later->code = kv_later_code(bank->code), later->queue = queue, later->takes_late = true;
    later->basis_bytes = 0;
    bank->later = later;
    return KV_OK;
}

int kv_bank_create(struct kv_bank *bank, const struct kv_setup *setup, const struct kv_source *source,
                   const struct kv_stage *stage, enum kv_side side, uint32_t n_heads, bool handed,
                   struct kv_error *err)
{
    const struct kv_geometry *geometry = source->geometry;
    *bank = (struct kv_bank){.source = *source, .kernels = setup->kernels, .pool = setup->pool,
                             .side = side, .first_head = setup->head, .n_heads = n_heads,
                             .dim = n_heads * side_dim(geometry, side)};
    bank->unrotated = keys_unrotated(stage, side, geometry);
    if (bank->unrotated && !kv_rotary_create(&bank->rotary, geometry, bank->pool))
        return kv_fail(err, KV_EMEMORY, "out of memory for rotary tables");
    struct kv_setup own = *setup;
    own.side = side;
    /* The default store is exact on any trace: halves, but bfloat16 where those are recorded. */
    const struct kv_modifiers plain = {.sinks = -1, .recent = -1};
    const struct kv_stage bfloat = {.codec = kv_codec_find("bf16"), .modifiers = {plain, plain}};
    if (!stage && source->keys->dtype == KV_BF16) stage = &bfloat;
    const int64_t before = kv_pool_used(bank->pool, KV_BASIS_ONLINE);
    int status = kv_create_code(&bank->code, stage, &own, bank->dim, err);
    if (status != KV_OK) return status;
    bank->basis_bytes = kv_pool_used(bank->pool, KV_BASIS_ONLINE) - before;
    bank->lossy = is_lossy(bank->code->type, bank);
    if (handed) {
        bank->handed = kv_pool_take(bank->pool, (size_t)geometry->tokens * bank->dim * sizeof(float));
        if (!bank->handed) return kv_fail(err, KV_EMEMORY, "out of memory for rows handed down");
        bank->lossy = true;
    }
    status = reserve_places(bank, err);
    return status == KV_OK && kv_later_code(bank->code) ? create_later(bank, err) : status;
}

/* Recorded rows, widened: out [n][dim of the tensor]. */
static void widen(const struct kv_bank *bank, const struct kv_tensor *tensor, uint32_t head,
                  uint32_t token, float *out)
{
    const void *row = kv_tensor_row(tensor, head, token);
    switch (tensor->dtype) {
    case KV_F16: bank->kernels->widen_half(row, out, tensor->dim); break;
    case KV_BF16: bank->kernels->widen_bfloat(row, out, tensor->dim); break;
    case KV_F32: memcpy(out, row, tensor->dim * sizeof *out); break;
    }
}

/* A recorded row in the codec's order: heads outermost, a head's key before its value. */
static void gather_recorded(const struct kv_bank *bank, uint32_t token, float *out)
{
    for (uint32_t h = 0; h < bank->n_heads; h++) {
        if (bank->side != KV_VALUES) {
            widen(bank, bank->source.keys, bank->first_head + h, token, out);
            if (bank->unrotated) kv_rotary_undo(&bank->rotary, token, out);
            out += bank->source.keys->dim;
        }
        if (bank->side != KV_KEYS) {
            widen(bank, bank->source.values, bank->first_head + h, token, out);
            out += bank->source.values->dim;
        }
    }
}

/* The row that enters encode. */
static void gather(const struct kv_bank *bank, uint32_t token, float *out)
{
    if (bank->handed) memcpy(out, bank->handed + (size_t)token * bank->dim, bank->dim * sizeof *out);
    else gather_recorded(bank, token, out);
}

/* -- the fit: prompt rows, and what else is known of the prompt --------------------------------- */

static const float *squares_of(const struct kv_squares *squares, const struct kv_bank *bank, int side)
{
    return side ? squares->values : bank->unrotated ? squares->unrotated_keys : squares->keys;
}

/* Squares of gradients in the order of rows; NULL in *out when the trace has none. */
static bool gather_squares(const struct kv_bank *bank, const struct kv_squares *const *heads,
                           float **out)
{
    const uint32_t n = bank->source.geometry->prefill;
    for (uint32_t h = 0; h < bank->n_heads; h++)
        for (int side = bank->side == KV_VALUES; side < (bank->side == KV_KEYS ? 1 : 2); side++)
            if (!squares_of(heads[h], bank, side)) return true;
    float *row = *out = kv_pool_take(bank->pool, (size_t)n * bank->dim * sizeof *row);
    for (uint32_t t = 0; row && t < n; t++)
        for (uint32_t h = 0; h < bank->n_heads; h++)
            for (int side = bank->side == KV_VALUES; side < (bank->side == KV_KEYS ? 1 : 2); side++) {
                const uint32_t dim = side_dim(bank->source.geometry, side ? KV_VALUES : KV_KEYS);
                const float *squares = squares_of(heads[h], bank, side);
                memcpy(row, squares + (size_t)t * dim, dim * sizeof *row);
                row += dim;
            }
    return row != NULL;
}

static bool gather_queries(const struct kv_bank *bank, const struct kv_prompt *prompts,
                           struct kv_sample *sample)
{
    const struct kv_geometry *geometry = bank->source.geometry;
    const size_t head = (size_t)geometry->group * sample->n, dim = geometry->key_dim;
    float *queries = kv_pool_take(bank->pool, bank->n_heads * head * dim * sizeof *queries);
    if (!queries) return false;
    for (uint32_t h = 0; h < bank->n_heads; h++)
        memcpy(queries + h * head * dim, prompts[h].queries, head * dim * sizeof *queries);
    for (size_t i = 0; bank->unrotated && i < bank->n_heads * head; i++)
        kv_rotary_undo(&bank->rotary, (uint32_t)(i % sample->n), queries + i * dim);
    sample->queries = queries, sample->n_queries = (uint32_t)(bank->n_heads * head);
    return true;
}

static bool gather_evidence(const struct kv_bank *bank, const struct kv_prompt *prompts,
                            struct kv_sample *sample)
{
    const struct kv_squares **heads = kv_pool_take(bank->pool, 2 * bank->n_heads * sizeof *heads);
    float *fisher = NULL, *label = NULL;
    if (!heads) return false;
    for (uint32_t h = 0; h < bank->n_heads; h++)
        heads[h] = &prompts[h].fisher, heads[bank->n_heads + h] = &prompts[h].label;
    if (!gather_squares(bank, heads, &fisher) ||
        !gather_squares(bank, heads + bank->n_heads, &label))
        return false;
    sample->fisher = fisher, sample->label = label;
    return !prompts->queries || gather_queries(bank, prompts, sample);
}

/* What only counts sees some rows, and nothing known of them but zeros. */
static bool count_evidence(const struct kv_bank *bank, struct kv_sample *sample)
{
    const struct kv_geometry *geometry = bank->source.geometry;
    const size_t queries = (size_t)bank->n_heads * geometry->group * sample->n;
    sample->fisher = sample->label =
        kv_pool_take(bank->pool, (size_t)sample->n * bank->dim * sizeof(float));
    sample->queries = kv_pool_take(bank->pool, queries * geometry->key_dim * sizeof(float));
    sample->n_queries = (uint32_t)queries;
    return sample->fisher && sample->queries;
}

enum { COUNTED_SAMPLE = 64 };   /* rows that a bank is fitted on which only counts */

static bool gather_sample(const struct kv_bank *bank, const struct kv_prompt *prompts,
                          struct kv_sample *sample)
{
    const uint32_t prompt = bank->source.geometry->prefill;
    /* The size of what is fitted must not hang on the number of rows. */
    const uint32_t n = bank->counts_only && prompt > COUNTED_SAMPLE ? COUNTED_SAMPLE : prompt;
    float *rows = kv_pool_take(bank->pool, (size_t)n * bank->dim * sizeof *rows);
    uint32_t *positions = kv_pool_take(bank->pool, n * sizeof *positions);
    if (!rows || !positions) return false;
    for (uint32_t t = 0; t < n; t++) {
        gather_recorded(bank, t, rows + (size_t)t * bank->dim);
        positions[t] = t;
    }
    *sample = (struct kv_sample){.n = n, .rows = rows, .positions = positions};
    if (bank->counts_only) return count_evidence(bank, sample);
    return !prompts || gather_evidence(bank, prompts, sample);
}

int kv_bank_fit(struct kv_bank *bank, const struct kv_prompt *prompts, struct kv_error *err)
{
    if (bank->code->type->fit) {
        const int64_t before = kv_pool_used(bank->pool, KV_BASIS_ONLINE);
        struct kv_sample sample;
        if (!gather_sample(bank, prompts, &sample))
            return kv_fail(err, KV_EMEMORY, "out of memory for the prompt's rows");
        const int status = bank->code->type->fit(bank->code, &sample, err);
        if (status != KV_OK) return status;
        bank->basis_bytes += kv_pool_used(bank->pool, KV_BASIS_ONLINE) - before;
    }
    const int status = reserve_atoms(bank, err);
    return status == KV_OK && bank->later ? reserve_atoms(bank->later, err) : status;
}

size_t kv_bank_exact_row_bytes(const struct kv_bank *bank)
{
    return (size_t)bank->dim * bank->source.geometry->element_bits / 8;
}

static void charge_rows(struct kv_bank *bank, int count)
{
    bank->live_rows += (uint32_t)count;
    kv_pool_charge(bank->pool, KV_RESIDUAL, count * (int64_t)kv_bank_exact_row_bytes(bank));
}

/* `count` atoms that need so many bytes of metadata each begin, or (negative) go. */
static void charge_atoms(struct kv_bank *bank, int count, uint32_t metadata)
{
    bank->live_atoms += (uint32_t)count;
    bank->spare_bytes += count * (int64_t)(bank->code->metadata_bytes - metadata);
    kv_pool_charge(bank->pool, KV_PAYLOAD, count * (int64_t)bank->code->payload_bytes);
    kv_pool_charge(bank->pool, KV_METADATA, count * (int64_t)metadata);
}

/* The bank that a row lies in. */
static struct kv_bank *part_of(const struct kv_bank *bank, uint32_t token)
{
    return bank->later && bank->is_late[token] ? bank->later : (struct kv_bank *)bank;
}

/* Rows arrive in ascending tokens except those handed down, which are put in their place. */
static void enqueue(struct kv_bank *bank, uint32_t token)
{
    uint32_t i = bank->queue_length++;
    bank->n_queue++;
    for (; i > 0 && bank->queue[i - 1] > token; i--) bank->queue[i] = bank->queue[i - 1];
    bank->queue[i] = token;
}

void kv_bank_append(struct kv_bank *bank, uint32_t token, uint32_t lanes)
{
    assert(bank->where[token] == KV_ABSENT || bank->handed);
    bank->holders[token] += lanes;
    if (bank->where[token] != KV_ABSENT) return;   /* another lane handed its share down before */
    bank->where[token] = KV_EXACT;
    if (bank->later && token >= bank->source.geometry->prefill) bank->is_late[token] = 1;
    bank = part_of(bank, token);
    charge_rows(bank, 1);
    if (token >= bank->code->tiers.sinks) enqueue(bank, token);
}

/* A row that was handed down may come again and must leave its place; any other stays in the list as
 * one that waits no longer, since closing up for each would cost the square of the prompt. */
static void leave_queue(struct kv_bank *bank, uint32_t token)
{
    bank->n_queue--;
    for (uint32_t i = 0; bank->handed && i < bank->queue_length; i++)
        if (bank->queue[i] == token) {
            memmove(bank->queue + i, bank->queue + i + 1,
                    (--bank->queue_length - i) * sizeof *bank->queue);
            return;
        }
}

/* The oldest `n` waiting rows. The list moves on behind them (it has room for every token once),
 * except where a token may enter twice. */
static void leave_front(struct kv_bank *bank, uint32_t n, uint32_t *tokens)
{
    uint32_t i = 0;
    for (uint32_t taken = 0; taken < n; i++)
        if (bank->where[bank->queue[i]] == KV_EXACT) tokens[taken++] = bank->queue[i];
    bank->n_queue -= n;
    bank->queue_length -= i;
    if (bank->handed) memmove(bank->queue, bank->queue + i, bank->queue_length * sizeof *bank->queue);
    else bank->queue += i;
}

void kv_bank_end_prompt(struct kv_bank *bank)
{
    if (!bank->later) return;
    for (uint32_t i = 0; i < bank->queue_length; i++) {
        const uint32_t token = bank->queue[i];
        if (bank->where[token] != KV_EXACT) continue;
        bank->is_late[token] = 1;
        charge_rows(bank, -1);
        charge_rows(bank->later, 1);
        enqueue(bank->later, token);
    }
    bank->n_queue = bank->queue_length = 0;
}

void kv_bank_release(struct kv_bank *bank, uint32_t token)
{
    const uint32_t place = bank->where[token];
    assert(place != KV_ABSENT && bank->holders[token] > 0);
    bank = part_of(bank, token);
    bank->holders[token]--;
    if (place >= KV_CODED) {
        const uint32_t atom = (place - KV_CODED) / bank->code->block;
        if (--bank->atom_holders[atom] == 0) charge_atoms(bank, -1, bank->atom_used[atom]);
    } else if (bank->holders[token] == 0) {
        charge_rows(bank, -1);
        if (token >= bank->code->tiers.sinks) leave_queue(bank, token);
    }
    if (bank->holders[token] == 0) bank->where[token] = KV_ABSENT;
}

/* Blocks that are due when so many rows wait. */
static uint32_t due_of(const struct kv_code *code, uint32_t n_queue)
{
    const struct kv_tiers *tiers = &code->tiers;
    if (n_queue < (uint64_t)tiers->recent + tiers->flush) return 0;
    return (n_queue - tiers->recent) / tiers->flush * tiers->flush / code->block;
}

uint32_t kv_bank_due(const struct kv_bank *bank) { return due_of(bank->code, bank->n_queue); }

/* Metadata bytes that an atom needs; atom NULL: that one needs on the average. */
static uint32_t metadata_used(const struct kv_code *code, const uint8_t *atom)
{
    return code->type->used ? code->type->used(code, atom) : code->metadata_bytes;
}

static void set_counts(struct kv_bank *bank, uint32_t atoms, uint32_t rows)
{
    assert(bank->counts_only && bank->n_queue == 0);
    bank->live_atoms = atoms, bank->live_rows = rows;
    bank->spare_bytes =
        atoms * (int64_t)(bank->code->metadata_bytes - metadata_used(bank->code, NULL));
}

void kv_bank_count_rows(struct kv_bank *bank, uint32_t n, uint32_t prompt)
{
    const uint32_t end = bank->later && n > prompt ? prompt : n;
    const uint32_t sinks = bank->code->tiers.sinks < end ? bank->code->tiers.sinks : end;
    const uint32_t atoms = due_of(bank->code, end - sinks);
    const uint32_t waiting = end - atoms * bank->code->block;
    set_counts(bank, atoms, bank->later ? sinks : waiting);
    if (!bank->later) return;
    const uint32_t rest = n - end + waiting - sinks, late = due_of(bank->later->code, rest);
    set_counts(bank->later, late, rest - late * bank->later->code->block);
}

void kv_bank_encode(struct kv_bank *bank, uint32_t *tokens)
{
    struct kv_code *code = bank->code;
    const uint32_t atom = bank->n_atoms++;
    assert(bank->n_queue >= code->block && atom < bank->max_atoms);
    leave_front(bank, code->block, tokens);
    for (uint32_t i = 0; i < code->block; i++) {
        if (!bank->counts_only) gather(bank, tokens[i], bank->block_rows + (size_t)i * bank->dim);
        bank->where[tokens[i]] = KV_CODED + atom * code->block + i;
        bank->atom_holders[atom] += bank->holders[tokens[i]];
    }
    charge_rows(bank, -(int)code->block);
    uint8_t *bytes = bank->counts_only ? NULL : bank->atoms + atom * kv_atom_bytes(code);
    if (bytes) code->type->encode(code, bank->block_rows, bytes);
    bank->atom_used[atom] = metadata_used(code, bytes);
    charge_atoms(bank, 1, bank->atom_used[atom]);
    if (!bytes) return;
    for (size_t i = 0; bank->garble && i < kv_atom_bytes(code); i++) bytes[i] ^= 0x55;
}

/* Columns of one head and side inside a row of the bank. */
static void columns_of(const struct kv_bank *bank, uint32_t head, enum kv_side side, uint32_t *first,
                       uint32_t *n)
{
    const struct kv_geometry *geometry = bank->source.geometry;
    *first = (head - bank->first_head) * side_dim(geometry, bank->side);
    if (bank->side == KV_BOTH_SIDES && side == KV_VALUES) *first += geometry->key_dim;
    *n = side_dim(geometry, side);
}

static void read_exact(const struct kv_bank *bank, uint32_t head, enum kv_side side, uint32_t token,
                       float *out)
{
    if (!bank->handed) {
        widen(bank, side == KV_KEYS ? bank->source.keys : bank->source.values, head, token, out);
        return;
    }
    uint32_t first, n;
    columns_of(bank, head, side, &first, &n);
    memcpy(out, bank->handed + (size_t)token * bank->dim + first, n * sizeof *out);
    if (bank->unrotated && side == KV_KEYS) kv_rotary_apply(&bank->rotary, token, out);
}

/* Decodes a run of coded rows that lie one behind the other; whole atoms go straight to out. */
static void read_run(const struct kv_bank *bank, uint32_t first, uint32_t n_columns, uint32_t place,
                     uint32_t run, float *out)
{
    const struct kv_code *code = bank->code;
    if (bank->counts_only) {
        memset(out, 0, (size_t)run * n_columns * sizeof *out);
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
            code->type->decode(code, atom, atoms, first, n_columns, out);
            n = atoms * code->block;
        } else {
            code->type->decode(code, atom, 1, first, n_columns, bank->block_rows);
            memcpy(out, bank->block_rows + (size_t)inside * n_columns,
                   (size_t)n * n_columns * sizeof *out);
        }
        row += n, run -= n, out += (size_t)n * n_columns;
    }
}

void kv_bank_read(const struct kv_bank *bank, uint32_t head, enum kv_side side, uint32_t n,
                  const uint32_t *tokens, const uint32_t *places, float *out)
{
    uint32_t first, n_columns;
    columns_of(bank, head, side, &first, &n_columns);
    for (uint32_t i = 0, run; i < n; i += run) {
        float *row = out + (size_t)i * n_columns;
        run = 1;
        if (places[i] < KV_CODED) {
            read_exact(bank, head, side, tokens[i], row);
            continue;
        }
        const struct kv_bank *part = part_of(bank, tokens[i]);
        while (i + run < n && places[i + run] == places[i] + run &&
               part_of(bank, tokens[i + run]) == part)
            run++;
        read_run(part, first, n_columns, places[i], run, row);
        if (bank->unrotated && side == KV_KEYS)
            for (uint32_t r = 0; r < run; r++)
                kv_rotary_apply(&bank->rotary, tokens[i + r], row + (size_t)r * n_columns);
    }
}

/* Bytes of live atoms that are not needed, recounted. */
static int64_t spare_of(const struct kv_bank *bank)
{
    int64_t spare = 0;
    for (uint32_t a = 0; a < bank->n_atoms; a++)
        if (bank->atom_holders[a]) spare += bank->code->metadata_bytes - bank->atom_used[a];
    return spare;
}

int kv_bank_audit(const struct kv_bank *bank, struct kv_error *err)
{
    const char *name = bank->code->type->name;
    uint32_t rows = 0, atoms = 0, waiting = 0, sum = 0, counted = 0;
    for (uint32_t t = 0; t < bank->source.geometry->tokens; t++) {
        const uint32_t place = bank->where[t];
        if (bank->is_late && bank->is_late[t] != bank->takes_late) continue;
        if ((place == KV_ABSENT) != (bank->holders[t] == 0))
            return kv_fail(err, KV_EGATE, "%s: token %u has a place without a holder", name, t);
        rows += place == KV_EXACT;
        waiting += place == KV_EXACT && t >= bank->code->tiers.sinks;
        if (place >= KV_CODED) sum += bank->holders[t];
    }
    for (uint32_t a = 0; a < bank->n_atoms; a++) atoms += bank->atom_holders[a] > 0,
        counted += bank->atom_holders[a];
    if (rows != bank->live_rows || atoms != bank->live_atoms || waiting != bank->n_queue ||
        sum != counted || spare_of(bank) != bank->spare_bytes)
        return kv_fail(err, KV_EGATE,
                       "%s: charged %u rows, %u atoms, %u waiting, %u shares; recounted %u, %u, %u, %u",
                       name, bank->live_rows, bank->live_atoms, bank->n_queue, counted, rows, atoms,
                       waiting, sum);
    return bank->later ? kv_bank_audit(bank->later, err) : KV_OK;
}
