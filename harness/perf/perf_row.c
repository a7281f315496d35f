/* Rows as text and as JSON; see perf_row.h. */
#include "harness/perf/perf_row.h"

#include <math.h>
#include <stdio.h>

#include "harness/output/files/json.h"
#include "harness/output/tables/short_number.h"

static const char *const verdicts[] = {[KV_PERF_MET] = "met",
                                       [KV_PERF_MISSED] = "not met",
                                       [KV_PERF_NONE] = "-",
                                       [KV_PERF_SPREAD] = "invalid: spread",
                                       [KV_PERF_LOAD] = "invalid: load"};

static const char *const goals[] = {
    [KV_PERF_NO_GOAL] = "", [KV_PERF_AT_LEAST] = ">=", [KV_PERF_AT_MOST] = "<="};

void kv_perf_heading(const struct kv_perf *perf)
{
    if (perf->options.json) return;
    printf("\n%s, isa %s, %u turns\n", perf->bench, perf->kernels.isa, perf->options.repeats);
    printf("%-36s %9s %9s %-9s %7s %6s %6s %7s %-8s %s\n", "", "limit", "ours", "", "ratio", "spread",
           "others", "sibling", "goal", "verdict");
}

static void percent(char text[24], double share)
{
    if (isnan(share))
        snprintf(text, 24, "-");
    else
        snprintf(text, 24, "%.0f%%", 100 * share);
}

static void print_line(const struct kv_perf_case *row, const struct kv_perf_result *result)
{
    char limit[24], ours[24], ratio[24], spread[24], foreign[24], beside[24], goal[24] = "-", value[24];
    kv_short_real(limit, result->figure[KV_PERF_LIMIT].median / row->unit_size);
    kv_short_real(ours, result->figure[KV_PERF_OURS].median / row->unit_size);
    kv_short_real(ratio, result->figure[KV_PERF_RATIO].median);
    percent(spread, result->spread);
    percent(foreign, result->foreign);
    percent(beside, result->beside);
    if (row->kind != KV_PERF_NO_GOAL && row->goal > 0) {
        kv_short_real(value, row->goal);
        snprintf(goal, sizeof goal, "%s %.8s", goals[row->kind], value);
    }
    printf("%-36s %9s %9s %-9s %7s %6s %6s %7s %-8s %s\n", row->name, limit, ours, row->unit, ratio,
           spread, foreign, beside, goal, verdicts[result->verdict]);
    if (result->yardstick_name[0]) {
        kv_short_real(limit, result->figure[KV_PERF_YARDSTICK].median / row->unit_size);
        kv_short_real(ratio, result->figure[KV_PERF_AGAINST].median);
        kv_short_real(value, row->yardstick_goal);
        printf("    %s: %s %s, ours %s times it%s%s\n", result->yardstick_name, limit, row->unit,
               ratio, row->yardstick_goal > 0 ? ", goal " : "",
               row->yardstick_goal > 0 ? value : "");
    }
    if (*result->reason) printf("    %s\n", result->reason);
    fflush(stdout);
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

static bool add_real(cJSON *object, const char *name, double value)
{
    return kv_json_add(object, name, kv_real_to_json(value, 6));
}

static bool add_range(cJSON *object, const char *name, const struct kv_perf_range *range,
                      double unit)
{
    cJSON *item = cJSON_CreateObject();
    const bool done =
        item && add_real(item, "median", range->median / unit) &&
        add_real(item, "p10", range->p10 / unit) && add_real(item, "p90", range->p90 / unit) &&
        add_real(item, "least", range->least / unit) && add_real(item, "most", range->most / unit);
    return kv_json_add(object, name, item) && done;
}

static bool add_part(cJSON *object, const char *name, const struct kv_perf_part *part)
{
    cJSON *item = cJSON_CreateObject();
    const bool done = item && kv_json_add(item, "pairs", cJSON_CreateNumber(part->pairs)) &&
                      add_real(item, "ratio", part->ratio);
    return kv_json_add(object, name, item) && done;
}

static cJSON *to_json(const struct kv_perf *perf, const struct kv_perf_case *row,
                      const struct kv_perf_result *result)
{
    cJSON *object = cJSON_CreateObject();
    const bool goal = row->kind != KV_PERF_NO_GOAL && row->goal > 0;
    const bool done =
        object && add_text(object, "bench", perf->bench) && add_text(object, "case", row->name) &&
        add_text(object, "isa", perf->kernels.isa) && add_text(object, "unit", row->unit) &&
        add_text(object, "limit_name", row->limit.name) &&
        add_text(object, "ours_name", row->ours.name) &&
        add_text(object, "yardstick_name",
                 result->yardstick_name[0] ? result->yardstick_name : NULL) &&
        add_range(object, "limit", &result->figure[KV_PERF_LIMIT], row->unit_size) &&
        add_range(object, "ours", &result->figure[KV_PERF_OURS], row->unit_size) &&
        add_range(object, "yardstick", &result->figure[KV_PERF_YARDSTICK], row->unit_size) &&
        add_range(object, "ratio", &result->figure[KV_PERF_RATIO], 1) &&
        add_range(object, "to_yardstick", &result->figure[KV_PERF_AGAINST], 1) &&
        add_text(object, "goal_is", goal ? goals[row->kind] : NULL) &&
        add_real(object, "goal", goal ? row->goal : NAN) &&
        add_real(object, "yardstick_goal", row->yardstick_goal > 0 ? row->yardstick_goal : NAN) &&
        add_real(object, "spread", result->spread) &&
        add_real(object, "pair_spread", result->pair_spread) &&
        add_real(object, "foreign_load", result->foreign) &&
        add_real(object, "sibling_at_work", result->beside) &&
        add_part(object, "beside_sibling", &result->at_work) &&
        add_part(object, "without_sibling", &result->asleep) &&
        kv_json_add(object, "meets_without_sibling", cJSON_CreateBool(result->meets_asleep)) &&
        add_real(object, "cpu_share", result->cpu_share) &&
        add_text(object, "clock", row->clock == KV_PERF_WALL ? "wall" : "thread") &&
        kv_json_add(object, "turns", cJSON_CreateNumber(result->turns)) &&
        kv_json_add(object, "pairs", cJSON_CreateNumber(result->pairs)) &&
        kv_json_add(object, "meets", cJSON_CreateBool(result->meets)) &&
        add_text(object, "verdict", verdicts[result->verdict]) &&
        add_text(object, "reason", *result->reason ? result->reason : NULL);
    if (done) return object;
    cJSON_Delete(object);
    return NULL;
}

int kv_perf_skip(struct kv_perf *perf, const char *name, const char *reason, struct kv_error *err)
{
    if (!perf->options.json) {
        printf("%-36s skipped: %s\n", name, reason);
        return KV_OK;
    }
    cJSON *object = cJSON_CreateObject();
    const bool done = object && add_text(object, "bench", perf->bench) &&
                      add_text(object, "case", name) && add_text(object, "verdict", "skipped") &&
                      add_text(object, "reason", reason);
    if (done && cJSON_AddItemToArray(perf->rows, object)) return KV_OK;
    cJSON_Delete(object);
    return kv_fail(err, KV_EMEMORY, "perf: out of memory for a row");
}

int kv_perf_row_print(struct kv_perf *perf, const struct kv_perf_case *row,
                      const struct kv_perf_result *result, struct kv_error *err)
{
    if (!perf->options.json) {
        print_line(row, result);
        return KV_OK;
    }
    cJSON *object = to_json(perf, row, result);
    if (object && cJSON_AddItemToArray(perf->rows, object)) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "perf: out of memory for a row");
}
