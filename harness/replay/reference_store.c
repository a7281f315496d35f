/* References on disk; see reference_store.h. */
#include "harness/replay/reference_store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Compiled with this file, and read a page ahead: a file's pages lie anywhere, and where one ends the processor
 * does not look ahead by itself. */
#define XXH_INLINE_ALL
#define XXH_PREFETCH_DIST 4096
#include <xxhash.h>

static bool cache_folder(char *path, size_t capacity)
{
    const char *own = getenv("KVBENCH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (own) length = snprintf(path, capacity, "%s", own);
    else if (xdg && *xdg) length = snprintf(path, capacity, "%s/kvbench", xdg);
    else if (home && *home) length = snprintf(path, capacity, "%s/.cache/kvbench", home);
    return length > 0 && (size_t)length < capacity;
}

/* Those that lead to the file. */
static bool make_folders(char *file)
{
    for (char *slash = strchr(file + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        const int made = mkdir(file, 0777);
        *slash = '/';
        if (made != 0 && errno != EEXIST) return false;
    }
    return true;
}

bool kv_store_path(char *path, size_t capacity, const char *content_hash, const void *key,
                   size_t key_bytes)
{
    char folder[3000];
    if (!content_hash || !cache_folder(folder, sizeof folder)) return false;
    const char *digits = strchr(content_hash, ':');
    const int length = snprintf(path, capacity, "%s/%s-%016llx.ref", folder,
                                digits ? digits + 1 : content_hash,
                                (unsigned long long)XXH3_64bits(key, key_bytes));
    return length > 0 && (size_t)length < capacity;
}

static uint64_t checksum(const void *const *arrays, const size_t *bytes, uint32_t n)
{
    uint64_t sum = n;
    for (uint32_t i = 0; i < n; i++) sum = XXH3_64bits_withSeed(arrays[i], bytes[i], sum);
    return sum;
}

/* The whole file, if it is of that size; its pages are there already when it was read of late. */
static void *map_file(const char *path, size_t size)
{
    const int file = open(path, O_RDONLY);
    struct stat found;
    if (file < 0) return NULL;
    void *map = MAP_FAILED;
    if (fstat(file, &found) == 0 && (uint64_t)found.st_size == size)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    close(file);
    if (map == MAP_FAILED) return NULL;
#ifdef MADV_POPULATE_READ
    madvise(map, size, MADV_POPULATE_READ); /* advice: no matter if refused */
#endif
    return map;
}

bool kv_store_map(struct kv_stored *out, const char *path, const size_t *bytes, uint32_t n)
{
    enum { MOST = 8 };
    const void *arrays[MOST];
    uint64_t stored;
    size_t all = 0;
    assert(n <= MOST);
    for (uint32_t i = 0; i < n; i++) all += bytes[i];
    char *map = map_file(path, all + sizeof stored);
    *out = (struct kv_stored){map, all + sizeof stored};
    if (!map) return false;
    for (uint32_t i = 0; i < n; i++, map += bytes[i - 1]) arrays[i] = map;
    memcpy(&stored, map, sizeof stored);
    const bool whole = stored == checksum(arrays, bytes, n);
    if (!whole) kv_store_unmap(out);
    return whole;
}

void kv_store_unmap(struct kv_stored *stored)
{
    if (stored->arrays) munmap(stored->arrays, stored->bytes);
    stored->arrays = NULL;
}

void kv_store_save(const char *path, const void *const *arrays, const size_t *bytes, uint32_t n)
{
    char aside[4200];
    snprintf(aside, sizeof aside, "%s.%ld", path, (long)getpid());
    FILE *file = make_folders(aside) ? fopen(aside, "wb") : NULL;
    if (!file) return;
    bool whole = true;
    for (uint32_t i = 0; whole && i < n; i++)
        whole = bytes[i] == 0 || fwrite(arrays[i], bytes[i], 1, file) == 1;
    const uint64_t sum = checksum(arrays, bytes, n);
    whole = whole && fwrite(&sum, sizeof sum, 1, file) == 1;
    whole = fclose(file) == 0 && whole;
    if (!whole || rename(aside, path) != 0) unlink(aside);
}
