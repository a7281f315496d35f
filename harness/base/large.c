/* Memory of large blocks; see large.h. */
#include "harness/base/large.h"

#include <stdlib.h>
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
