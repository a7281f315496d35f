/* Named parameters; see params.h. */
#include "harness/base/params.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"

uint32_t kv_budget_tokens(struct kv_budget budget, uint32_t prompt)
{
    /* 0.29 of 100 is 29 rows, though the product of the doubles lies a rounding below. */
    return budget.share > 0.0 ? (uint32_t)floor(budget.share * prompt + 1e-9) : budget.tokens;
}

static void *field(const struct kv_param *param, void *config)
{
    return (char *)config + param->offset;
}

static const void *const_field(const struct kv_param *param, const void *config)
{
    return (const char *)config + param->offset;
}

void kv_params_defaults(const struct kv_param *params, void *config)
{
    for (const struct kv_param *param = params; param && param->name; param++)
        switch (kv_param_kind(param)) {
        case KV_PARAM_U32:
        case KV_PARAM_CHOICE:
            *(uint32_t *)field(param, config) = (uint32_t)param->initial;
            break;
        case KV_PARAM_REAL:
            *(double *)field(param, config) = param->initial;
            break;
        case KV_PARAM_BUDGET:
            *(struct kv_budget *)field(param, config) =
                param->initial < 1.0 ? (struct kv_budget){.share = param->initial}
                                     : (struct kv_budget){.tokens = (uint32_t)param->initial};
            break;
        case KV_PARAM_LIST:
            ((struct kv_list *)field(param, config))->n = 0;
            break;
        }
}

static int bad_value(const struct kv_param *param, const char *who, const char *value,
                     struct kv_error *err)
{
    if (kv_param_kind(param) == KV_PARAM_CHOICE)
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected one of %s, found %.100s", who, param->name,
                       param->choices, *value ? value : "nothing");
    if (kv_param_kind(param) == KV_PARAM_BUDGET)
        return kv_fail(err, KV_EUSAGE,
                       "%s: %s: expected 1 to %.12g tokens, a share such as 0.2 or"
                       " 20%%%s, found %.100s",
                       who, param->name, param->max,
                       param->type & KV_PARAM_STORED
                           ? ", bytes of a layer such as 256KiB or bits per"
                             " element such as 2.5b"
                           : "",
                       value);
    if (kv_param_kind(param) == KV_PARAM_LIST)
        return kv_fail(err, KV_EUSAGE,
                       "%s: %s: expected at most %d whole numbers from %.12g to %.12g joined"
                       " by -, none left out, found %.100s",
                       who, param->name, KV_LIST_MAX, param->min, param->max, value);
    return kv_fail(err, KV_EUSAGE, "%s: %s: expected %s from %.12g to %.12g, found %.100s", who,
                   param->name,
                   param->type & KV_PARAM_ODD             ? "an odd number"
                   : kv_param_kind(param) == KV_PARAM_U32 ? "a whole number"
                                                          : "a number",
                   param->min, param->max, value);
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

/* With a unit at the end: B for bytes, b for bits per element. */
static bool set_stored(const char *number, char unit, struct kv_budget *out)
{
    double amount;
    if (!kv_read_real(number, &amount) || amount <= 0.0) return false;
    if (unit == 'b') return *out = (struct kv_budget){.bits = amount}, true;
    return *out = (struct kv_budget){.bytes = amount}, amount == floor(amount) && amount < 0x1p53;
}

/* With a percent sign or a point: a share of the prompt. Otherwise, and with a suffix: tokens. */
static bool set_budget(const struct kv_param *param, const char *value, struct kv_budget *out)
{
    char number[64];
    const size_t length = strlen(value);
    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, value, length + 1);
    const char last = number[length - 1];
    const bool percent = last == '%';
    if ((last == 'B' || last == 'b') && param->type & KV_PARAM_STORED)
        return number[length - 1] = 0, set_stored(number, last, out);
    if (percent) number[length - 1] = 0;
    double amount;
    if (!kv_read_real(number, &amount) || amount <= 0.0) return false;
    if (percent) amount /= 100.0;
    const bool share = percent || amount < 1.0 || strcmp(number, "1.0") == 0;
    if (share) return *out = (struct kv_budget){.share = amount}, amount <= 1.0;
    if (amount != floor(amount) || amount > param->max) return false;
    return *out = (struct kv_budget){.tokens = (uint32_t)amount}, true;
}

static bool set_list(const struct kv_param *param, const char *value, struct kv_list *out)
{
    struct kv_list list = {0};
    for (;;) {
        unsigned long number = 0;
        const size_t digits = strspn(value, "0123456789");
        if (digits == 0 || digits > 5 || list.n == KV_LIST_MAX) return false;
        for (size_t i = 0; i < digits; i++) number = 10 * number + (unsigned long)(value[i] - '0');
        if ((double)number < param->min || (double)number > param->max) return false;
        list.at[list.n++] = (uint16_t)number;
        value += digits;
        if (!*value) return *out = list, true;
        if (*value++ != '-') return false;
    }
}

