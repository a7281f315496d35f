/* Named parameters; see params.h. */
#include "harness/base/params.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t kv_budget_tokens(struct kv_budget budget, uint32_t prompt)
{
    return budget.share > 0.0 ? (uint32_t)floor(budget.share * prompt) : budget.tokens;
}

static void *field(const struct kv_param *param, void *config) { return (char *)config + param->offset; }

static const void *const_field(const struct kv_param *param, const void *config)
{
    return (const char *)config + param->offset;
}

void kv_params_defaults(const struct kv_param *params, void *config)
{
    for (const struct kv_param *param = params; param && param->name; param++)
        switch (param->type) {
        case KV_PARAM_U32:
        case KV_PARAM_CHOICE: *(uint32_t *)field(param, config) = (uint32_t)param->initial; break;
        case KV_PARAM_REAL: *(double *)field(param, config) = param->initial; break;
        case KV_PARAM_BUDGET:
            *(struct kv_budget *)field(param, config) =
                param->initial < 1.0 ? (struct kv_budget){.share = param->initial}
                                     : (struct kv_budget){.tokens = (uint32_t)param->initial};
            break;
        }
}

/* A number with an optional k or Ki; false when there is anything else. */
static bool parse_number(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (end == text || errno || !isfinite(*value) || strchr("0123456789.-+", text[0]) == NULL) return false;
    if (strcmp(end, "Ki") == 0) *value *= 1024.0, end += 2;
    else if (strcmp(end, "k") == 0) *value *= 1000.0, end += 1;
    return *end == 0;
}

static int bad_value(const struct kv_param *param, const char *who, const char *value, struct kv_error *err)
{
    if (param->type == KV_PARAM_CHOICE)
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected one of %s, found %s", who, param->name,
                       param->choices, value);
    if (param->type == KV_PARAM_BUDGET)
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected tokens (1 or more), a share below 1 or a "
                       "percentage, found %s", who, param->name, value);
    return kv_fail(err, KV_EUSAGE, "%s: %s: expected %s from %g to %g, found %s", who, param->name,
                   param->type == KV_PARAM_U32 ? "a whole number" : "a number", param->min, param->max, value);
}

static bool set_choice(const struct kv_param *param, const char *value, uint32_t *out)
{
    const size_t length = strlen(value);
    uint32_t index = 0;
    for (const char *at = param->choices; *at; index++) {
        const size_t n = strcspn(at, "|");
        if (n == length && strncmp(at, value, n) == 0) return *out = index, true;
        at += n + (at[n] == '|');
    }
    return false;
}

static bool set_budget(const char *value, struct kv_budget *out)
{
    char number[64];
    const size_t length = strlen(value);
    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, value, length + 1);
    const bool percent = number[length - 1] == '%';
    if (percent) number[length - 1] = 0;
    double amount;
    if (!parse_number(number, &amount) || amount <= 0.0) return false;
    if (percent) amount /= 100.0;
    if (percent && amount > 1.0) return false;
    if (percent || amount < 1.0) return *out = (struct kv_budget){.share = amount}, true;
    if (amount != floor(amount) || amount > 4e9) return false;
    return *out = (struct kv_budget){.tokens = (uint32_t)amount}, true;
}

static bool set_value(const struct kv_param *param, void *config, const char *value)
{
    double number;
    switch (param->type) {
    case KV_PARAM_CHOICE: return set_choice(param, value, field(param, config));
    case KV_PARAM_BUDGET: return set_budget(value, field(param, config));
    case KV_PARAM_U32:
        if (!parse_number(value, &number) || number != floor(number) || number < param->min ||
            number > param->max)
            return false;
        *(uint32_t *)field(param, config) = (uint32_t)number;
        return true;
    case KV_PARAM_REAL:
        if (!parse_number(value, &number) || number < param->min || number > param->max) return false;
        *(double *)field(param, config) = number;
        return true;
    }
    return false;
}

static int unknown_key(const struct kv_param *params, const char *who, const char *key, struct kv_error *err)
{
    const char *names[65] = {NULL};
    for (int i = 0; i < 64 && params && params[i].name; i++) names[i] = params[i].name;
    const char *near = kv_nearest(key, names);
    return kv_fail(err, KV_EUSAGE, "%s: unknown parameter %s%s%s%s", who, key, near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
}

int kv_params_set(const struct kv_param *params, void *config, const char *who, const char *key,
                  const char *value, struct kv_error *err)
{
    for (const struct kv_param *param = params; param && param->name; param++)
        if (strcmp(param->name, key) == 0)
            return set_value(param, config, value) ? KV_OK : bad_value(param, who, value, err);
    return unknown_key(params, who, key, err);
}

static size_t append(char *text, size_t capacity, const char *format, ...)
{
    const size_t length = strlen(text);
    va_list args;
    va_start(args, format);
    const int more = vsnprintf(text + length, capacity > length ? capacity - length : 0, format, args);
    va_end(args);
    return length + (size_t)more;
}

/* The shortest decimal that reads back as the same double. */
static void print_real(char out[40], double value)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}

size_t kv_params_print(const struct kv_param *params, const void *config, char *text, size_t capacity)
{
    size_t length = strlen(text);
    for (const struct kv_param *param = params; param && param->name; param++) {
        char value[64] = "";
        switch (param->type) {
        case KV_PARAM_U32: snprintf(value, sizeof value, "%u", *(const uint32_t *)const_field(param, config)); break;
        case KV_PARAM_REAL: print_real(value, *(const double *)const_field(param, config)); break;
        case KV_PARAM_CHOICE: {
            const char *at = param->choices;
            for (uint32_t i = *(const uint32_t *)const_field(param, config); i > 0; i--) at += strcspn(at, "|") + 1;
            snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "|"), at);
            break;
        }
        case KV_PARAM_BUDGET: {
            const struct kv_budget *budget = const_field(param, config);
            if (budget->share > 0.0 && budget->share < 1.0) print_real(value, budget->share);
            else if (budget->share >= 1.0) snprintf(value, sizeof value, "100%%");
            else snprintf(value, sizeof value, "%u", budget->tokens);
            break;
        }
        }
        length = append(text, capacity, ":%s=%s", param->name, value);
    }
    return length;
}

/* Levenshtein distance with one row; words over 63 letters are never near. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t row[64];
    if (n > 63 || m > 63) return 64;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[m];
}

const char *kv_nearest(const char *word, const char *const *names)
{
    const char *near = NULL;
    size_t best = strlen(word) / 2 + 1;
    for (; *names; names++) {
        const size_t far = distance(word, *names);
        if (far < best) best = far, near = *names;
    }
    return near;
}
