/* Named parameters of methods: a table describes the fields of a config struct; one parser fills it.
 *
 * Values are written `key=value`; numbers take the suffixes k (1000) and Ki (1024); a share is `0.2`
 * or `20%`, and where what is stored can be said `256KiB` is bytes of a layer, `2.5b` bits per element. Errors name the parameter, the value and the range, or the nearest known name. */
#ifndef KVBENCH_BASE_PARAMS_H
#define KVBENCH_BASE_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"

enum kv_param_type {
    KV_PARAM_U32,      /* uint32_t field */
    KV_PARAM_REAL,     /* double field */
    KV_PARAM_CHOICE,   /* uint32_t field: index into choices */
    KV_PARAM_BUDGET,   /* struct kv_budget field: tokens or a share; with KV_PARAM_STORED bytes or bits */
    KV_PARAM_LIST      /* struct kv_list field: whole numbers joined by "-"; initially none, then not printed */
};

/* Added to a type: the parameter came after rows were published, so it is printed only where it is not
 * initial, and old rows keep their name. */
enum { KV_PARAM_LATER = 16 };
/* Added to KV_PARAM_BUDGET: what is held may be said in bytes or bits, too (methods/cache/byte_law.h). */
enum { KV_PARAM_STORED = 32 };
/* Added to KV_PARAM_U32: even numbers are refused. */
enum { KV_PARAM_ODD = 64 };

/* One of the four is set. share: of the prompt, rounded down. bytes: of one layer, all its heads, at the
 * end of a replay; bits: the same, per element of K and V of all tokens. */
struct kv_budget { uint32_t tokens; double share, bytes, bits; };

/* True when the rows that a budget stands for hang on how they are stored. */
static inline bool kv_budget_is_stored(struct kv_budget budget) { return budget.bytes > 0.0 || budget.bits > 0.0; }

enum { KV_LIST_MAX = 256, KV_PARAM_TEXT = 6 * KV_LIST_MAX };
struct kv_list { uint32_t n; uint16_t at[KV_LIST_MAX]; };

struct kv_param {
    const char *name;
    uint32_t type;              /* enum kv_param_type */
    size_t offset;              /* of the field in the config struct */
    double initial, min, max;   /* CHOICE: initial is the index; min and max unused. BUDGET: tokens. LIST: of
                                 * each number */
    const char *choices;        /* "mean|max": CHOICE only */
    const char *meaning;        /* one line for `list NAME` */
};
/* A table ends with a NULL name. */

static inline enum kv_param_type kv_param_kind(const struct kv_param *param)
{
    return (enum kv_param_type)(param->type & (KV_PARAM_LATER - 1));
}

/* Tokens that a budget stands for with this prompt; 0 when it is said in bytes or bits. */
uint32_t kv_budget_tokens(struct kv_budget budget, uint32_t prompt);

/* The spelling that is accepted back: 64, 0.2, 100%, 256KiB, 2.5b. */
void kv_budget_print(char out[64], const struct kv_budget *budget);

/* Fills every field of config with its initial value. */
void kv_params_defaults(const struct kv_param *params, void *config);

/* Sets one; KV_EUSAGE with `who` (the method's name) in the text. */
int kv_params_set(const struct kv_param *params, void *config, const char *who, const char *key,
                  const char *value, struct kv_error *err);

/* Appends ":key=value" for every parameter (of KV_PARAM_LATER: if not initial), in table order, to text (capacity bytes in all);
 * the spelling is accepted back by kv_params_set. Returns the length that the whole would need. */
size_t kv_params_print(const struct kv_param *params, const void *config, char *text,
                       size_t capacity);

/* What a refusal of a word ends with: "; did you mean NAME?", the name in the NULL-terminated list that
 * is nearest to it (edit distance); or nothing when none is within half its length. */
struct kv_hint { char text[128]; };
struct kv_hint kv_hint(const char *word, const char *const *names);

#endif
