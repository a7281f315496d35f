/* `new NAME`: writes a codec (or, with --policy or --answer, one of those) that builds and passes
 * `check` as it is: a template with the name put in, the word in the build list, and a test vector.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/install.h"
#include "methods/spec/spec.h"

struct kind {
    const char *option, *folder, *vector;
};

static const struct kind kinds[] = {
    {"", "codecs", "codec"}, {"--policy", "policies", "policy"}, {"--answer", "answers", "answer"}};

static int check_name(const char *name, struct kv_error *err)
{
    const size_t length = strlen(name);
    if (length == 0 || length > 40 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != length ||
        strchr("0123456789_-", name[0]))
        return kv_fail(err, KV_EUSAGE,
                       "new: %s: expected a name of a-z, 0-9, - and _ that begins with a letter",
                       name);
    if (kv_codec_find(name) || kv_policy_find(name) || kv_answer_find(name))
        return kv_fail(err, KV_EUSAGE, "new: %s: a method of that name exists", name);
    for (int i = 0; kv_presets[i].name; i++)
        if (strcmp(kv_presets[i].name, name) == 0)
            return kv_fail(err, KV_EUSAGE, "new: %s: a preset of that name exists", name);
    return KV_OK;
}

static char *read_file(const char *path, struct kv_error *err)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 16);
    if (!file || !text || fread(text, 1, (1 << 16) - 1, file) == 0) {
        kv_fail(err, KV_EENVIRONMENT, "%s: cannot read: %s", path, strerror(errno));
        free(text);
        text = NULL;
    }
    if (file) fclose(file);
    return text;
}

static int write_file(const char *path, const char *text, struct kv_error *err)
{
    char aside[4200];
    snprintf(aside, sizeof aside, "%s.partial", path);
    FILE *file = fopen(aside, "w");
    const bool written = file && fputs(text, file) >= 0;
    const bool closed = file && fclose(file) == 0;
    if (written && closed && rename(aside, path) == 0) return KV_OK;
    const int cause = errno;
    unlink(aside);
    return kv_fail(err, KV_EENVIRONMENT, "%s: cannot write: %s", path, strerror(cause));
}

/* Every `template_name` of text becomes name; in an identifier (kv_codec_template_name) its hyphens
 * are underscores, as in the build list. Caller frees. */
static char *put_name(const char *text, const char *name)
{
    static const char mark[] = "template_name";
    char *out = calloc(1, strlen(text) * 4 + 1), *at = out;
    for (const char *next; out && (next = strstr(text, mark)); text = next + strlen(mark)) {
        const bool identifier = next > text && next[-1] == '_';
        at += sprintf(at, "%.*s", (int)(next - text), text);
        for (const char *c = name; *c; c++) *at++ = identifier && *c == '-' ? '_' : *c;
    }
    if (out) strcpy(at, text);
    return out;
}

/* "names = [\n    'a',\n]" -> the same with a line 'name' at its end. */
static int add_word(const char *path, const char *name, struct kv_error *err)
{
    char *text = read_file(path, err);
    if (!text) return KV_EENVIRONMENT;
    char *names = strstr(text, "_names = ["), *close = names ? strchr(names, ']') : NULL,
         *end = close, *joined = NULL;
    int status = KV_OK;
    if (!end)
        status = kv_fail(err, KV_EENVIRONMENT, "%s: expected a list of names, found none", path);
    else {
        while (end > names && (end[-1] == ' ' || end[-1] == '\n' || end[-1] == ',')) end--;
        if (asprintf(&joined, "%.*s,\n    '%s',\n%s", (int)(end - text), text, name, close) < 0)
            joined = NULL;
        status = joined ? write_file(path, joined, err) : kv_fail(err, KV_EMEMORY, "out of memory");
    }
    free(joined);
    free(text);
    return status;
}

/* The template at ROOT/from, with the name put in, becomes ROOT/to. */
static int instantiate(const char *root, const char *from, const char *to, const char *name,
                       struct kv_error *err)
{
    char source[4200], target[4200];
    snprintf(source, sizeof source, "%s/%s", root, from);
    snprintf(target, sizeof target, "%s/%s", root, to);
    if (access(target, F_OK) == 0)
        return kv_fail(err, KV_EUSAGE, "new: %s: exists already", target);
    char *template = read_file(source, err);
    if (!template) return KV_EENVIRONMENT;
    char *text = put_name(template, name);
    const int status =
        text ? write_file(target, text, err) : kv_fail(err, KV_EMEMORY, "out of memory");
    free(text);
    free(template);
    return status;
}

static void take_back(const char *root, const char *file)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", root, file);
    unlink(path);
}

static int write_method(const char *root, const char *name, const struct kind *kind,
                        struct kv_error *err)
{
    const char *folder = kind->folder;
    char template[64], method[128], vector[128], list[4200];
    snprintf(template, sizeof template, "methods/%s/template.txt", folder);
    snprintf(method, sizeof method, "methods/%s/%s.c", folder, name);
    snprintf(vector, sizeof vector, "tests/vectors/%s.txt", name);
    snprintf(list, sizeof list, "%s/methods/%s/meson.build", root, folder);
    int status = instantiate(root, template, method, name, err);
    if (status != KV_OK) return status;
    snprintf(template, sizeof template, "tests/vectors/%s.template", kind->vector);
    status = instantiate(root, template, vector, name, err);
    if (status == KV_OK && (status = add_word(list, name, err)) != KV_OK) take_back(root, vector);
    if (status != KV_OK) {
        take_back(root, method);
        return status;
    }
    printf("%s   the method, listed in methods/%s/meson.build\n%s   its test vector\n"
           "next: ./kvbench check %s; ./kvbench test methods\n",
           method, folder, vector, name);
    return KV_OK;
}

struct new_options {
    const char *name;
    const struct kind *kind;
};

static int take_kind(const struct kv_given *given, struct kv_error *err)
{
    struct new_options *options = given->target;
    if (options->kind != kinds) return kv_given_refuse(given, "one of --policy and --answer", err);
    for (size_t k = 1; k < sizeof kinds / sizeof *kinds; k++)
        if (strcmp(kinds[k].option, given->argument->name) == 0) options->kind = &kinds[k];
    return KV_OK;
}

static const struct kv_argument table[] = {
    {"--policy", KV_TAKEN, 0, NULL, "a policy", .take = take_kind},
    {"--answer", KV_TAKEN, 0, NULL, "a method without rows", .take = take_kind},
    {"", KV_TEXT, offsetof(struct new_options, name), "NAME", NULL, 1},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "new",
    .usage =
        "kvbench new NAME [--policy|--answer]: a codec that builds and passes check as it is\n\n",
    .table = table};

int kv_cmd_new(int argc, char **argv, struct kv_error *err)
{
    struct new_options options = {.kind = kinds};
    int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    if (status == KV_OK) status = check_name(options.name, err);
    if (status != KV_OK) return status;
    char *root = kv_install_path(".");
    status = root ? write_method(root, options.name, options.kind, err)
                  : kv_fail(err, KV_EMEMORY, "out of memory");
    free(root);
    return status;
}
