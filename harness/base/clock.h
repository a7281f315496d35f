/* Monotonic time. */
#ifndef KVBENCH_BASE_CLOCK_H
#define KVBENCH_BASE_CLOCK_H

double kv_clock_seconds(void);

#endif
