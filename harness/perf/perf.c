/* Timing in turns, and what the times say; see perf.h. */
#include "harness/perf/perf.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/perf/load.h"
#include "harness/perf/perf_row.h"
#include "harness/perf/script.h"

enum { SIDES = 3 }; /* KV_PERF_LIMIT, _OURS, _YARDSTICK */

/* A stretch of work that is timed as one: longer than a clock's grain and a context switch's dirt.
 */
static const double stretch_seconds = 2e-3, tiny_seconds = 2e-5;
static const double turn_seconds = 0.03; /* of pairs in a turn, or one pair */
static const double case_seconds = 12.0; /* no more pairs when they would take a case beyond it */
static const double limit_share = 0.125; /* of our stretch, that the limit's takes at least */

static const double most_spread = 0.15, most_foreign = 0.10;

struct measured { /* one case while it is measured */
    const struct kv_perf_case *row;
    uint32_t calls[SIDES]; /* of run in one stretch */
    double least;          /* seconds of a stretch */
    struct kv_turns turns;
    double wall, cpu; /* seconds of our side, both clocks */
    struct kv_sibling *sibling;
    int cores;        /* that are looked at */
    double looks, beside; /* of this pair; those that found the other thread at work */
    struct kv_script script;
};

struct stretch {
    double work, seconds;
};

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const struct kv_perf_side *side_of(const struct kv_perf_case *row, int side)
{
    return side == KV_PERF_LIMIT  ? &row->limit
           : side == KV_PERF_OURS ? &row->ours
                                  : &row->yardstick;
}

/* Share of cores whose other thread is at work now. */
static void look(struct measured *measured)
{
    measured->beside += kv_sibling_look(measured->sibling, measured->cores);
    measured->looks++;
}

