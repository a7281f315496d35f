/* Memory of large blocks; see large.h. */
#include "harness/base/large.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { LINE = 64, HUGE_PAGE = 1 << 21 };

void *kv_large_alloc(size_t bytes)
{
    const size_t rounded = (bytes + LINE - 1) / LINE * LINE;
    void *block = aligned_alloc(rounded < HUGE_PAGE ? LINE : HUGE_PAGE, rounded ? rounded : LINE);
#ifdef MADV_HUGEPAGE
    if (block && rounded >= HUGE_PAGE)
        madvise(block, rounded / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* advice: no matter if refused */
#endif
    return block;
}
