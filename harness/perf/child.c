/* See child.h. */
#include "harness/perf/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int kv_child_folder(char path[KV_CHILD_PATH], struct kv_error *err)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, KV_CHILD_PATH, "%.200s/kvbench-perf-XXXXXX",
             folder && *folder ? folder : "/tmp");
    if (mkdtemp(path)) return KV_OK;
    return kv_fail(err, KV_EENVIRONMENT, "perf: %.200s: expected to make a folder, found: %s", path,
                   strerror(errno));
}

void kv_child_remove(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char file[KV_CHILD_PATH + 258];
        snprintf(file, sizeof file, "%.255s/%.255s", path, entry->d_name);
        unlink(file);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

static int start(pid_t *child, char *const *words)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return -1;
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawn(child, "/proc/self/exe", &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* Bytes of a living process's high-water mark, or 0. (What wait4 reports begins with the memory of
 * whoever started it.) */
static double peak_of(pid_t child)
{
    char path[64], line[128];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)child);
    FILE *file = fopen(path, "r");
    while (file && kib == 0 && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %lu kB", &kib);
    if (file) fclose(file);
    return 1024.0 * (double)kib;
}

double kv_child_memory(const char *const *arguments)
{
    enum { WORDS = 24 };
    char *words[WORDS] = {"kvbench"};
    for (int i = 0; i + 2 < WORDS && arguments[i]; i++) words[i + 1] = (char *)arguments[i];
    const struct timespec nap = {.tv_nsec = 2000000};
    double most = NAN, peak;
    pid_t child, done;
    int ended = 0;
    if (start(&child, words) != 0) return NAN;
    while ((done = waitpid(child, &ended, WNOHANG)) == 0) {
        peak = peak_of(child);
        if (peak > 0) most = peak;
        nanosleep(&nap, NULL);
    }
    return done == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0 ? most : NAN;
}
