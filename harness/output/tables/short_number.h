/* Numbers that fit a column. */
#ifndef KVBENCH_HARNESS_SHORT_NUMBER_H
#define KVBENCH_HARNESS_SHORT_NUMBER_H

/* Three digits in at most seven characters: 0.0123, 1.23, 4.5e-7, "-" for NaN. */
void kv_short_real(char text[24], double value);
void kv_short_bytes(char text[24], double bytes);   /* 812, 1.31Ki, 14.2Mi, "-" */

#endif
