/* Exact references on disk: one file per (trace, layer, scored queries, isa, version) in
 * $KVBENCH_CACHE, $XDG_CACHE_HOME/kvbench or ~/.cache/kvbench. A file that is missing, torn or of
 * another shape is simply not there; failing to write is no error. */
#ifndef KVBENCH_HARNESS_REFERENCE_STORE_H
#define KVBENCH_HARNESS_REFERENCE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The file's path for a key of any length; false where no cache folder is named. */
bool kv_store_path(char *path, size_t capacity, const char *content_hash, const void *key,
                   size_t key_bytes);

/* Arrays one behind the other as the file holds them: its pages in the system's memory, and own copies of
 * those that are written to. */
struct kv_stored {
    void *arrays;              /* NULL: none */
    size_t bytes;
};

/* n arrays of the given sizes; false, and none, unless all is there and the checksum fits. */
bool kv_store_map(struct kv_stored *out, const char *path, const size_t *bytes, uint32_t n);
void kv_store_unmap(struct kv_stored *stored);
/* Writes aside and renames; makes the folder. */
void kv_store_save(const char *path, const void *const *arrays, const size_t *bytes, uint32_t n);

#endif
