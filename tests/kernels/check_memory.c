/* Guarded memory and inputs of the kernel checker; see checkkern.h. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/base/rng.h"
#include "tests/kernels/checkkern.h"

enum { CANARY = 0xa5 };

const char *const kind_names[ALL_KINDS] = {"normal",   "one channel x100", "all equal",
                                           "zeros",    "subnormals",       "largest half",
                                           "very negative", "-infinity"};

/* Freed maps, by pages, for the next of their size: mapping anew was most of the run time. */
enum { MAX_PAGES = 128, SPARE = 6 };

static uint8_t *spare[MAX_PAGES][SPARE];

static uint8_t *take_map(size_t bytes, size_t page)
{
    for (size_t i = 0; bytes / page < MAX_PAGES && i < SPARE; i++) {
        uint8_t *map = spare[bytes / page][i];
        spare[bytes / page][i] = NULL;
        if (map) return map;
    }
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + bytes - page, page, PROT_NONE)) {
        puts("Bail out! no memory");
        exit(1);
    }
    return map;
}

struct guarded guarded_make(size_t bytes, size_t slack)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (bytes + slack + 64 + page - 1) / page * page;
    struct guarded memory = {.map_bytes = inner + page, .bytes = bytes, .slack = slack};
    memory.map = take_map(memory.map_bytes, page);
    memset(memory.map, CANARY, inner);
    memory.data = memory.map + inner - slack - bytes;
    return memory;
}

/* n bytes, all of them canaries: the first is, and each is like the one before it. */
static int are_canaries(const uint8_t *p, size_t n)
{
    return !n || (*p == CANARY && !memcmp(p, p + 1, n - 1));
}

int guarded_intact(const struct guarded *memory)
{
    return are_canaries(memory->map, (size_t)(memory->data - memory->map)) &&
           are_canaries(memory->data + memory->bytes, memory->slack);
}

void guarded_free(struct guarded *memory)
{
    const size_t pages = memory->map_bytes / (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; pages < MAX_PAGES && i < SPARE; i++)
        if (!spare[pages][i]) {
            spare[pages][i] = memory->map;
            return;
        }
    munmap(memory->map, memory->map_bytes);
}

/* Normal variates, drawn once: logarithms and cosines for every input took longer than all kernels. */
enum { NORMALS = 1 << 15 };

static float normals[NORMALS];

static const float *drawn_normals(void)
{
    static int drawn;
    struct kv_rng rng = kv_rng_stream(1, 0, 0, 0);
    for (size_t i = 0; !drawn && i < NORMALS; i++) normals[i] = (float)kv_rng_normal(&rng);
    drawn = 1;
    return normals;
}

void fill_floats(float *x, size_t n, enum input_kind kind, uint32_t seed)
{
    const float *drawn = drawn_normals();
    const size_t first = (seed * (size_t)ALL_KINDS + kind) * 4099;
    for (size_t i = 0; i < n; i++) {
        const float normal = drawn[(first + i) % NORMALS];
        switch (kind) {
        case OUTLIER: x[i] = i % 64 == 5 ? 100 * normal : normal; break;
        case EQUAL: x[i] = 1.375f; break;
        case ZEROS: x[i] = i % 3 == 1 ? -0.0f : 0.0f; break;
        case SUBNORMAL: x[i] = normal * 1e-41f; break;
        case MAX_HALF: x[i] = normal < 0 ? -65504.0f : 65504.0f; break;
        case VERY_NEGATIVE: x[i] = i % 7 == 3 ? normal : -1e4f * fabsf(normal); break;
        case MINUS_INFINITY: x[i] = i % 3 ? normal : -INFINITY; break;
        default: x[i] = normal; break;
        }
    }
}

void fill_bytes(uint8_t *x, size_t n, uint32_t below, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, below, 1, 0);
    for (size_t i = 0; i < n; i++) x[i] = (uint8_t)kv_rng_below(&rng, below);
}

static uint32_t chosen = 1, cases;

void run_every(uint32_t every) { chosen = every; }

int is_due(void) { return cases++ % chosen == 0; }

const char *complain(const char *format, ...)
{
    static char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}
