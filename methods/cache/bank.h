/* A bank: one codec object with the rows it stores, for the layers, heads and sides of its span. A lane
 * is one KV head of one layer; a row holds its lanes one behind the other, layers outermost.
 *
 * Rows enter exact, wait in the queue that the codec's tiers ask for, and are encoded `block` at a
 * time into atoms. The bank knows for every token where its row is, how many lanes still hold it, and
 * charges by the one rule: a stored unit (an exact row, an atom) is charged, whole, from its first
 * byte until the last lane drops the last row in it. Places are not reused: a late reader may still
 * decode what was dropped. */
#ifndef KVBENCH_METHODS_BANK_H
#define KVBENCH_METHODS_BANK_H

#include "harness/base/tensor.h"
#include "methods/codec.h"
#include "methods/policy.h"
#include "methods/rotary.h"
#include "methods/spec/spec.h"

enum { KV_ABSENT = 0, KV_EXACT = 1, KV_CODED = 2 };   /* where: KV_CODED + atom * block + row */

struct kv_source {                 /* the recorded rows of one layer */
    const struct kv_geometry *geometry;
    const struct kv_tensor *keys, *values;
    const struct kv_tensor *queries;   /* or NULL: what is fitted on queries cannot run */
    const float *w_o;                  /* [hidden][q_heads * value_dim] or NULL */
    uint32_t hidden;
};

struct kv_fit_rows {               /* what bases are fitted on, when it is not the prompt */
    struct kv_source source;       /* geometry NULL: nothing given */
    uint32_t first, n;             /* tokens of the source */
    const struct kv_prompt *prompts;   /* of the object's heads, or NULL */
    const char *missing;           /* a calibration was asked for, but has nothing of this layer: why */
};

/* A calibration must have recorded this very layer, with its heads; `name` is the method's. */
int kv_fit_rows_check(const struct kv_fit_rows *from, const struct kv_geometry *own, const char *name,
                      struct kv_error *err);

struct kv_bank {
    struct kv_code *code;
    struct kv_bank *later;         /* of rows that kv_later_code stores, or NULL; shares where and holders */
    uint8_t *is_late;              /* [tokens] the row belongs to later */
    bool takes_late;               /* this is a later bank */
    const struct kv_source *sources;   /* [n_layers] */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    enum kv_side side;
    uint32_t n_layers, first_head, n_heads, n_lanes, dim;
    bool unrotated, lossy;
    bool must_turn;                /* coded rows are turned by definition: struct kv_turn */
    bool fits_unrotated;           /* the rows of a fit are turned back to before the rotation */
    bool host;                     /* rows lie in host memory: all of theirs is charged as KV_OFFLOADED */
    bool garble;                   /* check mode: spoil codes, so that answers must change */
    bool counts_only;              /* `memory`: bytes are charged, no row is read, coded or kept */
    bool knows_trace;              /* ... of a recording that is there (struct kv_cache_plan) */
    struct kv_rotary rotary;       /* when unrotated, or for the fit */
    float *handed;                 /* [tokens][dim] rows handed down by another cache (rest), or NULL */
    uint8_t *edited;               /* [tokens] 1: the row is in handed, where policies merge; or NULL */
    uint32_t *free_atoms, n_free;  /* dead atoms, taken again where rows are edited */
    uint32_t *where;               /* [tokens] current place of each row */
    uint32_t *holders;             /* [tokens] lanes that hold the row */
    uint32_t *queue, n_queue;      /* exact rows that wait, ascending tokens, among rows that left */
    uint32_t queue_length;         /* entries of queue: those that wait, and those that were dropped */
    uint8_t *atoms;
    uint32_t n_atoms, max_atoms;
    uint32_t *atom_holders;        /* [max_atoms] rows x lanes alive in the atom */
    uint32_t live_atoms, live_rows;/* charged atoms; charged exact rows */
    uint32_t *atom_used;           /* [max_atoms] metadata bytes an atom needs, where sizes vary */
    int64_t spare_bytes;           /* of live atoms: metadata bytes that they do not need */
    int64_t basis_bytes;           /* charged while the codec was made and fitted */
    int64_t shared_bytes;          /* likewise, of what was fitted on a calibration */
    bool fits_online, calibrated;  /* some codec of the chain fits nothing but the prompt; was fitted before */
    bool wants_queries, wants_lags;    /* some codec of the chain does, for its fit */
    float *block_rows;             /* [kv_bank_at_once * block][dim] scratch, of the code's rows */
    struct kv_decoded *decoded;    /* what of an atom block_rows holds: lines take its rows one by one */
    float *recorded_row;           /* [dim] scratch, when must_turn */
    float *key_row;                /* [key_dim] scratch, when values are columns of keys */
};

