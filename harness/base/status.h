/* Status codes and the one error text that travels up with them.
 *
 * A function that can fail returns KV_OK or a negative enum kv_status and fills the text once, where
 * the failure is known; callers hand it on untouched and main prints it. A message names the file,
 * the object, what was expected and what was found. */
#ifndef KVBENCH_BASE_STATUS_H
#define KVBENCH_BASE_STATUS_H

enum kv_status {
    KV_OK = 0,
    KV_EGATE = -1,        /* a gate failed: compare, check, reproduce            exit 1 */
    KV_EUSAGE = -2,       /* unknown option, method or parameter, value range    exit 2 */
    KV_EINPUT = -3,       /* an input file is bad                                exit 3 */
    KV_ECELL = -4,        /* some cells failed; their rows say which             exit 4 */
    KV_EENVIRONMENT = -5, /* no space, cannot write, isa not available           exit 5 */
    KV_EUNSUPPORTED = -6, /* this method cannot run on this trace: a row with a reason  */
    KV_EMEMORY = -7,      /* out of memory: a row with a reason, or before any row   exit 5 */
    KV_ETIMEOUT = -8,     /* the cell's time is over: a row with a reason               */
    KV_EINTERRUPTED = -9, /* Ctrl-C                                           exit 130 */
    KV_ESKIPPED = -10     /* the trace lacks what the method asks for: a row with a reason   */
};

struct kv_error {
    char text[512];
};

/* Writes the text (err may be NULL) and returns status, so that `return kv_fail(...)` is one line. */
int kv_fail(struct kv_error *err, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The process exit code (cli.md section 6) that belongs to a status. */
int kv_exit_code(int status);

#endif
