/* Exact references on disk: one file per (trace, layer, scored queries, isa, version) in
 * $KVBENCH_CACHE, $XDG_CACHE_HOME/kvbench or ~/.cache/kvbench. A file that is missing, torn or of
 * another shape is simply not there; failing to write is no error. */
#ifndef KVBENCH_HARNESS_REFERENCE_STORE_H
#define KVBENCH_HARNESS_REFERENCE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The file's path for a key of any length; false without a cache folder. */
bool kv_store_path(char *path, size_t capacity, const char *content_hash, const void *key,
                   size_t key_bytes);

/* Reads exactly n arrays of the given sizes; false unless all is there and the checksum fits. */
bool kv_store_load(const char *path, void *const *arrays, const size_t *bytes, uint32_t n);
/* Writes aside and renames. */
void kv_store_save(const char *path, const void *const *arrays, const size_t *bytes, uint32_t n);

#endif
