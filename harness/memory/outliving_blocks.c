/* Blocks that outlive rows; see outliving_blocks.h.
 *
 * Rows enter a queue; when recent + flush of them wait, the oldest `flush` are encoded, k to a
 * block. Of n rows that are held in the end s are exact sinks, q wait, c = n - s - q are coded, and
 *
 *     blocks >= ceil(c / k)                      every block is full
 *     blocks <= c, and <= what was encoded       every block has one row left
 *
 * The newest g rows are never dropped. They were encoded one behind the other unless they wait, so
 * they fill ceil((g - q) / k) blocks; only the other c - (g - q) coded rows may be strewn. How many
 * wait follows from how many came when g >= recent + flush, since no row that waits is dropped
 * then; else from min(g, recent) to recent + flush - 1 do. Where the oldest go, the rows that stay
 * are the sinks and the newest, and the blocks are theirs. */
#include "harness/memory/outliving_blocks.h"

struct stay { /* what is known of the rows of a bank */
    struct kv_row_range prompt, end;
    uint32_t steps;  /* rows that came after the prompt */
    uint32_t sinks;  /* at positions of the exact tier, after the prompt; where it is exact */
    uint32_t newest; /* rows at the end that no step drops */
    uint32_t common; /* of them, what all lanes hold after the prompt, too */
    uint32_t first;  /* positions at the beginning that every lane holds */
    bool oldest_go, loose, edited;
};

struct units {
    uint32_t atoms[2], rows[2]; /* of the bank, of its later one */
};

struct best {
    struct units units;
    int64_t bytes;
    bool known;
    enum kv_extreme extreme;
};

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}
static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static uint32_t less(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}
static uint32_t up(uint32_t n, uint32_t d)
{
    return n / d + (n % d != 0);
}

static struct stay stay_of(const struct kv_bank *bank, const struct kv_held_rows *held)
{
    struct stay stay = {.prompt = kv_held_after_prompt(bank, held),
                        .end = kv_held_range(bank, held, false),
                        .steps = held->tokens - held->prefill,
                        .newest = held->newest,
                        .common = held->newest,
                        .first = held->sinks,
                        .oldest_go = true,
                        .edited = bank->edited != NULL};
    for (uint32_t m = 0; m < bank->n_layers; m++) {
        stay.newest = smaller(stay.newest, held[m].newest);
        if (bank->n_lanes > 1) stay.common = smaller(stay.common, held[m].common);
        stay.first = smaller(stay.first, held[m].sinks);
        stay.oldest_go &= held[m].oldest_go;
        stay.loose |= held[m].least < held[m].prompt;
    }
    stay.loose &= bank->n_lanes == 1;
    stay.common = smaller(stay.common, stay.newest);
    stay.oldest_go &= !stay.loose && !stay.edited && stay.end.least == stay.end.most &&
                      stay.prompt.least == stay.prompt.most;
    const uint32_t tier = bank->code->tiers.sinks;
    stay.sinks = tier - smaller(less(tier, stay.first), held->prefill - stay.prompt.least);
    return stay;
}

static int64_t bytes_of(const struct kv_bank *bank, const struct units *units)
{
    int64_t bytes = 0;
    for (int part = 0; bank; bank = bank->later, part++) {
        const struct kv_code *code = bank->code;
        const int64_t atom = (int64_t)code->payload_bytes + kv_metadata_used(code, NULL);
        bytes +=
            units->atoms[part] * atom + units->rows[part] * (int64_t)kv_bank_exact_row_bytes(bank);
    }
    return bytes;
}

static void consider(struct best *best, const struct kv_bank *bank, const struct units *units)
{
    const int64_t bytes = bytes_of(bank, units);
    if (best->known && (bytes - best->bytes) * best->extreme <= 0) return;
    *best = (struct best){*units, bytes, true, best->extreme};
}

/* -- one queue -------------------------------------------------------------------------------- */

/* Of `came` rows to a queue, how many are encoded when none is dropped before. */
static uint32_t coded_of(const struct kv_tiers *tiers, uint32_t came)
{
    if (came < (uint64_t)tiers->recent + tiers->flush) return 0;
    return (came - tiers->recent) / tiers->flush * tiers->flush;
}

