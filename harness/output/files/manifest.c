/* manifest.json: everything needed to run it again, and what the rows were measured on. timings.csv
 * beside it holds what no second run repeats. */
#include "harness/output/files/json.h"
#include "harness/output/files/shell_word.h"
#include "harness/output/files/writers.h"
#include "harness/output/row.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

static bool add_number(cJSON *object, const char *name, double value)
{
    return kv_json_add(object, name, kv_real_to_json(value, 15));
}

static bool add_flag(cJSON *object, const char *name, bool value)
{
    return kv_json_add(object, name, cJSON_CreateBool(value));
}

/* A command line that names everything this run settled, defaults included. */
static char *command_to_repeat(const struct kv_results *results)
{
    char *text = NULL, *methods = NULL;
    size_t length = 0, methods_length = 0;
    FILE *out = open_memstream(&methods, &methods_length);
    if (!out) return NULL;
    for (uint32_t s = 0; s < results->n_specs; s++) {
        fprintf(out, "%s%s", s ? "," : "", results->specs[s]);
    }
    if (fclose(out) != 0 || !(out = open_memstream(&text, &length))) {
        free(methods);
        return NULL;
    }
    fputs("./kvbench run --methods", out);
    kv_shell_word(out, methods);
    for (uint32_t t = 0; t < results->n_traces; t++) {
        fputs(" --trace", out);
        kv_shell_word(out, results->traces[t].path ? results->traces[t].path : "");
    }
    fprintf(out, " --isa %s --seed %llu", results->isa ? results->isa : "auto",
            (unsigned long long)results->seed);
    if (results->seeds > 1) fprintf(out, " --seeds %u", results->seeds);
    if (results->per_layer) fputs(" --per-layer", out);
    if (results->options && results->options[0]) fprintf(out, " %s", results->options);
    free(methods);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static cJSON *trace_to_json(const struct kv_trace_summary *trace)
{
    cJSON *object = cJSON_CreateObject();
    if (object && add_text(object, "name", trace->name) && add_text(object, "path", trace->path)
        && add_text(object, "hash", trace->hash) && add_flag(object, "verified", trace->verified)
        && add_text(object, "model", trace->model) && add_text(object, "text", trace->text)
        && add_number(object, "tokens", trace->tokens)
        && add_number(object, "prefill", trace->prefill)
        && add_number(object, "layers", trace->n_layers)
        && add_number(object, "model_layers", trace->model_layers)
        && add_number(object, "element_bits", trace->element_bits)
        && add_number(object, "windows", trace->n_windows)
        && add_number(object, "window_tokens", trace->window_tokens)
        && add_number(object, "fisher_probes", trace->n_fisher)
        && add_flag(object, "has_probes", trace->has_probes)
        && add_flag(object, "has_label", trace->has_label)
        && add_flag(object, "has_spans", trace->has_spans)
        && add_flag(object, "has_w_o", trace->has_w_o)
        && add_flag(object, "no_post_norm", trace->no_post_norm)
        && add_flag(object, "has_x2", trace->has_x2)
        && add_number(object, "audit_deviation", trace->audit_deviation)
        && add_number(object, "audit_bound", trace->audit_bound)) return object;
    cJSON_Delete(object);
    return NULL;
}

/* An empty array added to object, or NULL. */
static cJSON *add_array(cJSON *object, const char *name)
{
    cJSON *array = cJSON_CreateArray();
    return kv_json_add(object, name, array) ? array : NULL;
}

static bool append(cJSON *array, cJSON *item)
{
    if (item && cJSON_AddItemToArray(array, item)) return true;
    cJSON_Delete(item);
    return false;
}

static bool add_lists(cJSON *root, const struct kv_results *results)
{
    cJSON *specs = add_array(root, "specs"), *traces = add_array(root, "traces");
    bool good = specs && traces;
    for (uint32_t s = 0; good && s < results->n_specs; s++) {
        good = append(specs, cJSON_CreateString(results->specs[s]));
    }
    for (uint32_t t = 0; good && t < results->n_traces; t++) {
        good = append(traces, trace_to_json(&results->traces[t]));
    }
    return good;
}

/* A seed is 64 bits, which a JSON number may not hold. */
static bool add_run(cJSON *root, const struct kv_results *results, const char *repeat)
{
    char seed[24], platform[320] = "";
    struct utsname system;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)results->seed);
    if (uname(&system) == 0) {
        snprintf(platform, sizeof platform, "%s %s %s", system.sysname, system.release,
                 system.machine);
    }
    return add_number(root, "schema", 1) && add_text(root, "command", results->command)
        && add_text(root, "repeat", repeat) && add_text(root, "options", results->options)
        && add_text(root, "seed", seed) && add_text(root, "isa", results->isa)
        && add_number(root, "seeds", results->seeds ? results->seeds : 1)
        && add_flag(root, "per_layer", results->per_layer)
        && add_flag(root, "interrupted", results->interrupted)
        && add_text(root, "version", results->version)
        && add_text(root, "code_version", results->code_version)
        && add_text(root, "compiler", results->compiler) && add_text(root, "cpu", results->cpu)
        && add_text(root, "platform", platform) && add_number(root, "threads", results->threads)
        && add_number(root, "wall_seconds", results->wall_seconds);
}

int kv_write_manifest(FILE *file, const struct kv_results *results)
{
    cJSON *root = cJSON_CreateObject();
    char *repeat = command_to_repeat(results), *text = NULL;
    if (root && repeat && add_run(root, results, repeat) && add_lists(root, results)) {
        text = cJSON_Print(root);
    }
    if (text) fprintf(file, "%s\n", text);
    cJSON_Delete(root);
    free(repeat);
    if (!text) return KV_EMEMORY;
    free(text);
    return KV_OK;
}
