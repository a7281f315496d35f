/* Banks; see bank.h. */
#include "methods/cache/bank.h"

#include <assert.h>
#include <string.h>

#include "methods/cache/bank_parts.h"
#include "methods/kernels/recorded_rows.h"

/* True when this codec changes rows of the recorded type. */
static bool is_lossy(const struct kv_codec *codec, const struct kv_bank *bank)
{
    static const uint32_t exact[] = {[KV_F16] = KV_EXACT_F16, [KV_BF16] = KV_EXACT_BF16,
                                     [KV_F32] = KV_EXACT_F32};
    return bank->unrotated || !(codec->traits & exact[bank->sources->keys->dtype]);
}

static int reserve_places(struct kv_bank *bank, struct kv_error *err)
{
    const size_t tokens = bank->sources->geometry->tokens;
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
    /* An edited row leaves its atom for another: as many live ones as rows. */
    bank->max_atoms = bank->sources->geometry->tokens / (bank->edited ? 1 : code->block) + 1;
    if (bank->edited) bank->free_atoms = kv_pool_take(bank->pool, bank->max_atoms * sizeof *bank->free_atoms);
    const size_t kept = bank->counts_only ? 0 : bank->max_atoms * kv_atom_bytes(code);
    bank->atoms = kv_pool_take(bank->pool, kept);
    bank->atom_holders = kv_pool_take(bank->pool, bank->max_atoms * sizeof *bank->atom_holders);
    bank->atom_used = kv_pool_take(bank->pool, bank->max_atoms * sizeof *bank->atom_used);
    const uint32_t turned = kv_turned_columns(code, KV_KEYS);
    const size_t width = code->dim > turned ? code->dim : turned;
    bank->block_rows =
        kv_pool_take(bank->pool, kv_bank_at_once(bank) * code->block * width * sizeof(float));
    bank->decoded = kv_pool_take(bank->pool, sizeof *bank->decoded);
    if ((bank->edited && !bank->free_atoms) || !bank->atoms || !bank->atom_holders || !bank->atom_used ||
        !bank->block_rows || !bank->decoded)
        return kv_fail(err, KV_EMEMORY, "%s: out of memory for %u atoms of %zu bytes",
                       code->type->name, bank->max_atoms, kv_atom_bytes(code));
    return KV_OK;
}

static bool keys_unrotated(const struct kv_stage *stage, enum kv_side side,
                           const struct kv_geometry *geometry)
{
    if (!stage || side == KV_VALUES || geometry->rope.layout == KV_ROPE_NONE) return false;
    if (stage->modifiers[KV_KEYS].rotated) return false;
    if (stage->modifiers[KV_KEYS].unrotated) return true;
    for (; stage; stage = stage->rest)
        if (stage->codec->traits & KV_UNROTATED_KEYS) return true;
    return false;
}

