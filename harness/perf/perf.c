/* Timing in turns, and what the times say; see perf.h. */
#include "harness/perf/perf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/perf/load.h"
#include "harness/perf/perf_row.h"
#include "harness/perf/script.h"

enum { LIMIT, OURS, YARDSTICK, SIDES };

/* A stretch of work that is timed as one: longer than a clock's grain and a context switch's dirt.
 */
static const double stretch_seconds = 2e-3, tiny_seconds = 2e-5;

static const double most_spread = 0.15, most_foreign = 0.10;

struct measured { /* one case while it is measured */
    const struct kv_perf_case *row;
    uint32_t calls[SIDES];    /* of run in one stretch */
    double *rates[SIDES];     /* [repeats] units a second */
    double *ratios, *against; /* [repeats] ours to limit, ours to yardstick */
    double wall, cpu;         /* seconds of our side, both clocks */
    struct kv_script script;
};

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const struct kv_perf_side *side_of(const struct kv_perf_case *row, int side)
{
    return side == LIMIT ? &row->limit : side == OURS ? &row->ours : &row->yardstick;
}

/* Units a second of one stretch. */
static double stretch(struct measured *measured, int index, double *seconds)
{
    const struct kv_perf_side *side = side_of(measured->row, index);
    const clockid_t clock =
        measured->row->clock == KV_PERF_WALL ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    const double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    const double begin = now(clock);
    double work = 0;
    for (uint32_t i = 0; i < measured->calls[index]; i++) work += side->run(side->context);
    *seconds = now(clock) - begin;
    if (index == OURS) {
        measured->wall += now(CLOCK_MONOTONIC) - wall;
        measured->cpu += now(CLOCK_THREAD_CPUTIME_ID) - cpu;
    }
    return *seconds > 0 ? work / *seconds : INFINITY;
}

/* The first call warms up; then calls double until they fill a stretch. */
static void calibrate(struct measured *measured, int index, double least)
{
    double seconds = 0;
    measured->calls[index] = 1;
    if (!side_of(measured->row, index)->run) return;
    stretch(measured, index, &seconds);
    while (stretch(measured, index, &seconds), seconds < least && measured->calls[index] < 1u << 24)
        measured->calls[index] *= 2;
}

static int measure_side(struct measured *measured, int index, uint32_t repeat, struct kv_error *err)
{
    double seconds;
    if (index == YARDSTICK && measured->script.pid) {
        const int status = kv_script_turn(&measured->script, &seconds, err);
        if (status == KV_OK) measured->rates[index][repeat] = measured->row->shape_work / seconds;
        return status;
    }
    if (side_of(measured->row, index)->run)
        measured->rates[index][repeat] = stretch(measured, index, &seconds);
    return KV_OK;
}

