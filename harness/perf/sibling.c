/* The other thread of a core, by the length of its reorder buffer; see sibling.h. */
#include "harness/perf/sibling.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "harness/base/clock.h"
#include "harness/base/large.h"

enum { LINE = 64, LINES = 1 << 20 }; /* 64 MiB: more than a guest keeps of a last cache */
enum { ROUNDS = 3, STEPS = 24, LONGEST_GAP = 512 };

/* Loads that overlap over both gaps take 0.9 to 1.15 of the time over the longer one, others 1.5 to 2 (Zen 3). */
static const double apart = 1.3;

#ifdef __x86_64__
#include <cpuid.h>
#include <string.h>

/* Entries of the reorder buffer (AMD: retire queue), of the vendors' optimisation guides. */
static const struct {
    const char *vendor;
    uint32_t family, first, last; /* models */
    uint32_t window;
} cores[] = {
    {"AuthenticAMD", 23, 0x00, 0x2f, 192}, /* Zen, Zen+ */
    {"AuthenticAMD", 23, 0x30, 0xff, 224}, /* Zen 2 */
    {"AuthenticAMD", 25, 0x00, 0x0f, 256}, /* Zen 3 */
    {"AuthenticAMD", 25, 0x10, 0x1f, 320}, /* Zen 4 */
    {"AuthenticAMD", 25, 0x20, 0x5f, 256}, {"AuthenticAMD", 25, 0x60, 0xff, 320},
    {"AuthenticAMD", 26, 0x00, 0xff, 448}, /* Zen 5 */
    {"GenuineIntel", 6, 85, 85, 224},      /* Skylake, Cascade Lake */
    {"GenuineIntel", 6, 106, 108, 352},    /* Ice Lake */
    {"GenuineIntel", 6, 143, 143, 512},    /* Sapphire Rapids */
    {"GenuineIntel", 6, 173, 174, 512},    /* Granite Rapids */
    {"GenuineIntel", 6, 207, 207, 512},    /* Emerald Rapids */
};

static uint32_t documented_window(void)
{
    unsigned eax, ebx, ecx, edx;
    char vendor[13] = {0};
    if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx)) return 0;
    memcpy(vendor, &ebx, 4), memcpy(vendor + 4, &edx, 4), memcpy(vendor + 8, &ecx, 4);
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    const uint32_t base = eax >> 8 & 15, family = base == 15 ? base + (eax >> 20 & 255) : base;
    const uint32_t model = (eax >> 4 & 15) | (eax >> 12 & 0xf0);
    for (size_t c = 0; c < sizeof cores / sizeof *cores; c++)
        if (!strcmp(vendor, cores[c].vendor) && family == cores[c].family && model >= cores[c].first &&
            model <= cores[c].last)
            return cores[c].window;
    return 0;
}

/* Seconds of STEPS steps on both ways, with `gap` instructions behind each load. */
static double walk(void **at[2], size_t gap)
{
    void **first = at[0], **second = at[1], *enter[2];
    size_t steps = STEPS;
    const double begin = kv_clock_seconds();
    __asm__ volatile("lea 2f(%%rip), %[enter0]\n\t"
                     "sub %[gap], %[enter0]\n\t"
                     "lea 3f(%%rip), %[enter1]\n\t"
                     "sub %[gap], %[enter1]\n"
                     "1:\n\t"
                     "mov (%[first]), %[first]\n\t"
                     "jmp *%[enter0]\n\t"
                     ".skip %c[longest], 0x90\n"
                     "2:\n\t"
                     "mov (%[second]), %[second]\n\t"
                     "jmp *%[enter1]\n\t"
                     ".skip %c[longest], 0x90\n"
                     "3:\n\t"
                     "dec %[steps]\n\t"
                     "jnz 1b"
                     : [first] "+&r"(first), [second] "+&r"(second), [steps] "+&r"(steps),
                       [enter0] "=&r"(enter[0]), [enter1] "=&r"(enter[1])
                     : [gap] "r"(gap), [longest] "i"(LONGEST_GAP)
                     : "memory", "cc");
    const double seconds = kv_clock_seconds() - begin;
    at[0] = first, at[1] = second;
    return seconds;
}
#else
static uint32_t documented_window(void)
{
    return 0;
}

static double walk(void **at[2], size_t gap)
{
    (void)at, (void)gap;
    return NAN;
}
#endif

/* A walk over all lines in the order of a linear congruential generator, whose period is their number (Hull and
 * Dobell): no prefetcher follows it. */
static void lay(void **lines)
{
    const size_t every = LINE / sizeof *lines;
    uint32_t from = 0;
    for (uint32_t i = 0; i < LINES; i++) {
        const uint32_t to = (from * 0x915f5u + 0x3c6efu) & (LINES - 1);
        lines[from * every] = &lines[to * every];
        from = to;
    }
}

void kv_sibling_create(struct kv_sibling *sibling)
{
    *sibling = (struct kv_sibling){.window = documented_window()};
    if (sibling->window) sibling->lines = kv_large_alloc((size_t)LINES * LINE);
    if (!sibling->lines) {
        sibling->window = 0;
        return;
    }
    lay(sibling->lines);
    const size_t share = (size_t)LINES / (2 * KV_SIBLING_CORES) * (LINE / sizeof *sibling->lines);
    for (int c = 0; c < KV_SIBLING_CORES; c++)
        for (int way = 0; way < 2; way++) sibling->at[c][way] = sibling->lines + (2 * c + way) * share;
}

void kv_sibling_free(struct kv_sibling *sibling)
{
    free(sibling->lines);
    *sibling = (struct kv_sibling){0};
}

/* Of some rounds the shortest: an interrupt makes one longer. */
static bool at_work(struct kv_sibling *sibling, int core)
{
    double below = INFINITY, above = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        below = fmin(below, walk(sibling->at[core], sibling->window * 7 / 16));
        above = fmin(above, walk(sibling->at[core], sibling->window * 9 / 16));
    }
    return above > apart * below;
}

double kv_sibling_look(struct kv_sibling *sibling, int threads)
{
    int sum = 0;
    if (!sibling->window) return NAN;
    if (threads <= 1) return at_work(sibling, 0);
    if (threads > KV_SIBLING_CORES) threads = KV_SIBLING_CORES;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
    for (int i = 0; i < threads; i++) sum += at_work(sibling, i);
    return (double)sum / threads;
}
