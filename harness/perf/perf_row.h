/* One measured row: what came out, and its two forms. */
#ifndef KVBENCH_HARNESS_PERF_PERF_ROW_H
#define KVBENCH_HARNESS_PERF_PERF_ROW_H

#include "harness/perf/perf.h"
#include "harness/perf/turns.h"

enum kv_perf_verdict { KV_PERF_MET, KV_PERF_MISSED, KV_PERF_NONE, KV_PERF_SPREAD, KV_PERF_LOAD };

struct kv_perf_result {
    struct kv_perf_range figure[KV_PERF_FIGURES];
    double spread, pair_spread;  /* of turns; of single pairs */
    double foreign, cpu_share;   /* cpu_share: of the wall time of our side */
    double beside;               /* share of looks at which the core's other thread was at work */
    struct kv_perf_part at_work, asleep; /* pairs beside it, and without it */
    bool meets_asleep;           /* whether the latter meet the goal, where it is one of the ratio */
    uint32_t turns, pairs;       /* pairs: in all turns together */
    char reason[KV_PERF_REASON]; /* why the goal is missed */
    bool meets;
    enum kv_perf_verdict verdict;
    char yardstick_name[160];
};

void kv_perf_heading(const struct kv_perf *perf);
/* A line on stdout, or an object among perf->rows. */
int kv_perf_row_print(struct kv_perf *perf, const struct kv_perf_case *row,
                      const struct kv_perf_result *result, struct kv_error *err);

#endif
