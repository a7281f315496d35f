/* References on disk; see reference_store.h. */
#include "harness/replay/reference_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
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

static bool make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        const int made = mkdir(path, 0777);
        *slash = '/';
        if (made != 0 && errno != EEXIST) return false;
    }
    return mkdir(path, 0777) == 0 || errno == EEXIST;
}

bool kv_store_path(char *path, size_t capacity, const char *content_hash, const void *key,
                   size_t key_bytes)
{
    char folder[3000];
    if (!content_hash || !cache_folder(folder, sizeof folder) || !make_folders(folder)) return false;
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

bool kv_store_load(const char *path, void *const *arrays, const size_t *bytes, uint32_t n)
{
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    bool whole = true;
    for (uint32_t i = 0; whole && i < n; i++)
        whole = bytes[i] == 0 || fread(arrays[i], bytes[i], 1, file) == 1;
    uint64_t stored = 0;
    whole = whole && fread(&stored, sizeof stored, 1, file) == 1 && fgetc(file) == EOF;
    fclose(file);
    return whole && stored == checksum((const void *const *)arrays, bytes, n);
}

void kv_store_save(const char *path, const void *const *arrays, const size_t *bytes, uint32_t n)
{
    char aside[4200];
    snprintf(aside, sizeof aside, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(aside, "wb");
    if (!file) return;
    bool whole = true;
    for (uint32_t i = 0; whole && i < n; i++)
        whole = bytes[i] == 0 || fwrite(arrays[i], bytes[i], 1, file) == 1;
    const uint64_t sum = checksum(arrays, bytes, n);
    whole = whole && fwrite(&sum, sizeof sum, 1, file) == 1;
    whole = fclose(file) == 0 && whole;
    if (!whole || rename(aside, path) != 0) unlink(aside);
}
