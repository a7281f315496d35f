/* A codec: how a row is stored. A pure map of `block` rows to one *atom* of stated bytes, and back.
 *
 * A row is what one token contributes to one codec object: `dim` columns = (layers x heads x sides)
 * in its span, layers outermost, a head's key before its value. Without a span: one head's key, or
 * one head's value. A codec never sees a position, a head, a fate, or why a row is there; the cache owns all
 * row memory and every count. Sources: interface.md section 2 of the design, DESIGN.md section 3.
 *
 * Only create and fit may fail; encode and decode assert their contract. encode must give the same
 * bytes on every CPU (use the exact kernels); decode likewise unless its header comment says so.
 * Scratch: encode and decode may use up to KV_CODEC_SCRATCH floats on the stack, or arrays reserved
 * in create as KV_WORKSPACE (an object is used by one thread at a time). */
#ifndef KVBENCH_METHODS_CODEC_H
#define KVBENCH_METHODS_CODEC_H

#include "methods/setup.h"

enum { KV_CODEC_SCRATCH = 4096 };

/* Traits. */
enum {
    KV_LEAVES_ROWS = 1,      /* its codes are rows again: an inner codec stores them (default f16) */
    KV_FITS_PROMPT = 2,      /* fit is called with all prompt rows before the first encode */
    KV_UNROTATED_KEYS = 4,   /* keys reach encode turned back to before the rotation */
    KV_RANDOM = 8,           /* depends on the seed */
    KV_RANDOM_KEYS = 4096,   /* so do keys; values do not */
    KV_ORDERED_HEADS = 512,  /* the heads of an object are not alike to it: their order matters */
    KV_WRAPS = 1024,         /* with KV_LEAVES_ROWS: eases the inner codec's work and compresses nothing itself */
    KV_OWN_CODES = 2048,     /* with KV_LEAVES_ROWS: stores codes itself where no inner codec is named */
    KV_FITS_ONLINE = 256,    /* by its definition fitted on the prompt that it serves, never before */
    KV_EXACT_F16 = 16, KV_EXACT_BF16 = 32, KV_EXACT_F32 = 64   /* rows recorded so come back exactly */
};

/* Which rows stay exact, in rows of this object's queue: positions < sinks never enter the queue; the
 * newest `recent` stay; `flush` are encoded at a time. Flush of a bank: while queue >= recent +
 * flush, encode the flush oldest. KIVI keys {recent 0, flush 128}; values {recent 128, flush 1}. */
struct kv_tiers {
    uint32_t sinks, recent, flush;
    bool coded_at_once;      /* true: encoded before the answer of its own step; false: after it */
};

struct kv_code {             /* first member of every codec object; filled by create, final after fit */
    const struct kv_codec *type;
    uint32_t dim, block;     /* columns in; rows per atom (tiers.flush is a multiple of it) */
    uint32_t payload_bytes, metadata_bytes;   /* of one atom, inner atoms included, no padding hidden */
    struct kv_tiers tiers;
};

struct kv_wants;             /* methods/policy.h */

/* Rows that are read in another space than the recorded one: q . k = query(q) . turned key, and an
 * answer is output(sum of turned values). `lane` is the KV head's place in the object. Two uses:
 *
 *   speed       row NULL: encode and decode as ever, and decode_turned beside them, which spares every
 *               row a way back that each query goes once. Readers choose; answers differ by rounding.
 *   definition  answers are what they are in that space only (keys that lost their rotation). encode
 *               and decode then see turned rows alone, `dim` wide; a fit sees recorded ones.
 *
 * Exact tiers keep recorded rows. Objects that turn serve one layer. */
struct kv_turn {
    /* Columns of a turned row that a key, or a value, is read from: the first so many; 0: this object
     * does not turn. The keys' are all of them. */
    uint32_t (*columns)(const struct kv_code *code, enum kv_side side);
    /* A recorded row of the object, and back: what a reader of recorded rows is shown (errors, dumps,
     * merges). Keys are rotated in both. */
    void (*row)(const struct kv_code *code, uint32_t token, const float *row, float *turned);
    void (*back)(const struct kv_code *code, uint32_t token, const float *turned, float *row);
    /* Like decode, all columns: out [n_atoms * block][columns]. */
    void (*decode_turned)(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                          float *out);
    void (*query)(const struct kv_code *code, uint32_t lane, uint32_t token, const float *query,
                  float *turned);
    void (*output)(const struct kv_code *code, uint32_t lane, const float *turned,
                   float *output);   /* added to it */
};

