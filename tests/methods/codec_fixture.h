/* A codec made from a spec, alone, and what tests of codecs ask of it. */
#ifndef KVBENCH_TESTS_METHODS_CODEC_FIXTURE_H
#define KVBENCH_TESTS_METHODS_CODEC_FIXTURE_H

#include <criterion/criterion.h>

#include "harness/base/rng.h"
#include "methods/spec/spec.h"

struct fixture {
    struct kv_pool *pool;
    struct kv_geometry geometry;
    struct kv_kernels kernels;
    struct kv_spec_list specs;
    struct kv_code *code;
    struct kv_error err;
};

/* What create returned; a spec that does not parse is a failed test. spec "" is the default codec.
 */
int try_codec(struct fixture *fixture, const char *spec, uint32_t dim, enum kv_side side,
              const char *isa);
/* The same, and anything but KV_OK is a failed test. */
void open_codec(struct fixture *fixture, const char *spec, uint32_t dim, enum kv_side side);
void close_codec(struct fixture *fixture);

/* Calls fit, where there is one, with these rows, repeated until they are enough for any rank here. */
void fit_codec(struct fixture *fixture, const float *rows, uint32_t n);

/* n standard normal values, the same each time. */
void fill_normal(float *values, size_t n, uint32_t stream);

/* rows [n][dim] there and back; n a multiple of the block. */
void round_trip(struct fixture *fixture, const float *rows, uint32_t n, float *decoded);

/* Sum of squared errors over the sum of squares of n normal rows. */
double nmse(const char *spec, uint32_t dim, enum kv_side side, uint32_t n);

#endif
