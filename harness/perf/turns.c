/* Pairs, turns and their medians; see turns.h. */
#include "harness/perf/turns.h"

#include <math.h>
#include <stdlib.h>

bool kv_turns_reserve(struct kv_turns *turns, uint32_t pairs)
{
    if (pairs <= turns->capacity) return true;
    struct kv_pair *more = realloc(turns->pairs, pairs * sizeof *more);
    if (!more) return false;
    turns->pairs = more, turns->capacity = pairs;
    return true;
}

void kv_turns_free(struct kv_turns *turns)
{
    free(turns->pairs);
    *turns = (struct kv_turns){0};
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct kv_perf_range kv_perf_range_of(double *values, uint32_t n)
{
    if (isnan(values[0])) return (struct kv_perf_range){NAN, NAN, NAN, NAN, NAN};
    qsort(values, n, sizeof *values, by_size);
    const double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    const double p10 = values[(n - 1) / 10], p90 = values[n - 1 - (n - 1) / 10];
    return (struct kv_perf_range){median, p10, p90, values[0], values[n - 1]};
}

/* Medians of `groups` equal runs of pairs, and their range. */
static struct kv_perf_range range_of(const struct kv_turns *turns, enum kv_perf_figure figure,
                                     uint32_t groups)
{
    struct kv_perf_range none = {NAN, NAN, NAN, NAN, NAN};
    const uint32_t size = groups ? turns->n / groups : 0;
    double *values = size ? malloc((size + groups) * sizeof *values) : NULL;
    if (!values) return none;
    double *medians = values + size;
    for (uint32_t g = 0; g < groups; g++) {
        for (uint32_t i = 0; i < size; i++) values[i] = turns->pairs[g * size + i].figure[figure];
        medians[g] = kv_perf_range_of(values, size).median;
    }
    none = kv_perf_range_of(medians, groups);
    free(values);
    return none;
}

struct kv_perf_range kv_turns_range(const struct kv_turns *turns, enum kv_perf_figure figure)
{
    return range_of(turns, figure, turns->turns);
}

struct kv_perf_range kv_turns_pair_range(const struct kv_turns *turns, enum kv_perf_figure figure)
{
    return range_of(turns, figure, turns->n);
}

struct kv_perf_part kv_turns_part(const struct kv_turns *turns, bool at_work)
{
    struct kv_perf_part part = {0, NAN};
    double *ratios = turns->n ? malloc(turns->n * sizeof *ratios) : NULL;
    for (uint32_t i = 0; ratios && i < turns->n; i++)
        if (turns->pairs[i].beside == (at_work ? 1 : 0)) ratios[part.pairs++] = turns->pairs[i].figure[KV_PERF_RATIO];
    if (part.pairs) part.ratio = kv_perf_range_of(ratios, part.pairs).median;
    free(ratios);
    return part;
}

double kv_perf_spread(const struct kv_perf_range *range)
{
    return (range->p90 - range->p10) / range->median;
}
