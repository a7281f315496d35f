/* Command lines as tables: a row an option, with the field that its value goes to and what --help
 * says.
 *
 * `--name value` and `--name=value` are the same. A word that begins with no `-`, and `-` itself,
 * belongs to the row whose name is "". --help and -h print the table. Every refusal is KV_EUSAGE
 * and of one of two forms:
 *
 *     WHO: --name: expected WHAT, found VALUE
 *     WHO: unknown option --nam; did you mean --name? */
#ifndef KVBENCH_HARNESS_COMMANDS_ARGUMENTS_H
#define KVBENCH_HARNESS_COMMANDS_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"

/* And the field of the target. */
enum kv_argument_kind {
    KV_SWITCH, /* bool: takes no value */
    KV_TEXT,   /* const char *, the last one given; a second word is refused. least 1: must be given */
    KV_TEXTS,  /* struct kv_texts, from least to most of them */
    KV_JOINED, /* char *, owned by the target: lists given more than once are one, with commas */
    KV_WHOLE,  /* uint32_t from least to most; 0 for `all` where value is all|N */
    KV_REAL,   /* double from least to most */
    KV_SEED,   /* uint64_t */
    KV_LIST,   /* struct kv_numbers, or another at[room]: numbers from least to most and ranges, as
                * given */
    KV_TAKEN   /* what `take` makes of it */
};

enum { KV_MOST_TEXTS = 256 };

enum { KV_MOST_NUMBERS = 1000 }; /* as many layers as have three digits */

struct kv_numbers {
    uint32_t n, at[KV_MOST_NUMBERS];
};
struct kv_texts {
    uint32_t n;
    const char *at[KV_MOST_TEXTS];
};

/* One argument as it was given, with what is to be filled. */
struct kv_given {
    const char *who;
    void *target;
    const struct kv_argument *argument;
    const char *value; /* no empty text */
};

struct kv_argument {
    const char *name;
    enum kv_argument_kind kind;
    size_t offset;
    const char *value, *meaning; /* "N"; NULL for a switch. meaning NULL: the usage says it */
    double least, most;
    uint32_t room;
    int (*take)(const struct kv_given *given, struct kv_error *err);
};
/* A table ends with a NULL name. */

struct kv_arguments {
    const char *who;    /* "trace slice" */
    const char *usage;  /* what --help prints above the table */
    void (*help)(void); /* or all that it prints */
    const struct kv_argument *table;
};

enum { KV_HELPED = 1 }; /* no failure: help was printed, and nothing is left to do */

/* Fills target from the n words behind the command's name. KV_OK, KV_HELPED or a failure. */
int kv_arguments_read(const struct kv_arguments *arguments, void *target, int n, char **words,
                      struct kv_error *err);

void kv_arguments_print(const struct kv_argument *table);

/* KV_EUSAGE: "WHO: --name: expected WHAT, found VALUE". */
int kv_given_refuse(const struct kv_given *given, const char *what, struct kv_error *err);

#endif
