/* `trace record`: hands over to traces/record/record.py. */
#ifndef KVBENCH_RECORD_FRONT_H
#define KVBENCH_RECORD_FRONT_H

#include "harness/base/status.h"

/* Replaces this process by $PYTHON (or python3) with the recorder and argv; returns only when it
 * could not, with the reason. */
int kv_record_front(int argc, char **argv, struct kv_error *err);

#endif
