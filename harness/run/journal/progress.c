/* The progress line. */
#include "harness/run/journal/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "harness/base/clock.h"

/* A run shorter than this needs no line; a faster refresh only flickers. */
static const double first_after = 0.3, refresh = 0.1;

void kv_progress_begin(struct kv_progress *progress, bool quiet)
{
    *progress = (struct kv_progress){.started = kv_clock_seconds()};
    progress->shown = !quiet && isatty(STDERR_FILENO);
}

static void print_time(char text[24], double seconds)
{
    if (seconds < 60) snprintf(text, 24, "%.0f s", seconds);
    else if (seconds < 3600) snprintf(text, 24, "%.0f min", seconds / 60);
    else snprintf(text, 24, "%.1f h", seconds / 3600);
}

void kv_progress_step(struct kv_progress *progress, double done)
{
    const double time = kv_clock_seconds(), passed = time - progress->started;
    if (!progress->shown || passed < first_after || time - progress->printed < refresh) return;
    progress->printed = time;
    char left[24] = "?";
    if (done > 0) print_time(left, passed * (1 - done) / done);
    /* Under 80 columns: a line that wraps cannot be wiped. */
    fprintf(stderr, "\r\033[K%3.0f %%, about %s left", 100 * done, left);
    fflush(stderr);
}

void kv_progress_end(struct kv_progress *progress)
{
    if (progress->shown && progress->printed > 0) fputs("\r\033[K", stderr);
    progress->shown = false;
}
