/* Memory of large blocks; see large.h. */
#include "harness/base/large.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE = 64, HUGE_PAGE = 1 << 21 };

void *kv_large_alloc(size_t bytes)
{
    const size_t rounded = (bytes + LINE - 1) / LINE * LINE;
    void *block;
    if (posix_memalign(&block, rounded < HUGE_PAGE ? LINE : HUGE_PAGE, rounded ? rounded : LINE))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (rounded >= HUGE_PAGE)
        madvise(block, rounded / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* advice: no matter if refused */
#endif
    return block;
}

/* Whether the pages are gone: the next to read them finds zeros. */
static bool drop_pages(void *block, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    return bytes && !madvise(block, bytes, MADV_DONTNEED);
#else
    return (void)block, (void)bytes, false;
#endif
}

void *kv_large_zeros(size_t bytes)
{
    char *block = kv_large_alloc(bytes);
    const size_t whole = bytes / HUGE_PAGE * HUGE_PAGE, dropped = block && drop_pages(block, whole) ? whole : 0;
    if (block) memset(block + dropped, 0, bytes - dropped);
    return block;
}
