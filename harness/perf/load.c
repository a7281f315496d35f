/* CPU time of other processes; see load.h. */
#include "harness/perf/load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/base/clock.h"

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

static double own_seconds(int who)
{
    struct rusage usage;
    if (getrusage(who, &usage)) return 0;
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/* A living child is in no rusage yet: fields 14 and 15 of its stat, after the name in brackets. */
static double child_seconds(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    const char *rest = strrchr(text, ')');
    unsigned long user = 0, system = 0;
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                        &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* All states but idle, waiting for disks, and guests (which are counted under user already). */
static double busy_seconds(void)
{
    unsigned long long user, nice, system, idle, wait, irq, soft, steal = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (!file) return NAN;
    const int n = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
                         &idle, &wait, &irq, &soft, &steal);
    fclose(file);
    if (n < 7) return NAN;
    return (double)(user + nice + system + irq + soft + steal) / (double)sysconf(_SC_CLK_TCK);
}

struct kv_load kv_load_read(int child)
{
    struct kv_load load = {busy_seconds(), own_seconds(RUSAGE_SELF) + own_seconds(RUSAGE_CHILDREN),
                           kv_clock_seconds()};
    if (child > 0) load.own += child_seconds(child);
    return load;
}

double kv_load_foreign(const struct kv_load *before, const struct kv_load *after)
{
    const double wall = after->wall - before->wall;
    if (!(wall * (double)sysconf(_SC_CLK_TCK) >= 20)) return NAN; /* an error of 5 % at most */
    const double others = (after->busy - before->busy) - (after->own - before->own);
    const double share = others / (wall * (double)sysconf(_SC_NPROCESSORS_ONLN));
    return share < 0 ? 0 : share;
}
