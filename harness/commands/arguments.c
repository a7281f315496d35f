/* Command lines as tables; see arguments.h. */
#include "harness/commands/arguments.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/base/params.h"

int kv_given_refuse(const struct kv_given *given, const char *what, struct kv_error *err)
{
    const char *name = given->argument->name, *value = given->value;
    return kv_fail(err, KV_EUSAGE, "%s: %s%sexpected %s, found %.100s", given->who, name,
                   *name ? ": " : "", what,
                   !value   ? "nothing"
                   : *value ? value
                            : "an empty word");
}

static bool takes_all(const struct kv_argument *argument)
{
    return strncmp(argument->value, "all|", 4) == 0;
}

static int refuse_number(const struct kv_given *given, struct kv_error *err)
{
    const struct kv_argument *argument = given->argument;
    char what[160], count[32] = "a number";
    if (argument->kind == KV_SEED)
        return kv_given_refuse(given, "a whole number from 0 to 2^64 - 1", err);
    if (argument->kind == KV_WHOLE)
        snprintf(count, sizeof count, "%sa whole number", takes_all(argument) ? "all or " : "");
    if (argument->kind == KV_LIST)
        snprintf(count, sizeof count, "up to %u numbers", argument->room);
    snprintf(what, sizeof what, "%s from %.12g to %.12g%s", count, argument->least, argument->most,
             argument->kind == KV_LIST ? " such as 1,3-5" : "");
    return kv_given_refuse(given, what, err);
}

static int store_text(const struct kv_given *given, const char **text, struct kv_error *err)
{
    if (*text && !*given->argument->name)
        return kv_fail(err, KV_EUSAGE, "%s: expected one %s, found %.100s and %.100s", given->who,
                       given->argument->value, *text, given->value);
    *text = given->value;
    return KV_OK;
}

static int add_text(const struct kv_given *given, struct kv_texts *texts, struct kv_error *err)
{
    const struct kv_argument *argument = given->argument;
    if (texts->n >= argument->most)
        return kv_fail(err, KV_EUSAGE, "%s: %s%sexpected %s, at most %.0f, found also %.100s",
                       given->who, argument->name, *argument->name ? ": " : "", argument->value,
                       argument->most, given->value);
    texts->at[texts->n++] = given->value;
    return KV_OK;
}

static int join_text(const struct kv_given *given, char **joined, struct kv_error *err)
{
    char *longer = NULL;
    if (asprintf(&longer, "%s%s%s", *joined ? *joined : "", *joined ? "," : "", given->value) < 0)
        return kv_fail(err, KV_EMEMORY, "%s: out of memory", given->who);
    free(*joined);
    *joined = longer;
    return KV_OK;
}

/* No sign, no blank, no point at first. */
static bool read_number(const struct kv_given *given, double *number)
{
    return given->value[0] >= '0' && given->value[0] <= '9' && kv_read_real(given->value, number) &&
           *number >= given->argument->least && *number <= given->argument->most;
}

static bool store_whole(const struct kv_given *given, uint32_t *field)
{
    double number;
    if (takes_all(given->argument) && strcmp(given->value, "all") == 0) return *field = 0, true;
    return read_number(given, &number) && number == floor(number) &&
           (*field = (uint32_t)number, true);
}

/* numbers[0] counts those behind it. */
static bool add_numbers(const struct kv_given *given, uint32_t *numbers)
{
    const struct kv_argument *argument = given->argument;
    for (const char *at = given->value; *at;) {
        uint32_t range[2];
        if (!kv_read_range(&at, ',', (uint32_t)argument->most, range)) return false;
        if (range[0] < argument->least || range[1] - range[0] >= argument->room - numbers[0])
            return false;
        for (uint32_t i = range[0]; i <= range[1]; i++) numbers[++numbers[0]] = i;
    }
    return true;
}

