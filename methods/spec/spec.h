/* Method specs, parsed (cli.md section 3): `h2o:budget=64+int:bits=4`, sweeps and lists.
 *
 *     spec  := stage ("+" stage)*       stage := name (":" key "=" value)*
 *     sweep := key "=" value ("/" value)+   list := spec ("," spec)*   `@file` reads a list
 *
 * A stage is a policy or a codec; policies stand before codecs, codecs outer to inner; `rest` begins a
 * second cache that takes what the first one drops. Preset names (`kivi4`) are data: name and the
 * spec they stand for. `layers=0-3_8` compresses those layers of the model only ("_", because "," and
 * "/" part specs); `exact_layers=first2_last1` leaves the first two and the last of the model's layers
 * exact; `query=agnostic` compresses before the trace's question is known, query=aware (the default) behind
 * it. `layout=query-heads` gives every query head a KV head of its own, a copy of the recorded one that its
 * group shares, as codes have it that repeat keys and values before they score them: policies choose for each
 * query head alone, and every copy is charged (harness/replay/layout.h). `k.` and `v.` before a codec's parameter speak of one side and win over the bare
 * name. `k.` or `v.` before a stage's name makes it a stage of that side alone, and the sides then have
 * a row of codecs each (`k.int:bits=2+v.kivi:bits=2`); a side without one stays exact. `where=host` of a
 * codec: its rows (of both sides, or k.where=host) lie in host memory; bits and ratios leave them out,
 * and they are counted apart. A value with a point or a percent sign is a share of the prompt: budget=1.0 keeps all. */
#ifndef KVBENCH_METHODS_SPEC_H
#define KVBENCH_METHODS_SPEC_H

#include "methods/answer.h"
#include "methods/codec.h"
#include "methods/policy.h"

struct kv_modifiers {             /* of a codec stage, known to the cache only */
    int32_t sinks, recent;        /* rows kept exact; -1 = the codec's own */
    uint32_t span;                /* enum kv_span bits: span=heads, span=joint (sides), span=all */
    bool rotate, center;          /* rotate=hadamard, center=mean: wrapped around the codec */
    double outliers;              /* share of a row's values kept in 16 bits (0: none), around the codec */
    bool unrotated, rotated;      /* keys=unrotated; keys=rotated: though the codec would turn them back */
    uint32_t exact_side;          /* side=keys compresses keys only: values stay exact (2); side=values: 1 */
    bool host;                    /* where=host: rows lie in host memory (KV_OFFLOADED), bases do not */
};

struct kv_stage {
    const struct kv_policy *policy;   /* one of the three is set */
    const struct kv_codec *codec;
    const struct kv_answer *answer;   /* stands alone: no rows are kept */
    void *config[2];                  /* of KV_KEYS and KV_VALUES (k. and v. prefixes); a policy's: [0] */
    struct kv_modifiers modifiers[2]; /* likewise */
    struct kv_trim trim;              /* policy with a score: defaults overridden by its parameters */
    struct kv_stage *rest;            /* codec: the next inner stage, or NULL */
};

enum { KV_MAX_POLICIES = 4, KV_MAX_CACHES = 2 };

struct kv_cache_spec {
    uint32_t n_policies;
    struct kv_stage *policies[KV_MAX_POLICIES];   /* in the order their hooks run */
    struct kv_stage *codec;                       /* outermost, or NULL: the default (f16) */
    struct kv_stage *values;                      /* sided: the values' own; codec is the keys' */
    bool sided;
    struct kv_stage *answer;                      /* answers without rows, and nothing beside it; or NULL */
};

/* The outermost codec of a side, or NULL. */
static inline struct kv_stage *kv_chain(const struct kv_cache_spec *cache, enum kv_side side)
{
    return cache->sided && side == KV_VALUES ? cache->values : cache->codec;
}

/* The chains to walk, each once: side = KV_KEYS, then KV_VALUES where the values have their own. */
static inline int kv_n_chains(const struct kv_cache_spec *cache) { return cache->sided ? 2 : 1; }

/* Whether what a policy chooses, or the chain of this side stores, depends on the seed. */
bool kv_policy_is_random(const struct kv_stage *stage);
bool kv_chain_is_random(const struct kv_cache_spec *cache, enum kv_side side);

struct kv_spec {
    char *text;                   /* canonical: defaults filled in, parameters as declared */
    char *asked;                  /* as typed */
    const char *family;           /* "exact", "quantizer", "evictor", "sparse reader", "low rank", "hybrid", "state" */
    uint32_t n_caches;            /* 2 when `rest` was given */
    struct kv_cache_spec caches[KV_MAX_CACHES];
    uint64_t layers[16];          /* layers= as a bitmap of model layers; all ones = all. Others stay exact */
    uint32_t exact_first, exact_last;   /* exact_layers=: so many of the model's layers */
    bool query_said, query_agnostic;          /* query=agnostic: the question at the prompt's end is not known when it is kept */
    bool layout_said, query_heads;            /* layout=query-heads */
    bool oracle, random;          /* some stage is an oracle; depends on the seed */
    void *memory;
};

struct kv_spec_list { uint32_t n; struct kv_spec *specs; };

/* Parses a list (with sweeps, presets, @files). Unknown names give the nearest known one; two policies
 * with select, a policy after a codec etc. are KV_EUSAGE with the rule. The canonical text of each
 * spec parses to the same text again. */
int kv_spec_parse(struct kv_spec_list *out, const char *list, struct kv_error *err);
/* The method that a stage's text begins with ("v.int:bits=2+..."), at its defaults. */
int kv_spec_parse_name(struct kv_spec_list *out, const char *stage, struct kv_error *err);
void kv_spec_free(struct kv_spec_list *list);

/* True when layers= or exact_layers= leave this layer of the model exact. */
bool kv_spec_is_exact_layer(const struct kv_spec *spec, uint32_t layer, uint32_t model_layers);

/* Appends for every spec with a codec its keys-only and values-only halves (--split). */
int kv_spec_split(struct kv_spec_list *list, struct kv_error *err);

/* True when the keys and the values of a codec's stage have the same parameters and modifiers. */
bool kv_stage_same_sides(const struct kv_stage *stage);

/* The registry: every method, ended by NULL; built from the name lists in methods/meson.build. */
extern const struct kv_codec *const kv_codecs[];
extern const struct kv_policy *const kv_policies[];

struct kv_preset { const char *name, *spec, *meaning; };
extern const struct kv_preset kv_presets[];   /* ended by a NULL name */

const struct kv_codec *kv_codec_find(const char *name);
const struct kv_policy *kv_policy_find(const char *name);
const struct kv_preset *kv_preset_find(const char *name);

#endif
