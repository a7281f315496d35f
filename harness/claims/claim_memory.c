/* Claims of arithmetic: how large a cache is, by what it became small. Nothing is replayed.
 *
 *   memory     setting: model, context, batch, method (f16), saving (the chain up to it: none,
 * heads, sharing, windows, latent), bits (replaces the 16 of f16), figure; against=MODEL or
 *              against_saving for ratios
 *   serving    setting: model, engine ("vllm fp8"), context, users, prefix, tp, figure
 *   value      setting: value=EXPRESSION of numbers, + - * / ( ) and [MODEL], the elements that an
 *              attention layer of it keeps of a token */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claims.h"
#include "harness/memory/memory.h"
#include "harness/memory/serving.h"

static int bad_setting(const char *setting, struct kv_error *err)
{
    return kv_fail(err, KV_EINPUT, "claim: cannot read the setting %.300s", setting);
}

/* -- memory ----------------------------------------------------------------------------------- */

struct asked {
    struct kv_model model;
    char method[256];
    uint32_t context;
    double batch, bits;
};

static int read_saving(const char *name, enum kv_saving *saving)
{
    static const char *const names[KV_SAVINGS] = {"none", "heads", "sharing", "windows", "latent"};
    for (int s = 0; s < KV_SAVINGS; s++)
        if (strcmp(name, names[s]) == 0) return *saving = (enum kv_saving)s, KV_OK;
    return KV_EINPUT;
}

/* Takes out of the model what came after the saving that `key` names. */
static int cut_chain(struct kv_model *model, const char *setting, const char *key,
                     struct kv_error *err)
{
    char name[32];
    enum kv_saving saving;
    struct kv_model cut;
    bool applies;
    if (!kv_setting_text(setting, key, name, sizeof name)) return KV_OK;
    if (read_saving(name, &saving) != KV_OK) return bad_setting(setting, err);
    const int status = kv_model_with_savings(&cut, model, saving, &applies, err);
    if (status != KV_OK) return status;
    kv_model_free(model);
    *model = cut;
    return KV_OK;
}

static int count_bytes(struct asked *asked, const struct kv_kernels *kernels,
                       struct kv_memory_total *total, struct kv_error *err)
{
    const struct kv_memory_setting setting = {.element_bits = 16, .state_bits = 16};
    struct kv_spec_list specs;
    struct kv_memory *memory = NULL;
    int status = kv_spec_parse(&specs, asked->method, err);
    if (status != KV_OK) return status;
    status = kv_memory_open(&memory, &asked->model, &specs.specs[0], &setting, kernels, err);
    if (status == KV_OK) status = kv_memory_at(memory, asked->context, total, err);
    kv_memory_close(memory);
    kv_spec_free(&specs);
    return status;
}

/* Bytes of the whole batch, for figures that are bytes; in another width where bits= says so. */
static int bytes_of(struct asked *asked, const struct kv_kernels *kernels, double *bytes,
                    struct kv_error *err)
{
    struct kv_memory_total total;
    const int status = count_bytes(asked, kernels, &total, err);
    *bytes = ((double)total.cache.total * asked->bits / 16 + (double)(total.state + total.index)) *
             asked->batch;
    return status;
}

struct layers {
    uint32_t local, global, shared;
};

static struct layers count_kinds(const struct kv_model *model)
{
    struct layers n = {0};
    for (uint32_t i = 0; i < model->n_layers; i++) {
        n.local += model->layers[i].kind == KV_LAYER_SLIDING;
        n.global += model->layers[i].kind == KV_LAYER_FULL;
        n.shared += model->layers[i].kind != KV_LAYER_NONE && model->layers[i].source != i;
    }
    return n;
}

/* Figures that need no bytes; false for another. */
static bool figure_of_model(const char *name, const struct kv_model *model, double *figure)
{
    const struct layers n = count_kinds(model);
    if (strcmp(name, "weights_GB") == 0)
        *figure = 2e-9 * (double)model->parameters;
    else if (strcmp(name, "local_per_global") == 0)
        *figure = (double)n.local / n.global;
    else if (strcmp(name, "shared_layers") == 0)
        *figure = n.shared;
    else
        return false;
    return true;
}