static int store(const struct kv_given *given, struct kv_error *err)
{
    void *field = (char *)given->target + given->argument->offset;
    bool good = true;
    switch (given->argument->kind) {
    case KV_SWITCH:
        *(bool *)field = true;
        break;
    case KV_TEXT:
        return store_text(given, field, err);
    case KV_TEXTS:
        return add_text(given, field, err);
    case KV_JOINED:
        return join_text(given, field, err);
    case KV_WHOLE:
        good = store_whole(given, field);
        break;
    case KV_REAL:
        good = read_number(given, field);
        break;
    case KV_SEED:
        good = kv_read_whole(given->value, 0, UINT64_MAX, field);
        break;
    case KV_LIST:
        good = add_numbers(given, field);
        break;
    case KV_TAKEN:
        return given->argument->take(given, err);
    }
    return good ? KV_OK : refuse_number(given, err);
}

static const struct kv_argument *find(const struct kv_argument *table, const char *word,
                                      size_t length)
{
    for (; table->name; table++)
        if (strlen(table->name) == length && strncmp(table->name, word, length) == 0) return table;
    return NULL;
}

static int unknown(const struct kv_arguments *arguments, const char *word, struct kv_error *err)
{
    const char *names[64] = {"--help"};
    if (word[0] != '-' || !word[1])
        return kv_fail(err, KV_EUSAGE, "%s: expected options, found %.100s", arguments->who, word);
    for (int i = 0; i < 62 && arguments->table[i].name; i++)
        names[i + 1] = arguments->table[i].name;
    char option[64];
    snprintf(option, sizeof option, "%.*s", (int)strcspn(word, "="), word);
    return kv_fail(err, KV_EUSAGE, "%s: unknown option %s%s", arguments->who, option,
                   kv_hint(option, names).text);
}

/* The argument at words[*i]; steps to its value where that is a word of its own. */
static int take_word(const struct kv_arguments *arguments, struct kv_given *given, int n,
                     char **words, int *i, struct kv_error *err)
{
    const char *word = words[*i];
    const bool option = word[0] == '-' && word[1];
    const size_t length = option ? strcspn(word, "=") : 0;
    given->argument = find(arguments->table, word, length);
    if (!given->argument) return unknown(arguments, word, err);
    given->value = !option ? word : word[length] ? word + length + 1 : NULL;
    if (given->argument->kind == KV_SWITCH || !given->argument->value) {
        if (given->value && option) return kv_given_refuse(given, "no value", err);
        given->value = word;
    } else if (!given->value && *i + 1 < n)
        given->value = words[++*i];
    if (!given->value || !*given->value) return kv_given_refuse(given, given->argument->value, err);
    return store(given, err);
}

/* The first argument that must be given and was not. */
static int check_given(const struct kv_arguments *arguments, const void *target,
                       struct kv_error *err)
{
    for (const struct kv_argument *argument = arguments->table; argument->name; argument++) {
        const void *field = (const char *)target + argument->offset;
        const bool lacks =
            argument->kind == KV_TEXT    ? argument->least > 0 && !*(const char *const *)field
            : argument->kind == KV_TEXTS ? ((const struct kv_texts *)field)->n < argument->least
                                         : false;
        if (lacks)
            return kv_fail(err, KV_EUSAGE, "%s: expected %s%s%s, found %s", arguments->who,
                           argument->name, *argument->name ? " " : "", argument->value,
                           argument->least > 1 ? "fewer" : "nothing");
    }
    return KV_OK;
}

void kv_arguments_print(const struct kv_argument *table)
{
    size_t name = 0, value = 0;
    for (const struct kv_argument *argument = table; argument->name; argument++) {
        if (!argument->meaning) continue;
        if (strlen(argument->name) > name) name = strlen(argument->name);
        if (argument->value && strlen(argument->value) > value) value = strlen(argument->value);
    }
    for (const struct kv_argument *argument = table; argument->name; argument++)
        if (argument->meaning)
            printf("  %-*s %-*s %s\n", (int)name, argument->name, (int)value,
                   argument->value ? argument->value : "", argument->meaning);
}

int kv_arguments_read(const struct kv_arguments *arguments, void *target, int n, char **words,
                      struct kv_error *err)
{
    struct kv_given given = {.who = arguments->who, .target = target};
    for (int i = 0; i < n; i++) {
        if (strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0) {
            if (arguments->help) return arguments->help(), KV_HELPED;
            fputs(arguments->usage, stdout);
            kv_arguments_print(arguments->table);
            return KV_HELPED;
        }
        const int status = take_word(arguments, &given, n, words, &i, err);
        if (status != KV_OK) return status;
    }
    return check_given(arguments, target, err);
}