/* All sides once, in turning order; a side that is not there has rate NaN. */
static int repeat_once(struct measured *measured, uint32_t repeat, struct kv_error *err)
{
    for (int i = 0; i < SIDES; i++) measured->rates[i][repeat] = NAN;
    for (int i = 0; i < SIDES; i++) {
        const int side = repeat % 2 ? SIDES - 1 - i : i;
        const int status = measure_side(measured, side, repeat, err);
        if (status != KV_OK) return status;
    }
    const double share = measured->rates[OURS][repeat] / measured->rates[LIMIT][repeat];
    measured->ratios[repeat] = measured->row->kind == KV_PERF_AT_MOST ? 1 / share : share;
    measured->against[repeat] = measured->rates[OURS][repeat] / measured->rates[YARDSTICK][repeat];
    return KV_OK;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct kv_perf_range range(double *values, uint32_t n)
{
    if (isnan(values[0])) return (struct kv_perf_range){NAN, NAN, NAN, NAN, NAN};
    qsort(values, n, sizeof *values, by_size);
    const double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    const double p10 = values[(n - 1) / 10], p90 = values[n - 1 - (n - 1) / 10];
    return (struct kv_perf_range){median, p10, p90, values[0], values[n - 1]};
}

static bool meets(const struct kv_perf_case *row, const struct kv_perf_result *result)
{
    const double goal = row->yardstick_goal;
    if (row->kind == KV_PERF_AT_LEAST && row->goal > 0 && !(result->ratio.median >= row->goal))
        return false;
    if (row->kind == KV_PERF_AT_MOST && row->goal > 0 && !(result->ratio.median <= row->goal))
        return false;
    return !(goal > 0 && !isnan(result->against.median) && result->against.median < goal);
}

static void judge(struct kv_perf *perf, const struct kv_perf_case *row,
                  struct kv_perf_result *result)
{
    const struct kv_perf_range *by = isnan(result->ratio.median) ? &result->ours : &result->ratio;
    const bool goal = row->goal > 0 || row->yardstick_goal > 0;
    result->spread = (by->p90 - by->p10) / by->median;
    result->meets = goal && meets(row, result);
    if (!(result->spread <= most_spread))
        result->verdict = KV_PERF_SPREAD, perf->invalid++;
    else if (result->foreign > most_foreign)
        result->verdict = KV_PERF_LOAD, perf->invalid++;
    else if (!goal)
        result->verdict = KV_PERF_NONE, perf->without_goal++;
    else if (result->meets)
        result->verdict = KV_PERF_MET, perf->met++;
    else
        result->verdict = KV_PERF_MISSED, perf->missed++;
}

static int run_repeats(struct kv_perf *perf, struct measured *measured,
                       struct kv_perf_result *result, struct kv_error *err)
{
    const uint32_t n = perf->options.repeats;
    int status = KV_OK;
    for (int i = 0; i < SIDES; i++)
        calibrate(measured, i, perf->options.tiny ? tiny_seconds : stretch_seconds);
    measured->wall = measured->cpu = 0;
    const struct kv_load before = kv_load_read(measured->script.pid);
    for (uint32_t i = 0; status == KV_OK && i < n; i++) status = repeat_once(measured, i, err);
    const struct kv_load after = kv_load_read(measured->script.pid);
    if (status != KV_OK) return status;
    result->foreign = kv_load_foreign(&before, &after);
    result->limit = range(measured->rates[LIMIT], n);
    result->ours = range(measured->rates[OURS], n);
    result->yardstick = range(measured->rates[YARDSTICK], n);
    result->ratio = range(measured->ratios, n);
    result->against = range(measured->against, n);
    result->cpu_share = measured->wall > 0 ? measured->cpu / measured->wall : NAN;
    result->repeats = n;
    return KV_OK;
}

/* A script that skips leaves the case without a yardstick, and says so in its row. */
static int start_script(struct kv_perf *perf, struct measured *measured,
                        struct kv_perf_result *result, struct kv_error *err)
{
    const struct kv_perf_case *row = measured->row;
    if (!perf->options.vs || !row->shape) return KV_OK;
    int status = kv_script_start(&measured->script, perf->options.vs, perf->bench, row->shape, err);
    if (status == KV_OK) {
        double warm;
        status = kv_script_turn(&measured->script, &warm, err);
    }
    if (status == KV_EUNSUPPORTED) {
        snprintf(result->yardstick_name, sizeof result->yardstick_name, "%.120s", err->text);
        return KV_OK;
    }
    snprintf(result->yardstick_name, sizeof result->yardstick_name, "%s", measured->script.name);
    return status;
}

/* Judges and prints; asks for a reason where the goal is missed. */
static int finish(struct kv_perf *perf, const struct kv_perf_case *row, struct kv_perf_result *result,
                  struct kv_error *err)
{
    struct kv_perf_case explained = *row;
    char reason[KV_PERF_REASON] = "";
    judge(perf, row, result);
    if (row->median_ratio) *row->median_ratio = result->ratio.median;
    const bool missed = (row->goal > 0 || row->yardstick_goal > 0) && !result->meets;
    if (missed && !row->reason && row->explain) row->explain(row->ours.context, reason);
    if (*reason) explained.reason = reason;
    return kv_perf_row_print(perf, &explained, result, err);
}

int kv_perf_measure(struct kv_perf *perf, const struct kv_perf_case *row, struct kv_error *err)
{
    const uint32_t n = perf->options.repeats;
    struct measured measured = {.row = row};
    struct kv_perf_result result = {.foreign = NAN};
    double *all = malloc((SIDES + 2) * (size_t)n * sizeof *all);
    if (!all) return kv_fail(err, KV_EMEMORY, "perf: out of memory for %u repeats", n);
    for (int i = 0; i < SIDES; i++) measured.rates[i] = all + (size_t)i * n;
    measured.ratios = all + SIDES * (size_t)n, measured.against = all + (SIDES + 1) * (size_t)n;
    if (row->yardstick.run)
        snprintf(result.yardstick_name, sizeof result.yardstick_name, "%s", row->yardstick.name);
    int status = start_script(perf, &measured, &result, err);
    if (status == KV_OK) status = run_repeats(perf, &measured, &result, err);
    kv_script_stop(&measured.script);
    free(all);
    if (status != KV_OK) return status;
    return finish(perf, row, &result, err);
}

int kv_perf_compare(struct kv_perf *perf, const struct kv_perf_case *row, double *limits,
                    double *ours, uint32_t n, const struct kv_load *before, struct kv_error *err)
{
    struct kv_perf_result result = {.foreign = NAN, .cpu_share = NAN, .repeats = n};
    const struct kv_load after = kv_load_read(0);
    double *ratios = malloc(n * sizeof *ratios), none = NAN;
    if (!ratios) return kv_fail(err, KV_EMEMORY, "perf: out of memory for %u repeats", n);
    for (uint32_t i = 0; i < n; i++) ratios[i] = ours[i] / limits[i];
    result.foreign = kv_load_foreign(before, &after);
    result.limit = range(limits, n);
    result.ours = range(ours, n);
    result.ratio = range(ratios, n);
    result.yardstick = result.against = range(&none, 1);
    free(ratios);
    return finish(perf, row, &result, err);
}

double kv_perf_best(kv_perf_work *run, void *context)
{
    double best = 0;
    for (int i = 0; i < 7; i++) {
        const double begin = now(CLOCK_THREAD_CPUTIME_ID);
        double work = 0, seconds;
        do {
            work += run(context);
            seconds = now(CLOCK_THREAD_CPUTIME_ID) - begin;
        } while (seconds < 0.01);
        if (work / seconds > best) best = work / seconds;
    }
    return best;
}

struct kv_perf_sizes kv_perf_sizes(const struct kv_perf *perf, const struct kv_perf_sizes *given,
                                   const uint32_t *own, uint32_t n, uint32_t tiny)
{
    struct kv_perf_sizes sizes = *given;
    if (!sizes.n)
        for (; sizes.n < n && sizes.n < KV_PERF_SHAPES; sizes.n++) sizes.at[sizes.n] = own[sizes.n];
    if (perf->options.tiny && !given->n) {
        sizes.n = 1;
        if (sizes.at[0] > tiny) sizes.at[0] = tiny;
    }
    return sizes;
}