static int figure_of_bytes(const char *name, double bytes, double other, double *figure)
{
    if (strcmp(name, "bytes") == 0)
        *figure = bytes;
    else if (strcmp(name, "GB") == 0)
        *figure = bytes / 1e9;
    else if (strcmp(name, "GiB") == 0)
        *figure = bytes / 0x1p30;
    else if (strcmp(name, "MiB") == 0)
        *figure = bytes / 0x1p20;
    else if (strcmp(name, "times_less") == 0)
        *figure = other / bytes;
    else if (strcmp(name, "percent_less") == 0)
        *figure = 100 * (1 - bytes / other);
    else
        return KV_EINPUT;
    return KV_OK;
}

/* What a ratio is against: another model, or this one with fewer savings, always in 16 bits. */
static int read_other(struct asked *other, const struct asked *asked, const char *setting,
                      struct kv_error *err)
{
    char name[96];
    *other = *asked;
    other->bits = 16;
    strcpy(other->method, "f16");
    if (!kv_setting_text(setting, "against", name, sizeof name) &&
        !kv_setting_text(setting, "model", name, sizeof name))
        return bad_setting(setting, err);
    const int status = kv_model_read(&other->model, name, err);
    return status == KV_OK ? cut_chain(&other->model, setting, "against_saving", err) : status;
}

static int break_even(struct asked *asked, const struct kv_kernels *kernels, double *figure,
                      struct kv_error *err)
{
    struct kv_memory_total total;
    const uint32_t context = asked->context;
    asked->context = 1;
    const int status = count_bytes(asked, kernels, &total, err);
    asked->context = context;
    const double weights = asked->model.weights_bytes ? (double)asked->model.weights_bytes
                                                      : 2.0 * (double)asked->model.parameters;
    *figure = weights / (double)total.total;
    return status;
}

static int measure_memory(struct asked *asked, const char *setting,
                          const struct kv_kernels *kernels, double *figure, struct kv_error *err)
{
    char name[32];
    struct asked other;
    double bytes, others;
    if (!kv_setting_text(setting, "figure", name, sizeof name)) return bad_setting(setting, err);
    if (figure_of_model(name, &asked->model, figure)) return KV_OK;
    if (strcmp(name, "break_even") == 0) return break_even(asked, kernels, figure, err);
    int status = bytes_of(asked, kernels, &bytes, err);
    if (status == KV_OK) status = read_other(&other, asked, setting, err);
    if (status != KV_OK) return status;
    status = bytes_of(&other, kernels, &others, err);
    kv_model_free(&other.model);
    if (status == KV_OK && figure_of_bytes(name, bytes, others, figure) != KV_OK)
        return bad_setting(setting, err);
    return status;
}

int kv_claim_memory(double *figure, const char *setting, const struct kv_measuring *measuring,
                    char reason[256], struct kv_error *err)
{
    char name[96];
    struct asked asked = {.context = (uint32_t)kv_setting_number(setting, "context", 1024),
                          .batch = kv_setting_number(setting, "batch", 1),
                          .bits = kv_setting_number(setting, "bits", 16)};
    if (!kv_setting_text(setting, "model", name, sizeof name)) return bad_setting(setting, err);
    if (!kv_setting_text(setting, "method", asked.method, sizeof asked.method))
        strcpy(asked.method, "f16");
    int status = kv_model_read(&asked.model, name, err);
    if (status == KV_OK) status = cut_chain(&asked.model, setting, "saving", err);
    if (status == KV_OK) status = measure_memory(&asked, setting, measuring->kernels, figure, err);
    kv_model_free(&asked.model);
    (void)reason;
    return status;
}

/* -- serving ---------------------------------------------------------------------------------- */

static const struct kv_serving_type *find_type(const char *engine)
{
    char name[128];
    for (const struct kv_serving_type *type = kv_serving_types; type->engine; type++) {
        snprintf(name, sizeof name, "%s %s", type->engine, type->name);
        if (strcmp(name, engine) == 0) return type;
    }
    return NULL;
}

static int serve(const char *setting, const char *engine, struct kv_serving *serving,
                 struct kv_error *err)
{
    char name[96];
    struct kv_model model;
    const struct kv_serving_type *type = find_type(engine);
    const struct kv_serving_setting asked = {
        .context = (uint32_t)kv_setting_number(setting, "context", 1024),
        .chunk = 1,
        .contexts = 1,
        .ring = 1,
        .tensor = (uint32_t)kv_setting_number(setting, "tp", 1),
        .users = (uint32_t)kv_setting_number(setting, "users", 1),
        .prefix = (uint32_t)kv_setting_number(setting, "prefix", 0),
        .state_bits = 16};
    if (!type || !kv_setting_text(setting, "model", name, sizeof name))
        return bad_setting(setting, err);
    int status = kv_model_read(&model, name, err);
    if (status != KV_OK) return status;
    status = kv_serving_count(serving, &model, type, &asked, err);
    kv_model_free(&model);
    return status;
}

