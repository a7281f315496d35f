/* Stage times and memory as JSON; see profile.h. */
#include "harness/run/journal/profile.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/files/json.h"

static const char *const names[KV_STAGES] = {
    [KV_STAGE_OPEN] = "open",           [KV_STAGE_READ] = "read",
    [KV_STAGE_REFERENCE] = "reference", [KV_STAGE_AUDIT] = "audit",
    [KV_STAGE_PROMPT] = "prompt",       [KV_STAGE_REPLAY] = "replay",
    [KV_STAGE_MEASURE] = "measure"};

static const char *const kinds[KV_MEMORY_CLASSES] = {[KV_MEMORY_LAYERS] = "layers",
                                                     [KV_MEMORY_REFERENCE] = "reference",
                                                     [KV_MEMORY_PROMPT] = "prompt",
                                                     [KV_MEMORY_LOGITS] = "logits",
                                                     [KV_MEMORY_ANSWERS] = "answers"};

void kv_profile_note(struct kv_profile *profile, enum kv_memory_of_run kind, uint64_t bytes)
{
    if ((int64_t)bytes > profile->bytes[kind]) profile->bytes[kind] = (int64_t)bytes;
}

/* Bytes of each kind at most, and of the method that took most. */
static cJSON *memory_json(const struct kv_results *results)
{
    cJSON *memory = cJSON_CreateObject();
    bool done = memory;
    int64_t state = 0;
    for (int m = 0; m < KV_MEMORY_CLASSES; m++)
        done = done && kv_json_add(memory, kinds[m], cJSON_CreateNumber((double)results->profile.bytes[m]));
    for (uint32_t c = 0; c < results->n_cells; c++)
        if (results->cells[c].allocated_bytes > state) state = results->cells[c].allocated_bytes;
    if (done && kv_json_add(memory, "largest_method_state", cJSON_CreateNumber((double)state))) return memory;
    cJSON_Delete(memory);
    return NULL;
}

static bool add_stage(cJSON *stages, const char *name, double seconds, double wall)
{
    cJSON *stage = cJSON_CreateObject();
    const bool done = stage && kv_json_add(stage, "seconds", kv_real_to_json(seconds, 6)) &&
                      kv_json_add(stage, "share", kv_real_to_json(seconds / wall, 4));
    return kv_json_add(stages, name, stage) && done;
}

/* Seconds that threads worked in a parallel stage, over what they had. */
static double busy(double worked, double seconds, int threads)
{
    return seconds > 0 ? worked / (seconds * threads) : NAN;
}

static cJSON *to_json(const struct kv_results *results)
{
    const struct kv_profile *profile = &results->profile;
    double other = results->wall_seconds, replay = 0;
    cJSON *object = cJSON_CreateObject(), *stages = cJSON_CreateObject();
    bool done = object && stages;
    for (int s = 0; s < KV_STAGES; s++) {
        other -= profile->seconds[s];
        done = done && add_stage(stages, names[s], profile->seconds[s], results->wall_seconds);
    }
    for (uint32_t c = 0; c < results->n_cells; c++) replay += results->cells[c].replay_seconds;
    done = done && add_stage(stages, "other", other, results->wall_seconds) &&
           kv_json_add(object, "wall_seconds", kv_real_to_json(results->wall_seconds, 6)) &&
           kv_json_add(object, "threads", cJSON_CreateNumber(results->threads)) &&
           kv_json_add(object, "replay_busy",
                       kv_real_to_json(busy(replay, profile->seconds[KV_STAGE_REPLAY],
                                            results->threads), 4));
    if (object && stages) done = kv_json_add(object, "stages", stages) && done;
    if (object) done = kv_json_add(object, "memory_bytes", memory_json(results)) && done;
    if (done) return object;
    cJSON_Delete(object);
    return NULL;
}

int kv_profile_write(const char *path, const struct kv_results *results, struct kv_error *err)
{
    cJSON *object = to_json(results);
    char *text = object ? cJSON_Print(object) : NULL;
    cJSON_Delete(object);
    if (!text) return kv_fail(err, KV_EMEMORY, "%s: out of memory for the profile", path);
    FILE *file = fopen(path, "w");
    bool written = file && fprintf(file, "%s\n", text) > 0;
    if (file && fclose(file)) written = false;
    free(text);
    return written ? KV_OK
                   : kv_fail(err, KV_EENVIRONMENT, "%s: cannot write: %s", path, strerror(errno));
}