static bool set_value(const struct kv_param *param, void *config, const char *value)
{
    double number;
    switch (kv_param_kind(param)) {
    case KV_PARAM_CHOICE:
        return set_choice(param, value, field(param, config));
    case KV_PARAM_BUDGET:
        return set_budget(param, value, field(param, config));
    case KV_PARAM_LIST:
        return set_list(param, value, field(param, config));
    case KV_PARAM_U32:
        if (!kv_read_real(value, &number) || number != floor(number)) return false;
        if (number < param->min || number > param->max) return false;
        if (param->type & KV_PARAM_ODD && fmod(number, 2.0) == 0.0) return false;
        *(uint32_t *)field(param, config) = (uint32_t)number;
        return true;
    case KV_PARAM_REAL:
        if (!kv_read_real(value, &number)) return false;
        if (number < param->min || number > param->max) return false;
        *(double *)field(param, config) = number;
        return true;
    }
    return false;
}

static int unknown_key(const struct kv_param *params, const char *who, const char *key,
                       struct kv_error *err)
{
    const char *names[65] = {NULL};
    for (int i = 0; i < 64 && params && params[i].name; i++) names[i] = params[i].name;
    return kv_fail(err, KV_EUSAGE, "%s: unknown parameter %.100s%s", who, key,
                   kv_hint(key, names).text);
}

int kv_params_set(const struct kv_param *params, void *config, const char *who, const char *key,
                  const char *value, struct kv_error *err)
{
    for (const struct kv_param *param = params; param && param->name; param++)
        if (strcmp(param->name, key) == 0)
            return set_value(param, config, value) ? KV_OK : bad_value(param, who, value, err);
    return unknown_key(params, who, key, err);
}

/* The shortest decimal that reads back as the same double. */
static void print_real(char out[64], double value)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 64, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}

static void print_choice(char out[64], const struct kv_param *param, uint32_t index)
{
    const char *at = param->choices;
    for (; index > 0; index--) at += strcspn(at, "|") + 1;
    snprintf(out, 64, "%.*s", (int)strcspn(at, "|"), at);
}

/* In the largest binary multiple that is a whole number. */
static void print_bytes(char out[64], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    int unit = 0;
    for (; unit < 3 && fmod(bytes, 1024.0) < 1.0; unit++) bytes /= 1024.0;
    snprintf(out, 64, "%.0f%s", bytes, units[unit]);
}

/* As print_real, without an exponent where that is possible. */
static void print_bits(char out[64], double bits)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 64, "%.*g", digits, bits);
        if (strtod(out, NULL) == bits && !strchr(out, 'e')) break;
    }
    strcat(out, "b");
}

void kv_budget_print(char out[64], const struct kv_budget *budget)
{
    if (budget->bytes > 0.0)
        print_bytes(out, budget->bytes);
    else if (budget->bits > 0.0)
        print_bits(out, budget->bits);
    else if (budget->share >= 1.0)
        snprintf(out, 64, "100%%");
    else if (budget->share > 0.0)
        print_real(out, budget->share);
    else
        snprintf(out, 64, "%u", budget->tokens);
}

static void print_list(char out[KV_PARAM_TEXT], const struct kv_list *list)
{
    int length = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < list->n; i++)
        length += snprintf(out + length, KV_PARAM_TEXT - (size_t)length, "%s%u", i ? "-" : "",
                           list->at[i]);
}

static void print_value(char out[KV_PARAM_TEXT], const struct kv_param *param, const void *config)
{
    const void *value = const_field(param, config);
    switch (kv_param_kind(param)) {
    case KV_PARAM_U32:
        snprintf(out, 64, "%u", *(const uint32_t *)value);
        break;
    case KV_PARAM_REAL:
        print_real(out, *(const double *)value);
        break;
    case KV_PARAM_CHOICE:
        print_choice(out, param, *(const uint32_t *)value);
        break;
    case KV_PARAM_BUDGET:
        kv_budget_print(out, value);
        break;
    case KV_PARAM_LIST:
        print_list(out, value);
        break;
    }
}

/* No budget came later yet: it would always be printed. */
static bool is_initial(const struct kv_param *param, const void *config)
{
    const void *value = const_field(param, config);
    if (kv_param_kind(param) == KV_PARAM_LIST) return ((const struct kv_list *)value)->n == 0;
    if (kv_param_kind(param) == KV_PARAM_REAL) return *(const double *)value == param->initial;
    return kv_param_kind(param) != KV_PARAM_BUDGET && *(const uint32_t *)value == param->initial;
}

size_t kv_params_print(const struct kv_param *params, const void *config, char *text,
                       size_t capacity)
{
    size_t length = strlen(text);
    for (const struct kv_param *param = params; param && param->name; param++) {
        char value[KV_PARAM_TEXT];
        const bool later = param->type & KV_PARAM_LATER || kv_param_kind(param) == KV_PARAM_LIST;
        if (later && is_initial(param, config)) continue;
        print_value(value, param, config);
        const size_t room = length < capacity ? capacity - length : 0;
        length += (size_t)snprintf(room ? text + length : NULL, room, ":%s=%s", param->name, value);
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

static const char *nearest(const char *word, const char *const *names)
{
    const char *near = NULL;
    size_t best = strlen(word) / 2 + 1;
    for (; *names; names++) {
        const size_t far = distance(word, *names);
        if (far < best) best = far, near = *names;
    }
    return near;
}

struct kv_hint kv_hint(const char *word, const char *const *names)
{
    struct kv_hint hint = {{0}};
    const char *near = nearest(word, names);
    if (near) snprintf(hint.text, sizeof hint.text, "; did you mean %.100s?", near);
    return hint;
}
