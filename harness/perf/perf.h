/* Measuring side by side: a limit of the machine, our code and sometimes a yardstick take turns in
 * one process, so that a clock that drifts or a neighbour that wakes up meets all of them.
 *
 * A bench (benches.h) prepares data and measures cases; a case is one printed row. Each side of a
 * case does some work and says how much, in the case's unit. A pair is a stretch of at least 2 ms
 * of ours, and as long as one call of the limit or of a script, beside one of the limit of at least an eighth of
 * that, half of it before and half after (or whole, in turning order, where it is one call); its ratio is taken inside it. A turn is a run
 * of pairs, 30 ms of them or one, its figures are the medians of its pairs (turns.h); printed are
 * medians over the turns. While (p90 - p10) / median of the turns' ratios exceeds 15 % and the case
 * took less than 6 s, as many pairs again are taken and turns become twice as long: nothing that
 * was measured is left out. A row that stays above 15 %, or beside which other processes took more
 * than 10 % of the CPUs, is invalid: its numbers stand there, its verdict does not.
 *
 * Around every stretch a look says whether the core's other thread is at work (sibling.h): of all cores where a row
 * counts wall time. Such pairs count like others; a reason sets them apart from those without it. */
#ifndef KVBENCH_HARNESS_PERF_PERF_H
#define KVBENCH_HARNESS_PERF_PERF_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"
#include "harness/perf/sibling.h"
#include "methods/kernels/kernels.h"

enum { KV_PERF_SHAPES = 16 };

struct kv_perf_sizes {
    uint32_t n, at[KV_PERF_SHAPES];
}; /* n 0: the bench's own */

struct kv_perf_options {
    const char *isa;           /* kernel set, as in `run` */
    const char *vs;            /* a script that is the yardstick (script.h), or NULL */
    const char *method;        /* specs, "all", or NULL: the bench's own */
    const char *file;          /* a trace or result that a bench reads, or NULL */
    uint32_t repeats, threads; /* at least 1; threads 0: what the bench says */
    struct kv_perf_sizes tokens, dims, rows, threads_list;
    bool json;
    bool tiny; /* sizes and times for a test: numbers mean nothing */
};

struct kv_perf {
    struct kv_perf_options options;
    struct kv_kernels kernels; /* of options.isa */
    struct kv_sibling sibling; /* window 0: nobody looks */
    const char *bench;         /* name of the bench that runs */
    cJSON *rows;               /* with --json */
    unsigned met, missed, invalid, without_goal;
};

/* Does some work and returns how much, in units of the case. Called again and again until a stretch
 * is long enough to be timed. */
typedef double kv_perf_work(void *context);

struct kv_perf_side {
    const char *name; /* "fma peak", "f32 cache"; NULL run: no such side */
    kv_perf_work *run;
    void *context;
};

enum kv_perf_clock {
    KV_PERF_THREAD, /* CPU time of the calling thread: preemption is not in it */
    KV_PERF_WALL    /* for work that waits or has several threads */
};

enum kv_perf_goal {
    KV_PERF_NO_GOAL,  /* ratio as in AT_LEAST */
    KV_PERF_AT_LEAST, /* ratio = our rate / the limit's rate */
    KV_PERF_AT_MOST   /* ratio = our time for a unit / the limit's time for a unit */
};

enum { KV_PERF_REASON = 1200 };

struct kv_perf_seen {
    double limit, ours, yardstick, ratio, against; /* medians; NaN: no such */
};

/* Measures why this machine, or the work itself, keeps a goal out of reach: in the run whose row
 * missed it. Every case with a goal has one, and it always finds words. */
typedef void kv_perf_explain(void *context, const struct kv_perf_seen *seen,
                             char reason[KV_PERF_REASON]);

/* One look at quantities that are no rates of work (memory, shares of a run), in units of 1; ratio
 * = ours / limit. */
typedef int kv_perf_sample(void *context, double *limit, double *ours, struct kv_error *err);

struct kv_perf_case {
    const char *name; /* shape: "T=4096 d=128" */
    const char *unit; /* of the printed rates: "GFLOP/s" */
    double unit_size; /* work in one printed unit: 1e9 */
    struct kv_perf_side limit, ours, yardstick;
    kv_perf_sample *sample; /* instead of their runs; with ours' context */
    enum kv_perf_clock clock;
    enum kv_perf_goal kind;
    double goal;              /* of the ratio; 0 = none, for cost without a goal */
    double yardstick_goal;    /* our rate / the yardstick's at least; 0 = none */
    const char *best;         /* part of a yardstick's name: where it misses `goal` itself, which is a share of
                               * the limit, being as fast as it is the goal; or NULL */
    const char *shape;        /* what a --vs script is told: "tokens=4096 dim=128"; or NULL */
    double shape_work;        /* units that the script does a turn */
    kv_perf_explain *explain; /* of a missed goal; with ours' context */
    uint32_t most_turns;      /* where one takes seconds; 0: as many as asked for */
    double *median_ratio;     /* receives it; or NULL */
};

/* Measures and prints one row. A --vs script takes the yardstick's place where the case has a
 * shape. A case that has a goal and no explanation is KV_EUSAGE: no goal is missed without a
 * reason. */
int kv_perf_measure(struct kv_perf *perf, const struct kv_perf_case *row, struct kv_error *err);

/* Best rate of some 5 ms stretches of one thread, in units a second: for explanations. */
double kv_perf_best(kv_perf_work *run, void *context);

/* Median rate of some stretches of 0.2 ms, each right behind 20 ms of `before`: vectors that draw much
 * current leave a slower clock for some milliseconds. */
double kv_perf_median_behind(const struct kv_perf_side *before, kv_perf_work *run, void *context);

/* A row that could not be measured, with the reason. */
int kv_perf_skip(struct kv_perf *perf, const char *name, const char *reason, struct kv_error *err);

/* sizes when given, else the n own ones; tiny keeps the first and at most `tiny`. */
struct kv_perf_sizes kv_perf_sizes(const struct kv_perf *perf, const struct kv_perf_sizes *given,
                                   const uint32_t *own, uint32_t n, uint32_t tiny);

/* The limits. Contexts: a kv_kernels; a kv_perf_buffer. */
kv_perf_work kv_perf_peak;           /* floating-point operations of independent multiply-adds */
kv_perf_work kv_perf_issuing_peak;   /* the same among instructions that do nothing */
kv_perf_work kv_perf_read;   /* bytes read in order */
/* Steps of 64 floating-point operations: a cycle where there are two 512-bit multiply-add units, as
 * many cycles as vectors are narrower elsewhere. Goals that are told in such cycles hold on every
 * core, and beside a neighbour that takes a share of the units. Context: a kv_kernels. */
kv_perf_work kv_perf_wide_steps;

struct kv_perf_buffer {
    const float *data;
    size_t bytes; /* whole floats */
    float (*max)(const float *x, size_t n); /* of the strongest set: reads by its widest loads */
    float most;
};

struct kv_perf_buffer kv_perf_buffer_of(const void *data, size_t bytes);

/* Normally distributed floats, the same at every call with the same seed; aligned to 64 bytes;
 * free(). NULL without memory. */
float *kv_perf_normals(size_t n, uint32_t seed);

#endif
