/* Elementary functions that give the same bits on every machine: libm's differ in the last place.
 * Good to a few units in the last place, which the 16-bit words they end in do not show. */
#ifndef KVBENCH_TRACES_PORTABLE_H
#define KVBENCH_TRACES_PORTABLE_H

double kv_portable_exp(double x);         /* 0 below -700; x at most 700 */
double kv_portable_log(double x);         /* x > 0 */
double kv_portable_tanh(double x);
void kv_portable_sincos(double x, double *sine, double *cosine);   /* |x| below 2^40 */

#endif
