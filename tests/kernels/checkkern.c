/* The kernel checker: every entry of every set that can run here, in TAP; --bench times them.
 *
 *     checkkern [--every N] [--against SET] [SET [ENTRY]]
 *                                 checks (SET: that one only, ENTRY: of that name only; N: one of N cases, a
 *                                 prime meets all values of each loop; against: instead of generic, for an
 *                                 emulator that has an instruction wrong)
 *     checkkern --bench [--csv]   times */
#include "tests/kernels/checkkern.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY(name) {#name, offsetof(struct kv_kernels, name), check_##name}

static const struct {
    const char *name;
    size_t offset;             /* of the function pointer */
    check_function *check;
} entries[] = {
    ENTRY(widen_half), ENTRY(widen_bfloat), ENTRY(narrow_half), ENTRY(narrow_bfloat), ENTRY(narrow_finite),
    ENTRY(pack_keys), ENTRY(logits), ENTRY(accumulate), ENTRY(ready_keys), ENTRY(ready_values),
    ENTRY(ready_logits), ENTRY(ready_sums), ENTRY(exp_sum), ENTRY(max), ENTRY(soften), ENTRY(soften_beside), ENTRY(scale),
    ENTRY(add_wide), ENTRY(spread_out), ENTRY(close_up), ENTRY(hide), ENTRY(softcap), ENTRY(dot), ENTRY(stripes), ENTRY(min_max), ENTRY(grid_encode), ENTRY(grid_row), ENTRY(grid_columns),
    ENTRY(encode_blocks), ENTRY(decode_blocks), ENTRY(minifloat_encode),
    ENTRY(minifloat_decode), ENTRY(fp4_encode), ENTRY(fp4_decode), ENTRY(grid_decode), ENTRY(channel_encode), ENTRY(channel_decode), ENTRY(channel_quotients), ENTRY(polar), ENTRY(polar_floats), ENTRY(near_angles),
    ENTRY(bucket), ENTRY(cell_codes), ENTRY(pack_cells), ENTRY(lookup), ENTRY(lookup_packed), ENTRY(pack_bits), ENTRY(unpack_bits), ENTRY(sign_bits), ENTRY(hadamard),
    ENTRY(rotate), ENTRY(project_signs), ENTRY(sum_squares), ENTRY(sum_magnitudes), ENTRY(sum_wide), ENTRY(add_errors), ENTRY(add_products), ENTRY(turn_rows), ENTRY(hadamard_squares), ENTRY(peak),
    ENTRY(issuing_peak), ENTRY(isolating_peak), ENTRY(look_up_peak), ENTRY(coding_peak),
};

enum { N_ENTRIES = sizeof entries / sizeof entries[0] };

/* Entries are all function pointers, behind isa and what is no function: none may be missing above. */
_Static_assert(sizeof(struct kv_kernels) ==
                   offsetof(struct kv_kernels, widen_half) + N_ENTRIES * sizeof(void (*)(void)),
               "a kernel without a check");

static char running[64];       /* for the signal handler */

static void on_fault(int number)
{
    static const char text[] = "Bail out! memory fault in ";
    const ssize_t written = write(1, text, sizeof text - 1) + write(1, running, strlen(running)) +
                            write(1, "\n", 1);
    _exit(written > 0 ? 2 : 3);
}

static int same_entry(const struct kv_kernels *a, const struct kv_kernels *b, size_t entry)
{
    return !memcmp((const char *)a + entries[entry].offset,
                   (const char *)b + entries[entry].offset, sizeof(void (*)(void)));
}

/* The set of that name over those below it; only generic when it is not to be had. */
static void fill_reference(struct kv_kernels *reference, const char *name)
{
    const struct kv_isa *last = kv_isa_list();
    while (last->name && strcmp(last->name, name)) last++;
    kv_isa_list()->set(reference);
    for (const struct kv_isa *isa = kv_isa_list(); last->name && isa <= last; isa++)
        if (isa->built && isa->runs) isa->set(reference);
}

/* Checks the entries that this set brings; counts tests and failures. */
static void check_set(const struct kv_isa *isa, const char *against, const char *only, int *tests,
                      int *failures)
{
    struct kv_kernels generic, reference, set;
    kv_isa_list()->set(&generic);
    fill_reference(&reference, against);
    set = generic;
    isa->set(&set);
    for (size_t i = 0; i < N_ENTRIES; i++) {
        if (isa != kv_isa_list() && same_entry(&set, &generic, i)) continue;
        if (only && strcmp(only, entries[i].name)) continue;
        snprintf(running, sizeof running, "%s of %s", entries[i].name, isa->name);
        const char *why = entries[i].check(&reference, &set);
        printf("%sok %d - %s %s", why ? "not " : "", ++*tests, isa->name, entries[i].name);
        printf(why ? ": %s\n" : "\n", why);
        fflush(stdout);
        *failures += why != NULL;
    }
}

int main(int argc, char **argv)
{
    const char *against = "generic";
    for (; argc > 2 && (!strcmp(argv[1], "--every") || !strcmp(argv[1], "--against")); argv += 2, argc -= 2) {
        if (!strcmp(argv[1], "--against")) against = argv[2];
        else if (atoi(argv[2]) > 0) run_every((uint32_t)atoi(argv[2]));
    }
    const int bench = argc > 1 && !strcmp(argv[1], "--bench");
    const char *only = argc > 1 && !bench ? argv[1] : NULL, *entry = only && argc > 2 ? argv[2] : NULL;
    if (bench) {
        bench_all(argc > 2 && !strcmp(argv[2], "--csv"));
        return 0;
    }
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    int tests = 0, failures = 0;
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++) {
        if (only && strcmp(only, isa->name)) continue;
        if (isa->built && isa->runs) check_set(isa, against, entry, &tests, &failures);
        else
            printf("ok %d - %s # SKIP %s\n", ++tests, isa->name,
                   isa->built ? "cannot run on this CPU" : "not built");
    }
    printf("1..%d\n", tests);
    return failures != 0;
}
