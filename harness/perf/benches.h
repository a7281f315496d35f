/* The benches, one file each (bench_NAME.c): they prepare data and call kv_perf_measure for each
 * row. */
#ifndef KVBENCH_HARNESS_PERF_BENCHES_H
#define KVBENCH_HARNESS_PERF_BENCHES_H

#include "harness/perf/perf.h"

typedef int kv_perf_bench(struct kv_perf *perf, struct kv_error *err);

kv_perf_bench kv_perf_attn;
kv_perf_bench kv_perf_attend;
kv_perf_bench kv_perf_encode;
kv_perf_bench kv_perf_fht;
kv_perf_bench kv_perf_decode;
kv_perf_bench kv_perf_evict;
kv_perf_bench kv_perf_io;
kv_perf_bench kv_perf_scale;
kv_perf_bench kv_perf_e2e;

#endif
