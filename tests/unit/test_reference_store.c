/* Exact references on disk: what is kept is there again, what was changed is not. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/replay/reference_store.h"

enum { ARRAYS = 3, FLOATS = 3000 };

static char folder[64], path[4096];
static float answers[FLOATS], sums[7];
static double energy = 2.385;
static const size_t bytes[ARRAYS] = {sizeof answers, sizeof sums, sizeof energy};

/* A name in a folder that is not there yet, of one that is new. */
static void begin(void)
{
    char own[96];
    snprintf(folder, sizeof folder, "/tmp/kvbench-store-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(own, sizeof own, "%s/cache", folder);
    setenv("KVBENCH_CACHE", own, 1);
    cr_assert(kv_store_path(path, sizeof path, "xxh3:12ab", "key", 3));
    for (int i = 0; i < FLOATS; i++) answers[i] = (float)i * 0.37f;
    for (int i = 0; i < 7; i++) sums[i] = 1.0f / (float)(i + 3);
}

static void end(void)
{
    char own[96];
    snprintf(own, sizeof own, "%s/cache", folder);
    unlink(path);
    rmdir(own);
    rmdir(folder);
}

static void save(void)
{
    const void *const arrays[ARRAYS] = {answers, sums, &energy};
    kv_store_save(path, arrays, bytes, ARRAYS);
}

static void change_byte(long at)
{
    FILE *file = fopen(path, "r+b");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, at, SEEK_SET), 0);
    const int byte = fgetc(file);
    cr_assert_eq(fseek(file, at, SEEK_SET), 0);
    fputc(byte ^ 4, file);
    fclose(file);
}

static bool found(void)
{
    struct kv_stored stored;
    const bool there = kv_store_map(&stored, path, bytes, ARRAYS);
    if (there) kv_store_unmap(&stored);
    return there;
}

TestSuite(reference_store, .init = begin, .fini = end);

Test(reference_store, a_look_makes_no_folder_and_keeping_makes_it)
{
    char own[96];
    snprintf(own, sizeof own, "%s/cache", folder);
    cr_expect_not(found());
    cr_expect_neq(access(own, F_OK), 0);
    save();
    cr_expect(found());
}

Test(reference_store, what_was_kept_is_there_again)
{
    struct kv_stored stored;
    save();
    cr_assert(kv_store_map(&stored, path, bytes, ARRAYS));
    const char *at = stored.arrays;
    cr_expect_eq(memcmp(at, answers, sizeof answers), 0);
    cr_expect_eq(memcmp(at + sizeof answers, sums, sizeof sums), 0);
    cr_expect_eq(memcmp(at + sizeof answers + sizeof sums, &energy, sizeof energy), 0);
    kv_store_unmap(&stored);
}

Test(reference_store, one_changed_bit_anywhere_is_seen)
{
    const long all = (long)(sizeof answers + sizeof sums + sizeof energy + sizeof(uint64_t));
    save();
    for (long at = 0; at < all; at += all / 13) {
        change_byte(at);
        cr_expect_not(found(), "byte %ld", at);
        change_byte(at);
    }
    cr_expect(found());
}

Test(reference_store, a_torn_file_is_not_there)
{
    save();
    cr_assert_eq(truncate(path, sizeof answers), 0);
    cr_expect_not(found());
}