/* Where exact rows come from: the recording; another cache; the recording until a policy edits them. */
enum kv_row_origin { KV_ROWS_RECORDED, KV_ROWS_HANDED, KV_ROWS_EDITED };

/* Makes the bank of `stage` (NULL: the default codec) for setup's heads and layers; `sources` (one a
 * layer) live as long as the bank. */
int kv_bank_create(struct kv_bank *bank, const struct kv_setup *setup, const struct kv_source *sources,
                   const struct kv_stage *stage, enum kv_side side, enum kv_row_origin origin, struct kv_error *err);

/* Calls the codec's fit when it has one, with rows of each layer of the span: the prompt's, or
 * (calibrated) those of another text. Before the first encode. */
int kv_bank_fit(struct kv_bank *bank, const struct kv_fit_rows *from, bool calibrated,
                struct kv_error *err);

/* The prompt is encoded: what fills no block waits with the rows to come. */
void kv_bank_end_prompt(struct kv_bank *bank);

/* A new exact row, held by all lanes of the span (or by `lanes` of them: rows handed down). */
void kv_bank_append(struct kv_bank *bank, uint32_t token, uint32_t lanes);
/* Sets the counts of a bank that holds nothing yet to those of n rows, of which `prompt` came at once, all
 * held and encoded as far as is due: what appending and encoding them one by one comes to. Nothing is
 * charged to the pool. Atoms of variable size count with what one needs on the average. */
void kv_bank_count_rows(struct kv_bank *bank, uint32_t n, uint32_t prompt);
/* Likewise where only so many of the rows are at positions that the codec's tiers keep exact. */
void kv_bank_count_held(struct kv_bank *bank, uint32_t n, uint32_t prompt, uint32_t sinks);
/* Likewise so many atoms and exact rows, of a bank and (later) of its later one. */
void kv_bank_count_units(struct kv_bank *bank, const uint32_t atoms[2], const uint32_t rows[2]);
/* Bytes of the rows that are counted: atoms, and exact rows. */
int64_t kv_bank_row_bytes(const struct kv_bank *bank);
/* A row enters that another cache hands down and that lies in `handed` as it was read there: from now on
 * it has the precision of a stored one. */
void kv_bank_take(struct kv_bank *bank, uint32_t token);
/* A held row changes: it is a new exact row at its old position. KV_ROWS_EDITED only. */
void kv_bank_edit(struct kv_bank *bank, uint32_t token, const float *row);
/* One lane drops its share of a row. */
void kv_bank_release(struct kv_bank *bank, uint32_t token);

/* Blocks that are due for encoding now, and how many one call may encode, since their atoms lie one
 * behind the other; kv_bank_encode encodes the n_atoms oldest blocks of the queue, whose tokens
 * [n_atoms * block] it returns. */
uint32_t kv_bank_due(const struct kv_bank *bank);
uint32_t kv_bank_at_once(const struct kv_bank *bank);
void kv_bank_encode(struct kv_bank *bank, uint32_t n_atoms, uint32_t *tokens);

/* Rows of one lane and side as a reader sees them: out [n][dim of that side]. places[i] is what
 * `where` was for tokens[i] at the time that is asked for. */
void kv_bank_read(const struct kv_bank *bank, uint32_t lane, enum kv_side side, uint32_t n,
                  const uint32_t *tokens, const uint32_t *places, float *out);

/* A lane's share of the stored bytes that reading these of its rows touches; an atom counts once among
 * neighbours. reads [n]: 0 where a row is not. */
double kv_bank_touched(const struct kv_bank *bank, uint32_t n, const uint32_t *tokens, const uint8_t *reads);

/* Columns of a key or value of a lane as the codec's turned rows have them; 0 where they have none. */
uint32_t kv_bank_turned_columns(const struct kv_bank *bank, enum kv_side side);
/* Rows that are coded, turned: out [n][kv_bank_turned_columns]. */
void kv_bank_read_turned(const struct kv_bank *bank, enum kv_side side, uint32_t n, const uint32_t *places,
                         float *out);

/* True where an exact row is not the recorded one. */
static inline bool kv_bank_is_handed(const struct kv_bank *bank, uint32_t token)
{
    return bank->handed && (!bank->edited || bank->edited[token]);
}

size_t kv_bank_exact_row_bytes(const struct kv_bank *bank);

/* Recounts every count from where[] and holders[]; 0 when all agree with the counters. */
int kv_bank_audit(const struct kv_bank *bank, struct kv_error *err);

#endif
