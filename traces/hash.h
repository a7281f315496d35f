/* The content hash of a trace (schema.md): XXH3-128 over every object of the schema, in ascending
 * byte order of its key. Independent of layout, chunking, compression and order of writing. */
#ifndef KVBENCH_TRACES_HASH_H
#define KVBENCH_TRACES_HASH_H

#include "traces/h5.h"

enum { KV_HASH_TEXT = 38 };       /* "xxh3:", 32 digits and the terminator */

enum {
    KV_HASH_FINITE = 1, /* also look for NaN and infinity in every tensor: one pass for both */
    KV_HASH_SKIP = 2    /* and do not hash: text becomes empty */
};

int kv_hash_file(char text[KV_HASH_TEXT], const struct kv_h5 *file, unsigned what,
                 struct kv_error *err);

#endif
