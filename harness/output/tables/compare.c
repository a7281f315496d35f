/* What may move between two results, and how far; see compare.h. */
#include "harness/output/tables/compare.h"

#include <math.h>
#include <string.h>

/* Where the numbers come from. Rows are a pure function of (trace, spec, seed, isa), so on one
 * isa only another compiler's libm moves them, in the last of 9 printed digits: 1e-6 leaves room
 * for sums. Another isa reassociates f32 sums: answers move by 1e-6 of an output, but a policy
 * may break a near tie the other way, which moves a measure by about one token's share: 1e-3,
 * three times that for tails, which hang on one query, and for dkl, a square. Floors are the f32
 * rounding of masses and of signed sums that cancel. Bytes and counts are the same everywhere. */
#define EXACT 0, 0, 0, 0
#define ERROR 1e-6, 1e-3, 0, 1e-6
#define SQUARE 1e-6, 3e-3, 0, 1e-9
#define TAIL 1e-6, 3e-3, 0, 1e-6
#define MASS 1e-6, 1e-3, 1e-7, 1e-6

static const struct kv_tolerance tolerances[] = {
    {"trace", KV_RULE_KEY, EXACT},
    {"method", KV_RULE_KEY, EXACT},
    {"layer", KV_RULE_KEY, EXACT},
    {"seed", KV_RULE_KEY, EXACT},
    {"status", KV_RULE_KEY, EXACT},
    {"reason", KV_RULE_TALK, EXACT},
    {"isa", KV_RULE_TALK, EXACT},
    {"validity", KV_RULE_TALK, EXACT},           /* dkl against 0.1: judged by dkl */
    {"bits_per_element", KV_RULE_LOWER, EXACT},
    {"bits_key", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"bits_value", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"compression_ratio", KV_RULE_HIGHER, EXACT},
    {"resident_bytes", KV_RULE_LOWER, EXACT},
    {"payload_bytes", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"metadata_bytes", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"residual_bytes", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"basis_bytes", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"offloaded_bytes", KV_RULE_LOWER, EXACT},
    {"workspace_bytes", KV_RULE_LOWER, EXACT},
    {"read_bytes_per_step", KV_RULE_LOWER, EXACT},
    {"offloaded_read_bytes_per_step", KV_RULE_LOWER, EXACT},
    {"kept_tokens", KV_RULE_FOLLOWS, EXACT, "resident_bytes"},
    {"dkl", KV_RULE_LOWER, SQUARE},
    {"dkl_low", KV_RULE_FOLLOWS, SQUARE, "dkl"},
    {"dkl_high", KV_RULE_FOLLOWS, SQUARE, "dkl"},
    {"dkl_p99", KV_RULE_LOWER, SQUARE},
    {"dkl_max", KV_RULE_LOWER, SQUARE},
    {"dnll1", KV_RULE_NEAR_ZERO, 1e-6, 3e-3, 1e-8, 1e-5},
    {"ppl_est", KV_RULE_LOWER, 1e-6, 1e-4, 0, 0},
    {"output_error", KV_RULE_LOWER, ERROR},
    {"output_error_low", KV_RULE_FOLLOWS, ERROR, "output_error"},
    {"output_error_high", KV_RULE_FOLLOWS, ERROR, "output_error"},
    {"residual_error", KV_RULE_LOWER, SQUARE},
    {"wo_error", KV_RULE_LOWER, ERROR},
    {"attention_kl", KV_RULE_LOWER, MASS},
    {"mass_drift", KV_RULE_NEAR_ZERO, MASS},
    {"lost_mass", KV_RULE_LOWER, MASS},
    {"span_retention", KV_RULE_HIGHER, MASS},
    {"error_p50", KV_RULE_LOWER, ERROR},
    {"error_p95", KV_RULE_LOWER, TAIL},
    {"error_p99", KV_RULE_LOWER, TAIL},
    {"error_max", KV_RULE_LOWER, TAIL},
    {"key_error", KV_RULE_LOWER, ERROR},
    {"value_error", KV_RULE_LOWER, ERROR},
    {NULL},
};

