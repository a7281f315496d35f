/* Memory of large blocks. */
#ifndef KVBENCH_HARNESS_BASE_LARGE_H
#define KVBENCH_HARNESS_BASE_LARGE_H

#include <stddef.h>

/* As aligned_alloc at 64 bytes; blocks of a huge page and more lie on huge pages where the system has
 * some to give: a sweep passes over more small ones than the first table of addresses holds, and
 * small ones far apart share sets of L2. Freed by free. */
void *kv_large_alloc(size_t bytes);

#endif