int kv_claim_serving(double *figure, const char *setting, const struct kv_measuring *measuring,
                     char reason[256], struct kv_error *err)
{
    char engine[96], name[32];
    struct kv_serving serving, plain;
    (void)measuring, (void)reason;
    if (!kv_setting_text(setting, "engine", engine, sizeof engine) ||
        !kv_setting_text(setting, "figure", name, sizeof name))
        return bad_setting(setting, err);
    int status = serve(setting, engine, &serving, err);
    if (status == KV_OK) status = serve(setting, "vllm auto", &plain, err);
    if (status != KV_OK) return status;
    if (strcmp(name, "shared") == 0)
        *figure = (double)serving.users / (double)serving.users_shared;
    else if (strcmp(name, "times_less") == 0)
        *figure = (double)plain.used / (double)serving.used;
    else if (strcmp(name, "GB") == 0)
        *figure = (double)serving.used / 1e9;
    else if (strcmp(name, "device_GiB") == 0)
        *figure = (double)serving.device / 0x1p30;
    else
        return bad_setting(setting, err);
    return KV_OK;
}

/* -- expressions ------------------------------------------------------------------------------ */

struct expression {
    const char *at;
    int status, depth;
    struct kv_error *err;
};

/* The elements of the first layer that keeps rows. */
static double elements_of(struct expression *expression)
{
    char name[96];
    struct kv_model model;
    const char *end = strchr(expression->at, ']');
    if (!end || end - expression->at >= (long)sizeof name)
        return expression->status = KV_EINPUT, NAN;
    snprintf(name, sizeof name, "%.*s", (int)(end - expression->at), expression->at);
    expression->at = end + 1;
    expression->status = kv_model_read(&model, name, expression->err);
    if (expression->status != KV_OK) return NAN;
    uint32_t i = 0;
    while (i + 1 < model.n_layers && model.layers[i].kind == KV_LAYER_NONE) i++;
    const struct kv_model_layer *layer = &model.layers[i];
    const double elements = (double)layer->kv_heads * (layer->key_dim + layer->value_dim);
    kv_model_free(&model);
    return elements;
}

static double sum(struct expression *expression);

static double atom(struct expression *expression)
{
    if (*expression->at == '[') return expression->at++, elements_of(expression);
    if (*expression->at == '(' && expression->depth < 16) {
        expression->at++, expression->depth++;
        const double value = sum(expression);
        expression->depth--;
        if (*expression->at++ != ')' && expression->status == KV_OK) expression->status = KV_EINPUT;
        return value;
    }
    char *end;
    const double value = strtod(expression->at, &end);
    if (end == expression->at && expression->status == KV_OK) expression->status = KV_EINPUT;
    expression->at = end;
    return value;
}

static double product(struct expression *expression)
{
    double value = atom(expression);
    while (expression->status == KV_OK && (*expression->at == '*' || *expression->at == '/')) {
        const char sign = *expression->at++;
        const double next = atom(expression);
        value = sign == '*' ? value * next : value / next;
    }
    return value;
}

static double sum(struct expression *expression)
{
    double value = product(expression);
    while (expression->status == KV_OK && (*expression->at == '+' || *expression->at == '-')) {
        const char sign = *expression->at++;
        const double next = product(expression);
        value = sign == '+' ? value + next : value - next;
    }
    return value;
}

int kv_claim_value(double *figure, const char *setting, const struct kv_measuring *measuring,
                   char reason[256], struct kv_error *err)
{
    char text[256];
    (void)measuring, (void)reason;
    if (!kv_setting_text(setting, "value", text, sizeof text)) return bad_setting(setting, err);
    struct expression expression = {.at = text, .err = err};
    *figure = sum(&expression);
    if (expression.status == KV_EINPUT || *expression.at) return bad_setting(setting, err);
    return expression.status;
}

/* A claim that no arithmetic decides: why=TEXT. */
int kv_claim_words(double *figure, const char *setting, const struct kv_measuring *measuring,
                   char reason[256], struct kv_error *err)
{
    (void)measuring;
    *figure = NAN;
    if (!kv_setting_text(setting, "why", reason, 256)) return bad_setting(setting, err);
    return KV_OK;
}
