/* A yardstick in a process of its own; see script.h. */
#include "harness/perf/script.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORDS = 32 };

/* In the child: words of shape become arguments. */
static void run_script(const char *path, const char *bench, const char *shape, int in, int out)
{
    char text[512], *words[MAX_WORDS + 4] = {NULL}, *rest = NULL;
    int n = 0;
    snprintf(text, sizeof text, "%s", shape);
    char *const own[] = {strdup(path), strdup(bench)};
    words[n++] = own[0], words[n++] = own[1];
    for (char *word = strtok_r(text, " ", &rest); word && n < MAX_WORDS;
         word = strtok_r(NULL, " ", &rest))
        words[n++] = word;
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0) _exit(127);
    close(in), close(out);
    execvp(path, words);
    _exit(127);
}

static int read_line(struct kv_script *script, char *line, size_t capacity)
{
    if (!fgets(line, (int)capacity, script->from)) return 0;
    line[strcspn(line, "\r\n")] = 0;
    return 1;
}

/* Pipes (to[1] -> child -> from[0]) and the child between them. */
static int fork_script(struct kv_script *script, const char *path, const char *bench,
                       const char *shape)
{
    int to[2], from[2];
    if (pipe(to)) return 0;
    if (pipe(from)) return close(to[0]), close(to[1]), 0;
    fflush(NULL);
    script->pid = fork();
    if (script->pid == 0) {
        close(to[1]), close(from[0]);
        run_script(path, bench, shape, to[0], from[1]);
    }
    close(to[0]), close(from[1]);
    script->to = fdopen(to[1], "w");
    script->from = fdopen(from[0], "r");
    return script->pid > 0 && script->to && script->from;
}

int kv_script_start(struct kv_script *script, const char *path, const char *bench,
                    const char *shape, struct kv_error *err)
{
    *script = (struct kv_script){0};
    signal(SIGPIPE, SIG_IGN);
    int status = KV_OK;
    if (!fork_script(script, path, bench, shape))
        status = kv_fail(err, KV_EENVIRONMENT, "%s: could not be started", path);
    else if (!read_line(script, script->name, sizeof script->name))
        status =
            kv_fail(err, KV_EENVIRONMENT, "%s: expected a line with its name, found its end", path);
    else if (strncmp(script->name, "skip", 4) == 0)
        status = kv_fail(err, KV_EUNSUPPORTED, "%s: %s", path, script->name);
    if (status != KV_OK) kv_script_stop(script);
    return status;
}

int kv_script_turn(struct kv_script *script, double *seconds, struct kv_error *err)
{
    char line[128] = "", *end = line;
    if (fputs("go\n", script->to) >= 0 && fflush(script->to) == 0 &&
        read_line(script, line, sizeof line))
        *seconds = strtod(line, &end);
    if (end != line && *seconds > 0 && isfinite(*seconds)) return KV_OK;
    return kv_fail(err, KV_EENVIRONMENT, "%s: expected seconds, found '%s'", script->name, line);
}

void kv_script_stop(struct kv_script *script)
{
    if (script->to) fclose(script->to);
    if (script->from) fclose(script->from);
    if (script->pid > 0) waitpid(script->pid, NULL, 0);
    *script = (struct kv_script){0};
}
