/* Two results, row by row: which columns must be equal, which may move how far, and which way is
 * better. The judgement of the compare subcommand, without its options and its printing. */
#ifndef KVBENCH_HARNESS_COMPARE_H
#define KVBENCH_HARNESS_COMPARE_H

#include <stdbool.h>

#include "harness/run/journal/results.h"
#include "harness/output/row.h"

enum kv_rule {
    KV_RULE_KEY,              /* finds the row, or is judged elsewhere */
    KV_RULE_SAME,             /* any change is a failure */
    KV_RULE_LOWER,            /* lower is better */
    KV_RULE_HIGHER,
    KV_RULE_NEAR_ZERO,        /* signed: smaller magnitude is better */
    KV_RULE_FOLLOWS,          /* part of another column: may change when that one got better */
    KV_RULE_TALK              /* said, never a failure */
};

/* A change counts when it is larger than both the share of the larger value and the floor. */
struct kv_tolerance {
    const char *name;         /* of the column */
    enum kv_rule rule;
    double same_isa, other_isa;        /* shares */
    double same_floor, other_floor;    /* absolute */
    const char *leader;       /* KV_RULE_FOLLOWS */
};

/* What holds for a column; one that the table does not know must stay the same. */
struct kv_tolerance kv_tolerance_of(const struct kv_column *column);

enum kv_verdict { KV_UNMOVED, KV_BETTER, KV_WORSE, KV_CHANGED };

struct kv_change {
    enum kv_verdict verdict;
    bool fails;
    double share;             /* (new - old) / |old|; NaN where that says nothing */
};

/* The field as a number: NaN when empty. COUNT and REAL columns only. */
double kv_row_number(const struct kv_row *row, const struct kv_column *column);

/* Judges one column of a matched pair of rows. */
struct kv_change kv_judge(const struct kv_tolerance *tolerance, const struct kv_row *old,
                          const struct kv_row *new);

#endif
