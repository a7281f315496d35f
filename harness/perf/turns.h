/* What was seen of one case: pairs of a short stretch of the limit and one of ours, in the order of
 * time, and turns, which are equal runs of neighbouring pairs. A turn's figure is the median of its
 * pairs, what is printed the median of the turns, its spread (p90 - p10) / median over the turns.
 * More pairs make longer turns and never more of them: every pair that was taken counts. */
#ifndef KVBENCH_HARNESS_PERF_TURNS_H
#define KVBENCH_HARNESS_PERF_TURNS_H

#include <stdbool.h>
#include <stdint.h>

enum kv_perf_figure {
    KV_PERF_LIMIT,
    KV_PERF_OURS,
    KV_PERF_YARDSTICK,
    KV_PERF_RATIO,   /* ours to limit, as the case's goal counts it */
    KV_PERF_AGAINST, /* ours to yardstick */
    KV_PERF_FIGURES
};

struct kv_pair {
    double figure[KV_PERF_FIGURES]; /* NaN: no such */
    double beside;                  /* share of looks at which the core's other thread was at work (sibling.h) */
};

struct kv_perf_range {
    double median, p10, p90, least, most;
}; /* NaN: no such */

struct kv_turns {
    struct kv_pair *pairs;
    uint32_t n, capacity; /* pairs */
    uint32_t turns;       /* n is a multiple of it when ranges are asked for */
};

/* Room for that many pairs, those that are there kept; false: out of memory. */
bool kv_turns_reserve(struct kv_turns *turns, uint32_t pairs);
void kv_turns_free(struct kv_turns *turns);

/* Sorts; n > 0. A side is there in all pairs or in none: NaN where the first is. */
struct kv_perf_range kv_perf_range_of(double *values, uint32_t n);

/* Over the turns; and over single pairs. */
struct kv_perf_range kv_turns_range(const struct kv_turns *turns, enum kv_perf_figure figure);
struct kv_perf_range kv_turns_pair_range(const struct kv_turns *turns, enum kv_perf_figure figure);

struct kv_perf_part {
    uint32_t pairs;
    double ratio; /* their median; NaN: none */
};

/* The pairs all of whose looks found the other thread at work, or none of them did. */
struct kv_perf_part kv_turns_part(const struct kv_turns *turns, bool at_work);

/* (p90 - p10) / median. */
double kv_perf_spread(const struct kv_perf_range *range);

#endif