/* The bank of the rows after the prompt: its own code, queue, atoms and counts. */
static int create_later(struct kv_bank *bank, struct kv_error *err)
{
    const size_t tokens = bank->sources->geometry->tokens;
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

/* What the codecs of the chain ask of the fit. */
static void note_wishes(struct kv_bank *bank, const struct kv_stage *stage, enum kv_side side)
{
    for (; stage; stage = stage->rest) {
        struct kv_wants wants = {0};
        bank->fits_online |= (stage->codec->traits & KV_FITS_ONLINE) != 0;
        if (stage->codec->wants) stage->codec->wants(stage->config[side == KV_VALUES], &wants);
        bank->wants_queries |= wants.queries, bank->wants_lags |= wants.all_lags;
    }
}

/* Turned rows take keys as they are recorded, and do with their rotation what they mean to. */
static int prepare_turn(struct kv_bank *bank, struct kv_error *err)
{
    const struct kv_code *code = bank->code;
    bank->fits_unrotated = bank->unrotated;
    bank->must_turn = kv_code_must_turn(code);
    if (!bank->must_turn) return KV_OK;
    assert(!kv_later_code(code) && bank->n_layers == 1);
    bank->unrotated = false;
    bank->recorded_row = kv_pool_take(bank->pool, bank->dim * sizeof *bank->recorded_row);
    return bank->recorded_row ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for a row");
}

int kv_bank_create(struct kv_bank *bank, const struct kv_setup *setup, const struct kv_source *sources,
                   const struct kv_stage *stage, enum kv_side side,
                   enum kv_row_origin origin, struct kv_error *err)
{
    const struct kv_geometry *geometry = sources->geometry;
    const uint32_t n_layers = setup->n_layers ? setup->n_layers : 1;
    *bank = (struct kv_bank){.sources = sources, .kernels = setup->kernels, .pool = setup->pool,
                             .side = side, .n_layers = n_layers, .first_head = setup->head,
                             .n_heads = setup->n_heads, .n_lanes = n_layers * setup->n_heads};
    bank->dim = bank->n_lanes * kv_side_dim(geometry, side);
    note_wishes(bank, stage, side);
    bank->unrotated = keys_unrotated(stage, side, geometry);
    bank->host = stage && stage->modifiers[side == KV_VALUES].host;
    if (bank->unrotated && !kv_rotary_create(&bank->rotary, geometry, bank->pool))
        return kv_fail(err, KV_EMEMORY, "out of memory for rotary tables");
    struct kv_setup own = *setup;
    own.side = side;
    /* Without a codec rows are stored in the recorded type, which is exact. */
    static const char *const recorded[] = {[KV_F16] = "f16", [KV_BF16] = "bf16", [KV_F32] = "f32"};
    const struct kv_modifiers plain = {.sinks = -1, .recent = -1};
    const struct kv_stage exact = {.codec = kv_codec_find(recorded[sources->keys->dtype]),
                                   .modifiers = {plain, plain}};
    if (!stage) stage = &exact;
    if (geometry->values_in_keys &&
        !(bank->key_row = kv_pool_take(bank->pool, geometry->key_dim * sizeof *bank->key_row)))
        return kv_fail(err, KV_EMEMORY, "out of memory for a key");
    const int64_t before = kv_pool_used(bank->pool, KV_BASIS_ONLINE);
    int status = kv_create_code(&bank->code, stage, &own, bank->dim, err);
    if (status != KV_OK) return status;
    bank->basis_bytes = kv_pool_used(bank->pool, KV_BASIS_ONLINE) - before;
    status = prepare_turn(bank, err);
    if (status != KV_OK) return status;
    bank->lossy = is_lossy(bank->code->type, bank);
    if (origin == KV_ROWS_EDITED) {
        bank->edited = kv_pool_take(bank->pool, geometry->tokens);
        if (!bank->edited) return kv_fail(err, KV_EMEMORY, "out of memory for edited rows");
        if (kv_later_code(bank->code))
            return kv_fail(err, KV_EUNSUPPORTED, "%s: rows after the prompt have a codec of their own: they"
                           " cannot be merged into", bank->code->type->name);
    }
    if (origin != KV_ROWS_RECORDED) {
        bank->handed = kv_pool_take(bank->pool, (size_t)geometry->tokens * bank->dim * sizeof(float));
        if (!bank->handed) return kv_fail(err, KV_EMEMORY, "out of memory for rows handed down");
        bank->lossy = true;
    }
    status = reserve_places(bank, err);
    return status == KV_OK && kv_later_code(bank->code) ? create_later(bank, err) : status;
}

float *kv_bank_gather_lane(const struct kv_bank *bank, const struct kv_source *source,
                           const struct kv_rotary *rotary, uint32_t head, uint32_t token, float *out)
{
    if (bank->side != KV_VALUES) {
        kv_widen_rows(source->keys, head, token, 1, bank->kernels, out);
        if (rotary) kv_rotary_undo(rotary, token, out);
        out += source->keys->dim;
    }
    if (bank->side != KV_KEYS) {
        kv_widen_rows(source->values, head, token, 1, bank->kernels, out);
        out += source->values->dim;
    }
    return out;
}

/* A recorded row in the codec's order. */
static void gather_recorded(const struct kv_bank *bank, uint32_t token, float *out)
{
    for (uint32_t l = 0; l < bank->n_layers; l++)
        for (uint32_t h = 0; h < bank->n_heads; h++)
            out = kv_bank_gather_lane(bank, &bank->sources[l], bank->unrotated ? &bank->rotary : NULL,
                              bank->first_head + h, token, out);
}

/* The row that enters encode. */
static void gather(const struct kv_bank *bank, uint32_t token, float *out)
{
    float *row = bank->must_turn ? bank->recorded_row : out;
    if (kv_bank_is_handed(bank, token))
        memcpy(row, bank->handed + (size_t)token * bank->dim, bank->dim * sizeof *row);
    else gather_recorded(bank, token, row);
    if (bank->must_turn) bank->code->type->turn->row(bank->code, token, row, out);
}

int kv_bank_fit(struct kv_bank *bank, const struct kv_fit_rows *from, bool calibrated,
                struct kv_error *err)
{
    int status = KV_OK;
    if (bank->code->type->fit) status = kv_bank_fit_code(bank, from, calibrated, err);
    if (status == KV_OK) status = reserve_atoms(bank, err);
    return status == KV_OK && bank->later ? reserve_atoms(bank->later, err) : status;
}

size_t kv_bank_exact_row_bytes(const struct kv_bank *bank)
{
    return (size_t)bank->dim * bank->sources->geometry->element_bits / 8;
}

/* What a stored unit is charged as. */
static enum kv_class class_of(const struct kv_bank *bank, enum kv_class on_device)
{
    return bank->host ? KV_OFFLOADED : on_device;
}

static void charge_rows(struct kv_bank *bank, int count)
{
    bank->live_rows += (uint32_t)count;
    kv_pool_charge(bank->pool, class_of(bank, KV_RESIDUAL), count * (int64_t)kv_bank_exact_row_bytes(bank));
}

/* `count` atoms that need so many bytes of metadata each begin, or (negative) go. */
static void charge_atoms(struct kv_bank *bank, int count, uint32_t metadata)
{
    bank->live_atoms += (uint32_t)count;
    bank->spare_bytes += count * (int64_t)(bank->code->metadata_bytes - metadata);
    kv_pool_charge(bank->pool, class_of(bank, KV_PAYLOAD), count * (int64_t)bank->code->payload_bytes);
    kv_pool_charge(bank->pool, class_of(bank, KV_METADATA), count * (int64_t)metadata);
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
    if (bank->later && token >= bank->sources->geometry->prefill) bank->is_late[token] = 1;
    bank = kv_bank_part_of(bank, token);
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
    bank = kv_bank_part_of(bank, token);
    bank->holders[token]--;
    if (place >= KV_CODED) {
        const uint32_t atom = (place - KV_CODED) / bank->code->block;
        if (--bank->atom_holders[atom] == 0) {
            charge_atoms(bank, -1, bank->atom_used[atom]);
            if (bank->free_atoms) bank->free_atoms[bank->n_free++] = atom;
        }
    } else if (bank->holders[token] == 0) {
        charge_rows(bank, -1);
        if (token >= bank->code->tiers.sinks) leave_queue(bank, token);
    }
    if (bank->holders[token] == 0) bank->where[token] = KV_ABSENT;
}

/* An exact row takes the bits of a recorded one, so it has no more precision than they have; what is
 * too large for a half becomes the largest one. */
static void round_row(const struct kv_bank *bank, float *row)
{
    uint16_t words[256];
    for (uint32_t c = 0, n; c < bank->dim; c += n, row += n) {
        n = bank->dim - c < 256 ? bank->dim - c : 256;
        switch (bank->sources->keys->dtype) {
        case KV_F16:
            bank->kernels->narrow_finite(row, words, n);
            bank->kernels->widen_half(words, row, n);
            break;
        case KV_BF16:
            bank->kernels->narrow_bfloat(row, words, n);
            bank->kernels->widen_bfloat(words, row, n);
            break;
        case KV_F32: break;
        }
    }
}

/* The row in its place of `handed`, as read, becomes the one that is stored. */
static void settle_row(struct kv_bank *bank, uint32_t token)
{
    float *row = bank->handed + (size_t)token * bank->dim;
    if (bank->unrotated) kv_rotary_undo(&bank->rotary, token, row);
    round_row(bank, row);
}

void kv_bank_take(struct kv_bank *bank, uint32_t token)
{
    settle_row(bank, token);
    kv_bank_append(bank, token, 1);
}

void kv_bank_edit(struct kv_bank *bank, uint32_t token, const float *row)
{
    assert(bank->edited && bank->n_lanes == 1);
    kv_bank_release(bank, token);
    memcpy(bank->handed + (size_t)token * bank->dim, row, bank->dim * sizeof *row);
    settle_row(bank, token);
    bank->edited[token] = 1;
    kv_bank_append(bank, token, 1);
}

/* Blocks that are due when so many rows wait. */
static uint32_t due_of(const struct kv_code *code, uint32_t n_queue)
{
    const struct kv_tiers *tiers = &code->tiers;
    if (n_queue < (uint64_t)tiers->recent + tiers->flush) return 0;
    return (n_queue - tiers->recent) / tiers->flush * tiers->flush / code->block;
}

uint32_t kv_bank_due(const struct kv_bank *bank) { return due_of(bank->code, bank->n_queue); }

static void set_counts(struct kv_bank *bank, uint32_t atoms, uint32_t rows)
{
    assert(bank->n_queue == 0 && bank->n_atoms == 0);
    bank->live_atoms = atoms, bank->live_rows = rows;
    bank->spare_bytes =
        atoms * (int64_t)(bank->code->metadata_bytes - kv_metadata_used(bank->code, NULL));
}

void kv_bank_count_held(struct kv_bank *bank, uint32_t n, uint32_t prompt, uint32_t sinks)
{
    const uint32_t end = bank->later && n > prompt ? prompt : n;
    if (sinks > end) sinks = end;
    const uint32_t atoms = due_of(bank->code, end - sinks);
    const uint32_t waiting = end - atoms * bank->code->block;
    set_counts(bank, atoms, bank->later ? sinks : waiting);
    if (!bank->later) return;
    const uint32_t rest = n - end + waiting - sinks, late = due_of(bank->later->code, rest);
    set_counts(bank->later, late, rest - late * bank->later->code->block);
}

void kv_bank_count_units(struct kv_bank *bank, const uint32_t atoms[2], const uint32_t rows[2])
{
    set_counts(bank, atoms[0], rows[0]);
    if (bank->later) set_counts(bank->later, atoms[1], rows[1]);
}

void kv_bank_count_rows(struct kv_bank *bank, uint32_t n, uint32_t prompt)
{
    kv_bank_count_held(bank, n, prompt, bank->code->tiers.sinks);
}

int64_t kv_bank_row_bytes(const struct kv_bank *bank)
{
    const int64_t later = bank->later ? kv_bank_row_bytes(bank->later) : 0;
    return later + bank->live_atoms * (int64_t)kv_atom_bytes(bank->code) - bank->spare_bytes +
           bank->live_rows * (int64_t)kv_bank_exact_row_bytes(bank);
}

uint32_t kv_bank_at_once(const struct kv_bank *bank)
{
    return bank->free_atoms ? 1 : kv_atoms_at_once(bank->code);
}

/* The oldest waiting rows become an atom's, whose number is returned; they are gathered at `rows`. */
static uint32_t place_block(struct kv_bank *bank, uint32_t *tokens, float *rows)
{
    const struct kv_code *code = bank->code;
    const uint32_t atom = bank->n_free ? bank->free_atoms[--bank->n_free] : bank->n_atoms++;
    assert(bank->n_queue >= code->block && atom < bank->max_atoms);
    leave_front(bank, code->block, tokens);
    for (uint32_t i = 0; i < code->block; i++) {
        if (!bank->counts_only) gather(bank, tokens[i], rows + (size_t)i * code->dim);
        bank->where[tokens[i]] = KV_CODED + atom * code->block + i;
        bank->atom_holders[atom] += bank->holders[tokens[i]];
    }
    charge_rows(bank, -(int)code->block);
    return atom;
}

void kv_bank_encode(struct kv_bank *bank, uint32_t n_atoms, uint32_t *tokens)
{
    struct kv_code *code = bank->code;
    uint32_t first = 0;
    assert(n_atoms <= kv_bank_at_once(bank));
    bank->decoded->atom = NULL;
    for (uint32_t a = 0; a < n_atoms; a++) {
        const size_t rows = (size_t)a * code->block;
        const uint32_t atom = place_block(bank, tokens + rows, bank->block_rows + rows * code->dim);
        if (a == 0) first = atom;
    }
    uint8_t *bytes = bank->counts_only ? NULL : bank->atoms + first * kv_atom_bytes(code);
    if (bytes) kv_encode_atoms(code, bank->block_rows, n_atoms, bytes);
    for (uint32_t a = 0; a < n_atoms; a++) {
        const uint8_t *atom = bytes ? bytes + a * kv_atom_bytes(code) : NULL;
        bank->atom_used[first + a] = kv_metadata_used(code, atom);
        charge_atoms(bank, 1, bank->atom_used[first + a]);
    }
    for (size_t i = 0; bytes && bank->garble && i < n_atoms * kv_atom_bytes(code); i++)
        bytes[i] ^= 0x55;
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
    for (uint32_t t = 0; t < bank->sources->geometry->tokens; t++) {
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
