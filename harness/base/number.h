/* Numbers as people write them, in options and specs; no blanks. A reader that refuses leaves its result
 * alone and says nothing: the caller knows what was asked for. */
#ifndef KVBENCH_BASE_NUMBER_H
#define KVBENCH_BASE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* The digits at *at (no sign), of no more than `most`; steps over them. */
bool kv_read_digits(const char **at, uint64_t most, uint64_t *number);

/* Digits and nothing else, from least to most. */
bool kv_read_whole(const char *text, uint64_t least, uint64_t most, uint64_t *number);

/* One of a list such as "2,7-12", whose separator is a comma there: *range is its first and last number,
 * none above `most`, and *at steps over it and the separator. A list ends with a number. */
bool kv_read_range(const char **at, char separator, uint32_t most, uint32_t range[2]);

/* A finite decimal number with an optional sign and k, Ki, M, Mi, G, Gi, T or Ti. */
bool kv_read_real(const char *text, double *number);

#endif
