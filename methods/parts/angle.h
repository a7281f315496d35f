/* Angles without libm, whose last place differs between CPUs and versions: codes must not. */
#ifndef KVBENCH_METHODS_PARTS_ANGLE_H
#define KVBENCH_METHODS_PARTS_ANGLE_H

#include "methods/rotary.h" /* kv_cos_sin, the way back */

/* atan2(y, x) in [0, 2 pi), to about 1e-15; 0 where both are 0. */
double kv_angle_of(double y, double x);

#endif