struct queue { /* rows that came, no sinks among them; rows that wait in the end, n of them held */
    uint32_t came, n;
    bool exact; /* so many came, and none that waits is dropped */
};

/* Blocks of c coded rows; q wait. */
static uint32_t blocks_of(const struct kv_code *code, const struct stay *stay,
                          const struct queue *queue, uint32_t q, enum kv_extreme extreme)
{
    const uint32_t k = code->block, c = queue->n - q;
    if (extreme == KV_LEAST) return stay->loose ? c / k : up(c, k);
    if (stay->edited) return c;
    const uint32_t came = less(queue->came, q);
    const uint32_t made =
        stay->loose ? up(came, k) : came / code->tiers.flush * code->tiers.flush / k;
    if (!queue->exact) return smaller(c, made);
    const uint32_t full = smaller(less(stay->newest, q), c);
    return up(full, k) + smaller(c - full, less(made, up(full, k)));
}

/* Every number that may wait, where it is more than one. */
static void consider_queue(struct best *best, const struct kv_bank *bank, const struct stay *stay,
                           const struct queue *queue, struct units *units, int part)
{
    const struct kv_code *code = (part ? bank->later : bank)->code;
    const struct kv_tiers *tiers = &code->tiers;
    const uint64_t full = (uint64_t)tiers->recent + tiers->flush;
    const uint32_t sinks = units->rows[part], other = units->rows[0];
    const bool none = queue->came < full && !stay->edited && !stay->loose;
    const bool never = tiers->flush == UINT32_MAX || none;
    uint32_t from = stay->loose ? 0 : smaller(smaller(stay->common, tiers->recent), queue->n);
    uint32_t until = full > queue->n ? queue->n : (uint32_t)full - 1;
    if (queue->exact) from = until = smaller(queue->came - coded_of(tiers, queue->came), queue->n);
    if (never) from = until = queue->n;
    for (uint32_t q = from; q <= until; q++) {
        units->rows[part] = sinks + q;
        units->atoms[part] = never ? 0 : blocks_of(code, stay, queue, q, best->extreme);
        consider(best, bank, units);
    }
    units->rows[0] = other, units->rows[part] = sinks, units->atoms[part] = 0;
}

/* A queue from which no row is dropped while it waits. */
static bool is_exact(const struct kv_code *code, const struct stay *stay, uint32_t sinks)
{
    return stay->newest >= (uint64_t)code->tiers.recent + code->tiers.flush && !stay->loose &&
           !stay->edited && stay->prompt.least == stay->prompt.most &&
           stay->first >= code->tiers.sinks && sinks == code->tiers.sinks;
}

static void consider_one(struct best *best, const struct kv_bank *bank, const struct stay *stay,
                         uint32_t n, uint32_t sinks)
{
    struct units units = {.rows = {sinks}};
    const struct queue queue = {.came = stay->prompt.most + stay->steps - sinks,
                                .n = n - sinks,
                                .exact = is_exact(bank->code, stay, sinks)};
    consider_queue(best, bank, stay, &queue, &units, 0);
}

/* -- the oldest go ---------------------------------------------------------------------------- */

/* Rows of the first positions and the newest ones; false where first rows are still to go, or wait
 * among others. */
static bool count_line(struct best *best, const struct kv_bank *bank, const struct stay *stay)
{
    const struct kv_code *code = bank->code;
    const uint32_t n = stay->end.least, sinks = stay->end.sinks[0], k = code->block;
    const uint32_t first = smaller(stay->first, n), window = n - first;
    const uint64_t full = (uint64_t)code->tiers.recent + code->tiers.flush;
    if (!stay->oldest_go || stay->end.sinks[1] != sinks || sinks > first || sinks != stay->sinks)
        return false;
    uint32_t came = stay->prompt.least + stay->steps - sinks, q;
    uint32_t coded = coded_of(&code->tiers, came);
    if (stay->newest < full && stay->newest < window) return false;
    if (stay->newest < full) { /* rows that wait are dropped, once no other row is left */
        const uint32_t dropped = came - (n - sinks);
        came = n - sinks, coded = coded_of(&code->tiers, came);
        const uint32_t waits = came - coded;
        q = larger(waits, smaller(waits + dropped, window));
    } else {
        q = came - coded;
    }
    const uint32_t old = smaller(first - sinks, coded), young = less(window, q);
    const struct units units = {.rows = {sinks + q},
                                .atoms = {smaller(coded / k, up(old, k) + up(young, k))}};
    consider(best, bank, &units);
    return true;
}

