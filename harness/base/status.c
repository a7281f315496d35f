/* Status codes and error texts; see status.h. */
#include "harness/base/status.h"

#include <stdarg.h>
#include <stdio.h>

int kv_fail(struct kv_error *err, int status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return status;
}

int kv_exit_code(int status)
{
    if (status >= 0) return 0;
    if (status == KV_EINTERRUPTED) return 130;
    if (status == KV_EMEMORY) return -KV_EENVIRONMENT;
    if (status < KV_EENVIRONMENT) return -KV_ECELL;
    return -status;
}
