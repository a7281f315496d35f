/* What HDF5 says of a failure; see h5_reason.h. */
#include "traces/h5_reason.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

/* HDF5's own account of the innermost failure; the system's words where it quotes them. */
static herr_t keep_first(unsigned n, const H5E_error2_t *error, void *text)
{
    static const char quote[] = "error message = '";
    if (n > 0 || !error->desc) return 0;
    const char *system = strstr(error->desc, quote);
    if (system) snprintf(text, 128, "%.*s", (int)strcspn(system + sizeof quote - 1, "'"),
                         system + sizeof quote - 1);
    else snprintf(text, 128, "%s", error->desc);
    return 0;
}

void kv_h5_reason(char text[128])
{
    snprintf(text, 128, "no reason given");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, text);
}