/* -- rows after the prompt in blocks of their own --------------------------------------------- */

struct parted { /* rows without sinks: held; of the prompt, coded; behind them, at most and at least
                 */
    uint32_t rows, coded, late[2];
};

static struct parted part(const struct kv_bank *bank, const struct stay *stay, uint32_t n,
                          uint32_t sinks)
{
    const struct kv_tiers *tiers = &bank->code->tiers;
    const uint32_t prompt = less(stay->prompt.most, sinks);
    const uint64_t waits = (uint64_t)tiers->recent + tiers->flush - 1;
    struct parted parted = {.rows = n - sinks, .coded = coded_of(tiers, prompt)};
    const bool exact =
        !stay->loose && stay->prompt.least == stay->prompt.most && stay->first >= tiers->sinks;
    parted.late[0] = stay->steps + (exact ? prompt - parted.coded : 0);
    parted.late[1] = stay->steps + (exact            ? prompt - parted.coded
                                    : waits < prompt ? (uint32_t)waits
                                                     : prompt);
    if (stay->loose) parted.coded = prompt;
    return parted;
}

/* Of the held rows x are the prompt's and coded; the others are in the later bank. */
static void consider_split(struct best *best, const struct kv_bank *bank, const struct stay *stay,
                           const struct parted *parted, uint32_t sinks, uint32_t x)
{
    const uint32_t k = bank->code->block;
    const struct queue queue = {.came = parted->late[1], .n = parted->rows - x};
    struct units units = {.rows = {sinks}};
    units.atoms[0] = best->extreme == KV_MOST ? smaller(x, up(parted->coded, k))
                     : stay->loose            ? x / k
                                              : up(x, k);
    consider_queue(best, bank, stay, &queue, &units, 1);
}

/* What comes to most or least lies at an end, or where one more row of the prompt, or one behind
 * it, no longer means one more block. */
static void consider_later(struct best *best, const struct kv_bank *bank, const struct stay *stay,
                           uint32_t n, uint32_t sinks)
{
    const struct parted parted = part(bank, stay, n, sinks);
    const struct kv_code *later = bank->later->code;
    const uint32_t sure = smaller(smaller(stay->common, parted.late[0]), parted.rows);
    const uint32_t from =
        larger(less(parted.rows, parted.late[1]), smaller(less(stay->first, sinks), parted.coded));
    const uint32_t until = smaller(parted.coded, parted.rows - sure);
    const uint32_t waits =
        later->tiers.flush == UINT32_MAX ? 0 : later->tiers.recent + later->tiers.flush - 1;
    const uint32_t bends[] = {
        from, until, up(parted.coded, bank->code->block),
        less(parted.rows, up(parted.late[1], later->block)),
        less(parted.rows, waits + up(less(parted.late[1], waits), later->block))};
    for (int i = 0; i < 5; i++)
        for (uint32_t x = bends[i]; x <= bends[i] + 1; x++)
            consider_split(best, bank, stay, &parted, sinks, smaller(larger(x, from), until));
}

/* --------------------------------------------------------------------------------------------- */

void kv_bank_count_outliving(struct kv_bank *bank, const struct kv_held_rows *held,
                             enum kv_extreme extreme)
{
    const struct stay stay = stay_of(bank, held);
    struct best best = {.extreme = extreme};
    const uint32_t n = extreme == KV_MOST ? stay.end.most : stay.end.least;
    if (bank->later || !count_line(&best, bank, &stay))
        for (uint32_t s = stay.end.sinks[0]; s <= stay.end.sinks[1]; s++)
            (bank->later ? consider_later : consider_one)(&best, bank, &stay, n, s);
    kv_bank_count_units(bank, best.units.atoms, best.units.rows);
}