static void add_stretch(struct measured *measured, int index, uint32_t calls, struct stretch *sum)
{
    const struct kv_perf_side *side = side_of(measured->row, index);
    const clockid_t clock =
        measured->row->clock == KV_PERF_WALL ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    look(measured);
    const double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    const double begin = now(clock);
    for (uint32_t i = 0; i < calls; i++) sum->work += side->run(side->context);
    sum->seconds += now(clock) - begin;
    if (index != KV_PERF_OURS) return;
    measured->wall += now(CLOCK_MONOTONIC) - wall;
    measured->cpu += now(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

/* The first call warms up; then calls double until they fill a stretch. Seconds of one. */
static double calibrate(struct measured *measured, int index, double least)
{
    struct stretch sum = {0};
    uint32_t *calls = &measured->calls[index];
    *calls = 1;
    if (!side_of(measured->row, index)->run) return 0;
    add_stretch(measured, index, 1, &sum);
    if (sum.seconds > 8 * least) return sum.seconds;
    for (*calls = 1;; *calls *= 2) {
        sum = (struct stretch){0};
        add_stretch(measured, index, *calls, &sum);
        if (sum.seconds >= least || *calls >= 1u << 24) return sum.seconds;
    }
}

static double rate(const struct stretch *sum)
{
    return sum->seconds > 0 ? sum->work / sum->seconds : INFINITY;
}

static void run_side(struct measured *measured, int index, double *to)
{
    struct stretch sum = {0};
    if (!side_of(measured->row, index)->run) return;
    add_stretch(measured, index, measured->calls[index], &sum);
    *to = rate(&sum);
}

/* Half of the limit's calls, ours, the other half. */
static void run_between(struct measured *measured, struct kv_pair *pair)
{
    const uint32_t calls = measured->calls[KV_PERF_LIMIT], half = calls / 2;
    struct stretch sum = {0};
    add_stretch(measured, KV_PERF_LIMIT, half, &sum);
    run_side(measured, KV_PERF_OURS, &pair->figure[KV_PERF_OURS]);
    add_stretch(measured, KV_PERF_LIMIT, calls - half, &sum);
    pair->figure[KV_PERF_LIMIT] = rate(&sum);
}

static void run_sides(struct measured *measured, struct kv_pair *pair, bool turned)
{
    if (measured->calls[KV_PERF_LIMIT] > 1 && measured->row->limit.run) {
        run_between(measured, pair);
        run_side(measured, KV_PERF_YARDSTICK, &pair->figure[KV_PERF_YARDSTICK]);
        return;
    }
    for (int i = 0; i < SIDES; i++) {
        const int side = turned ? SIDES - 1 - i : i;
        run_side(measured, side, &pair->figure[side]);
    }
}

static int run_script(struct measured *measured, struct kv_pair *pair, struct kv_error *err)
{
    double seconds;
    if (!measured->script.pid) return KV_OK;
    const int status = kv_script_turn(&measured->script, &seconds, err);
    if (status == KV_OK) pair->figure[KV_PERF_YARDSTICK] = measured->row->shape_work / seconds;
    return status;
}

/* One pair, and its ratios. */
static int take_pair(struct measured *measured, struct kv_error *err)
{
    const struct kv_perf_case *row = measured->row;
    struct kv_turns *turns = &measured->turns;
    struct kv_pair pair;
    double *figure = pair.figure;
    int status = KV_OK;
    for (int i = 0; i < KV_PERF_FIGURES; i++) figure[i] = NAN;
    measured->looks = measured->beside = 0;
    if (row->sample) {
        look(measured);
        status = row->sample(row->ours.context, &figure[KV_PERF_LIMIT], &figure[KV_PERF_OURS], err);
    } else {
        run_sides(measured, &pair, turns->n % 2);
    }
    if (status == KV_OK) status = run_script(measured, &pair, err);
    if (status != KV_OK) return status;
    look(measured);
    pair.beside = measured->beside / measured->looks;
    const double share = figure[KV_PERF_OURS] / figure[KV_PERF_LIMIT];
    figure[KV_PERF_RATIO] = row->kind == KV_PERF_AT_MOST && !row->sample ? 1 / share : share;
    figure[KV_PERF_AGAINST] = figure[KV_PERF_OURS] / figure[KV_PERF_YARDSTICK];
    turns->pairs[turns->n++] = pair;
    return KV_OK;
}

static int take_pairs(struct measured *measured, uint32_t end, struct kv_error *err)
{
    int status = KV_OK;
    if (!kv_turns_reserve(&measured->turns, end))
        return kv_fail(err, KV_EMEMORY, "perf: out of memory for %u pairs", end);
    while (status == KV_OK && measured->turns.n < end) status = take_pair(measured, err);
    return status;
}

/* What turns are made long by: processor time, of which others take none, where all of it is ours. */
static clockid_t turn_clock(const struct measured *measured)
{
    const struct kv_perf_case *row = measured->row;
    const bool ours = row->clock == KV_PERF_THREAD && !row->sample && !measured->script.pid;
    return ours ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
}

/* The first pair says how many a turn has. */
static int take_first(struct measured *measured, bool tiny, struct kv_error *err)
{
    struct kv_turns *turns = &measured->turns;
    const clockid_t clock = turn_clock(measured);
    const double begin = now(clock);
    const int status = take_pairs(measured, 1, err);
    const double pair = now(clock) - begin;
    const double wanted = tiny ? 1 : ceil(turn_seconds / pair);
    const uint32_t in_turn = wanted > 32 ? 32 : wanted > 1 ? (uint32_t)wanted : 1;
    return status == KV_OK ? take_pairs(measured, in_turn * turns->turns, err) : status;
}

static double spread_of(const struct kv_turns *turns)
{
    const struct kv_perf_range ratio = kv_turns_range(turns, KV_PERF_RATIO);
    const struct kv_perf_range ours = kv_turns_range(turns, KV_PERF_OURS);
    return kv_perf_spread(isnan(ratio.median) ? &ours : &ratio);
}

/* All turns; longer ones while they are too uneven and there is time. */
static int take_turns(struct measured *measured, bool tiny, struct kv_error *err)
{
    struct kv_turns *turns = &measured->turns;
    const double begin = now(CLOCK_MONOTONIC);
    int status = take_first(measured, tiny, err);
    while (status == KV_OK && !tiny && !(spread_of(turns) <= most_spread) &&
           2 * (now(CLOCK_MONOTONIC) - begin) < case_seconds)
        status = take_pairs(measured, 2 * turns->n, err);
    return status;
}

/* Seconds of the limit's call where that alone is more than a stretch, else 0. */
static double long_call(struct measured *measured, double least)
{
    const double seconds = calibrate(measured, KV_PERF_LIMIT, least);
    return measured->calls[KV_PERF_LIMIT] == 1 ? seconds : 0;
}

/* Stretches of ours and of the yardstick in this process. Ours is as long as a call of the limit, or
 * a turn of a script: a short one behind a long one would be nothing but what the caches lost in the
 * meantime, of which the long one has a small share. */
static void calibrate_all(struct measured *measured, double script)
{
    const double least = fmax(measured->least, script);
    const double ours = calibrate(measured, KV_PERF_OURS, fmax(least, long_call(measured, least)));
    calibrate(measured, KV_PERF_YARDSTICK, least);
    calibrate(measured, KV_PERF_LIMIT, fmax(least, limit_share * ours));
    measured->wall = measured->cpu = 0;
}

static void summarize(const struct measured *measured, struct kv_perf_result *result)
{
    const struct kv_turns *turns = &measured->turns;
    for (int f = 0; f < KV_PERF_FIGURES; f++)
        result->figure[f] = kv_turns_range(turns, (enum kv_perf_figure)f);
    const bool ratio = !isnan(result->figure[KV_PERF_RATIO].median);
    const struct kv_perf_range pairs =
        kv_turns_pair_range(turns, ratio ? KV_PERF_RATIO : KV_PERF_OURS);
    result->spread = spread_of(turns);
    result->pair_spread = kv_perf_spread(&pairs);
    result->cpu_share = measured->wall > 0 ? measured->cpu / measured->wall : NAN;
    result->turns = turns->turns, result->pairs = turns->n;
    result->at_work = kv_turns_part(turns, true), result->asleep = kv_turns_part(turns, false);
    for (uint32_t i = 0; i < turns->n; i++) result->beside += turns->pairs[i].beside / turns->n;
}

static int run_turns(struct kv_perf *perf, struct measured *measured, struct kv_perf_result *result,
                     struct kv_error *err)
{
    const struct kv_load before = kv_load_read(measured->script.pid);
    const int status = take_turns(measured, perf->options.tiny, err);
    const struct kv_load after = kv_load_read(measured->script.pid);
    result->foreign = kv_load_foreign(&before, &after);
    if (status == KV_OK) summarize(measured, result);
    return status;
}

/* -- without the core's other thread ------------------------------------------------------------ */

enum { QUIET_PAIRS = 5 };
static const double quiet_seconds = 2.0;                       /* that a row may look for them */
static const struct timespec quiet_pause = {.tv_nsec = 200000}; /* it sleeps for some milliseconds at a time */

/* Pairs behind the row's own, for its reason alone: as many as come while the other thread sleeps. */
static int seek_quiet(struct measured *measured, struct kv_perf_result *result, struct kv_error *err)
{
    const double end = now(CLOCK_MONOTONIC) + quiet_seconds;
    int status = KV_OK;
    while (status == KV_OK && result->asleep.pairs < QUIET_PAIRS && now(CLOCK_MONOTONIC) < end) {
        if (kv_sibling_look(measured->sibling, measured->cores) > 0) {
            nanosleep(&quiet_pause, NULL);
            continue;
        }
        status = take_pairs(measured, measured->turns.n + 1, err);
        result->asleep = kv_turns_part(&measured->turns, false);
    }
    return status;
}

/* A script that skips leaves the case without a yardstick, and says so in its row. */
static int start_script(struct kv_perf *perf, struct measured *measured, double *seconds,
                        struct kv_perf_result *result, struct kv_error *err)
{
    const struct kv_perf_case *row = measured->row;
    *seconds = 0;
    if (!perf->options.vs || !row->shape) return KV_OK;
    int status = kv_script_start(&measured->script, perf->options.vs, perf->bench, row->shape, err);
    if (status == KV_OK) status = kv_script_turn(&measured->script, seconds, err);
    if (status == KV_EUNSUPPORTED) {
        snprintf(result->yardstick_name, sizeof result->yardstick_name, "%.120s", err->text);
        return KV_OK;
    }
    snprintf(result->yardstick_name, sizeof result->yardstick_name, "%s", measured->script.name);
    return status;
}

/* -- what it means ---------------------------------------------------------------------------- */

/* A goal against a yardstick that is not there is none. */
static bool judged_by_yardstick(const struct kv_perf_case *row, const struct kv_perf_result *result)
{
    return row->yardstick_goal > 0 && !isnan(result->figure[KV_PERF_AGAINST].median);
}

static bool judged_by_ratio(const struct kv_perf_case *row)
{
    return row->kind != KV_PERF_NO_GOAL && row->goal > 0;
}

static bool has_goal(const struct kv_perf_case *row)
{
    return judged_by_ratio(row) || row->yardstick_goal > 0;
}

static bool meets(const struct kv_perf_case *row, const struct kv_perf_result *result)
{
    const double ratio = result->figure[KV_PERF_RATIO].median;
    if (judged_by_ratio(row) &&
        !(row->kind == KV_PERF_AT_LEAST ? ratio >= row->goal : ratio <= row->goal))
        return false;
    return !judged_by_yardstick(row, result) ||
           result->figure[KV_PERF_AGAINST].median >= row->yardstick_goal;
}

/* The goal of the ratio, by the pairs without the core's other thread. */
static bool meets_asleep(const struct kv_perf_case *row, const struct kv_perf_result *result)
{
    struct kv_perf_result without = *result;
    without.figure[KV_PERF_RATIO].median = result->asleep.ratio;
    return result->asleep.pairs && judged_by_ratio(row) && meets(row, &without);
}

static void judge(struct kv_perf *perf, const struct kv_perf_case *row,
                  struct kv_perf_result *result)
{
    const bool goal = judged_by_ratio(row) || judged_by_yardstick(row, result);
    result->meets = goal && meets(row, result);
    result->meets_asleep = meets_asleep(row, result);
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

/* ", a ratio of 0.7 in 9 pairs beside it", or nothing where there are none. */
static void tell_part(const struct kv_perf_part *part, const char *where, char text[96])
{
    *text = 0;
    if (part->pairs) snprintf(text, 96, ", a ratio of %.3g in %u pairs %s it", part->ratio, part->pairs, where);
}

/* What the core's other thread took, where it was at work. */
static void explain_sibling(const struct kv_perf *perf, struct kv_perf_result *result)
{
    const size_t used = strlen(result->reason);
    char beside[96], alone[96];
    if (!(result->beside > 0) || isnan(result->figure[KV_PERF_RATIO].median)) return;
    tell_part(&result->at_work, "beside", beside);
    tell_part(&result->asleep, "without", alone);
    snprintf(result->reason + used, sizeof result->reason - used,
             "; the core's other thread was at work at %.0f %% of looks (loads overlap over %u instructions and not "
             "over %u, half of what this core keeps in flight)%s%s%s",
             100 * result->beside, perf->sibling.window * 7 / 16, perf->sibling.window * 9 / 16, beside, alone,
             result->meets_asleep ? ", which meets the goal" : "");
}

static void explain(const struct kv_perf *perf, const struct kv_perf_case *row, struct kv_perf_result *result)
{
    const struct kv_perf_range *figure = result->figure;
    const struct kv_perf_seen seen = {figure[KV_PERF_LIMIT].median, figure[KV_PERF_OURS].median,
                                      figure[KV_PERF_YARDSTICK].median,
                                      figure[KV_PERF_RATIO].median, figure[KV_PERF_AGAINST].median};
    if (result->meets || !has_goal(row)) return;
    row->explain(row->ours.context, &seen, result->reason);
    explain_sibling(perf, result);
}

/* The goal gives way to the best yardstick where that misses it in the same run. */
static void lower_goal(struct kv_perf_case *row, const struct kv_perf_result *result)
{
    const struct kv_perf_range *figure = result->figure;
    if (!row->best || !strstr(result->yardstick_name, row->best)) return;
    if (!(figure[KV_PERF_YARDSTICK].median < row->goal * figure[KV_PERF_LIMIT].median)) return;
    row->kind = KV_PERF_NO_GOAL;
    row->yardstick_goal = 1;
}

/* Judges and prints; asks for a reason where a goal is missed, or cannot be judged. */
static int finish(struct kv_perf *perf, const struct kv_perf_case *asked,
                  struct kv_perf_result *result, struct kv_error *err)
{
    struct kv_perf_case judged = *asked;
    const struct kv_perf_case *row = &judged;
    lower_goal(&judged, result);
    judge(perf, row, result);
    if (row->median_ratio) *row->median_ratio = result->figure[KV_PERF_RATIO].median;
    explain(perf, row, result);
    return kv_perf_row_print(perf, row, result, err);
}

int kv_perf_measure(struct kv_perf *perf, const struct kv_perf_case *row, struct kv_error *err)
{
    struct measured measured = {.row = row,
                                .least = perf->options.tiny ? tiny_seconds : stretch_seconds,
                                .turns = {.turns = perf->options.repeats},
                                .sibling = &perf->sibling,
                                .cores = row->clock == KV_PERF_WALL ? omp_get_num_procs() : 1};
    if (row->most_turns && row->most_turns < measured.turns.turns)
        measured.turns.turns = row->most_turns;
    struct kv_perf_result result = {.foreign = NAN};
    double script;
    if (has_goal(row) && !row->explain)
        return kv_fail(err, KV_EUSAGE, "perf: %s has a goal and nothing that explains missing it",
                       row->name);
    if (row->yardstick.run)
        snprintf(result.yardstick_name, sizeof result.yardstick_name, "%s", row->yardstick.name);
    int status = start_script(perf, &measured, &script, &result, err);
    if (status == KV_OK) {
        calibrate_all(&measured, script);
        status = run_turns(perf, &measured, &result, err);
    }
    if (status == KV_OK && !perf->options.tiny && result.beside > 0 && has_goal(row) && !meets(row, &result))
        status = seek_quiet(&measured, &result, err);
    kv_script_stop(&measured.script);
    kv_turns_free(&measured.turns);
    return status == KV_OK ? finish(perf, row, &result, err) : status;
}

enum { LOOKS = 7 };

/* Rate of a stretch that lasts so long. */
static double rate_of(kv_perf_work *run, void *context, double least)
{
    const double begin = now(CLOCK_THREAD_CPUTIME_ID);
    double work = 0, seconds;
    do {
        work += run(context);
        seconds = now(CLOCK_THREAD_CPUTIME_ID) - begin;
    } while (seconds < least);
    return work / seconds;
}

double kv_perf_best(kv_perf_work *run, void *context)
{
    double best = 0;
    for (int i = 0; i < LOOKS; i++) best = fmax(best, rate_of(run, context, 0.005));
    return best;
}

double kv_perf_median_behind(const struct kv_perf_side *before, kv_perf_work *run, void *context)
{
    double rates[LOOKS];
    for (int i = 0; i < LOOKS; i++) {
        rate_of(before->run, before->context, 0.02);
        rates[i] = rate_of(run, context, 0.0002);
    }
    return kv_perf_range_of(rates, LOOKS).median;
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
