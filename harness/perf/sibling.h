/* Whether the other hardware thread of a core is at work, told from this one: on rented machines it is somebody
 * else's, and no count of this system's shows it.
 *
 * Cores that run two threads split the instructions they keep in flight, the reorder buffer's, into halves while both
 * work. Two loads that miss every cache overlap where no more instructions than that lie between them, and wait for
 * one another otherwise (after H. Wong, Measuring Reorder Buffer Capacity, 2013). Two loads overlap over 7/16 of the
 * documented buffer and not over 9/16: it is in halves. */
#ifndef KVBENCH_HARNESS_PERF_SIBLING_H
#define KVBENCH_HARNESS_PERF_SIBLING_H

#include <stdint.h>

enum { KV_SIBLING_CORES = 8 };

struct kv_sibling {
    void **lines;                           /* each holds the place of another, far away */
    void **at[KV_SIBLING_CORES][2];         /* where a thread of ours is on its two ways through them */
    uint32_t window;                        /* instructions in flight of a core with one thread; 0: not known */
};

/* window 0 where this cannot be told: cores that are not in the table of sibling.c, or no memory. */
void kv_sibling_create(struct kv_sibling *sibling);
void kv_sibling_free(struct kv_sibling *sibling);

/* Of the cores that `threads` threads of ours run on (at most KV_SIBLING_CORES), the share whose other thread is at
 * work, in some 40 microseconds; NaN where window is 0. */
double kv_sibling_look(struct kv_sibling *sibling, int threads);

#endif
