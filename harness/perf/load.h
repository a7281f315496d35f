/* How much of the CPUs other processes take, from /proc/stat and our own times. */
#ifndef KVBENCH_HARNESS_PERF_LOAD_H
#define KVBENCH_HARNESS_PERF_LOAD_H

struct kv_load {
    double busy, own, wall;
}; /* seconds since some beginning; busy over all CPUs */

/* A reading; child: pid of a process of ours that runs beside, or 0. busy is NaN where the system
 * has no /proc/stat. */
struct kv_load kv_load_read(int child);

/* Share of all CPUs' time between two readings that went to others: 0 .. 1; NaN when unknown or
 * when the stretch is shorter than the clock ticks in which the system counts. */
double kv_load_foreign(const struct kv_load *before, const struct kv_load *after);

#endif