struct kv_tolerance kv_tolerance_of(const struct kv_column *column)
{
    for (size_t i = 0; tolerances[i].name; i++)
        if (strcmp(tolerances[i].name, column->name) == 0) return tolerances[i];
    return (struct kv_tolerance){.name = column->name, .rule = KV_RULE_SAME};
}

double kv_row_number(const struct kv_row *row, const struct kv_column *column)
{
    const void *field = (const char *)row + column->offset;
    if (column->kind == KV_COLUMN_REAL) return *(const double *)field;
    const int64_t count = *(const int64_t *)field;
    return count == -1 ? NAN : (double)count;
}

static bool same_text(const char *left, const char *right)
{
    return strcmp(left ? left : "", right ? right : "") == 0;
}

static struct kv_change judge_text(const struct kv_tolerance *tolerance, const char *old,
                                   const char *new)
{
    struct kv_change change = {KV_UNMOVED, false, NAN};
    if (!same_text(old, new)) change.verdict = KV_CHANGED;
    change.fails = change.verdict == KV_CHANGED && tolerance->rule == KV_RULE_SAME;
    return change;
}

/* Positive: by how much new is better. */
static double gain(enum kv_rule rule, double old, double new)
{
    switch (rule) {
    case KV_RULE_LOWER: return old - new;
    case KV_RULE_HIGHER: return new - old;
    case KV_RULE_NEAR_ZERO: return fabs(old) - fabs(new);
    case KV_RULE_KEY:
    case KV_RULE_SAME:
    case KV_RULE_FOLLOWS:
    case KV_RULE_TALK: break;
    }
    return 0;
}

/* Counts have 2^53 of room in a double: a byte more or less is seen up to 8 PiB. */
static struct kv_change judge_number(const struct kv_tolerance *tolerance, bool same_isa,
                                     double old, double new)
{
    struct kv_change change = {KV_UNMOVED, false, NAN};
    if (isnan(old) && isnan(new)) return change;
    if (isnan(old) || isnan(new)) {               /* a measure appeared; or was lost, a failure */
        change.verdict = KV_CHANGED;
        change.fails = isnan(new) && tolerance->rule != KV_RULE_TALK;
        return change;
    }
    const double share = same_isa ? tolerance->same_isa : tolerance->other_isa;
    const double floor = same_isa ? tolerance->same_floor : tolerance->other_floor;
    if (old == new || fabs(new - old) <= fmax(floor, share * fmax(fabs(old), fabs(new))))
        return change;
    if (old != 0) change.share = (new - old) / fabs(old);
    const double better = gain(tolerance->rule, old, new);
    change.verdict = better > 0 ? KV_BETTER : better < 0 ? KV_WORSE : KV_CHANGED;
    change.fails = change.verdict != KV_BETTER && tolerance->rule != KV_RULE_TALK;
    return change;
}

struct kv_change kv_judge(const struct kv_tolerance *tolerance, const struct kv_row *old,
                          const struct kv_row *new)
{
    const struct kv_column *column = kv_column_find(tolerance->name);
    if (tolerance->rule == KV_RULE_KEY) return (struct kv_change){KV_UNMOVED, false, NAN};
    if (column->kind == KV_COLUMN_TEXT)
        return judge_text(tolerance, *(char *const *)((const char *)old + column->offset),
                          *(char *const *)((const char *)new + column->offset));
    struct kv_change change = judge_number(tolerance, same_text(old->isa, new->isa),
                                           kv_row_number(old, column), kv_row_number(new, column));
    if (change.fails && tolerance->rule == KV_RULE_FOLLOWS) {
        const struct kv_tolerance leader = kv_tolerance_of(kv_column_find(tolerance->leader));
        change.fails = kv_judge(&leader, old, new).verdict != KV_BETTER;
    }
    return change;
}
