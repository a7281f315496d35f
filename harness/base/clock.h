/* Time: monotonic, and what this process has had of the processors. */
#ifndef KVBENCH_BASE_CLOCK_H
#define KVBENCH_BASE_CLOCK_H

double kv_clock_seconds(void);
double kv_processor_seconds(void);

#endif
