/* binary16 and bfloat16 to and from float: scalar, table-free, exact; narrowing rounds to nearest
 * even, overflows to infinity, keeps subnormals and NaN (IEEE 754-2019 section 4.3.1). */
#ifndef KVBENCH_BASE_HALF_H
#define KVBENCH_BASE_HALF_H

#include <stdint.h>

float kv_half_to_float(uint16_t half);
uint16_t kv_float_to_half(float value);
float kv_bfloat_to_float(uint16_t bfloat);
uint16_t kv_float_to_bfloat(float value);

#endif