struct kv_codec {
    const char *name, *summary, *paper;
    uint32_t traits;
    const struct kv_param *params;
    size_t config_size;
    /* The span that a stage means which names none: enum kv_span bits, optional. */
    uint32_t (*span)(const void *config);
    /* What fit wants known beside the rows: queries, fisher, label. Pure; NULL = nothing. A fit whose
     * wish the trace cannot fulfil returns KV_ESKIPPED. */
    void (*wants)(const void *config, struct kv_wants *wants);
    /* Makes an object from setup->pool (kv_pool_reserve; never freed singly). A config that this
     * shape does not allow is KV_EUNSUPPORTED with the reason. */
    int (*create)(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err);
    int (*fit)(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err); /* optional */
    /* The most layers that may share one object with this one (1: it stays alone); NULL: always 1.
     * Groups are formed of recorded neighbours of one shape; each may end up smaller. */
    uint32_t (*layer_group)(const void *config, const struct kv_geometry *layer);
    /* Optional, of an object that serves layers: whether a layer stores anything at all. Atoms and bases
     * are parted among those that do; NULL: all. */
    bool (*layer_stores)(const struct kv_code *code, uint32_t layer);
    /* rows [block][dim] -> atom (payload_bytes + metadata_bytes, the split is the codec's own). */
    void (*encode)(struct kv_code *code, const float *rows, uint8_t *atom);
    /* Optional: n_atoms adjacent atoms of as many blocks of rows, bytes as encode's, in less time than one
     * after the other takes (kv_encode_atoms). */
    void (*encode_atoms)(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms);
    /* n_atoms adjacent atoms -> columns first_column .. first_column + n_columns - 1 of their rows:
     * out [n_atoms * block][n_columns]. */
    void (*decode)(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out);
    /* Atoms of variable size: how many of the metadata_bytes (then the most an atom can need) this
     * one needs; the rest is never charged. NULL: all. Wrappers: kv_wrapped_used. atom NULL: what one
     * needs on the average, as far as a parameter says so, else the least; kv_smallest_atom: the least. */
    uint32_t (*used)(const struct kv_code *code, const uint8_t *atom);
    /* Optional: the object that stores the rows after the prompt in another way (GEAR's blocks of new
     * rows; one that never flushes leaves them exact), or NULL. Prompt rows that fill no block when
     * the prompt ends are its rows, too. This object's fit fits it; it has no `later` itself. */
    struct kv_code *(*later)(const struct kv_code *code);
    const struct kv_turn *turn;   /* optional */
};

/* What it leaves are rows and nothing else: an inner codec always stores them. */
static inline bool kv_codec_leaves_all(const struct kv_codec *codec)
{
    return (codec->traits & (KV_LEAVES_ROWS | KV_OWN_CODES)) == KV_LEAVES_ROWS;
}

static inline struct kv_code *kv_later_code(const struct kv_code *code)
{
    return code->type->later ? code->type->later(code) : NULL;
}

/* Columns of a turned row for a side, 0 where the object's rows are read as recorded. */
static inline uint32_t kv_turned_columns(const struct kv_code *code, enum kv_side side)
{
    return code->type->turn ? code->type->turn->columns(code, side) : 0;
}

/* Rows of this object mean something in their own space only. */
static inline bool kv_code_must_turn(const struct kv_code *code)
{
    return code->type->turn && code->type->turn->row;
}

extern const uint8_t kv_smallest_atom[1];   /* for `used`, in place of an atom */

/* Metadata bytes that an atom needs; of NULL and kv_smallest_atom see `used`. */
static inline uint32_t kv_metadata_used(const struct kv_code *code, const uint8_t *atom)
{
    return code->type->used ? code->type->used(code, atom) : code->metadata_bytes;
}

/* Bytes of one atom, at most. */
static inline size_t kv_atom_bytes(const struct kv_code *code)
{
    return (size_t)code->payload_bytes + code->metadata_bytes;
}

/* Atoms that are encoded by one call: a prompt's, or what a residual lets go. */
static inline uint32_t kv_atoms_at_once(const struct kv_code *code)
{
    enum { ROWS = 16 };
    return code->block < ROWS ? ROWS / code->block : 1;
}

/* rows [n_atoms * block][dim] -> n_atoms adjacent atoms. */
static inline void kv_encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms,
                                   uint8_t *atoms)
{
    if (code->type->encode_atoms && n_atoms > 1) {
        code->type->encode_atoms(code, rows, n_atoms, atoms);
        return;
    }
    for (uint32_t a = 0; a < n_atoms; a++)
        code->type->encode(code, rows + (size_t)a * code->block * code->dim,
                           atoms + a * kv_atom_bytes(code));
}

/* Rows of single heads that an object's row consists of: 1 where it is a latent's. */
uint32_t kv_lanes_in_row(const struct kv_setup *setup);

/* Makes the codec of `stage` for rows of `dim` columns: `setup` with config, dim and rest replaced.
 * stage NULL makes the default, f16 (f32 on an f32 trace). */
int kv_create_code(struct kv_code **out, const struct kv_stage *stage, const struct kv_setup *setup,
                   uint32_t dim, struct kv_error *err);

#endif
