/* The Hadamard transforms of 64 and 128 floats by themselves: of the x86 sets, each with a
 * transform_64, a transform_128 and squares_of_128 of its own, and its way beyond them. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORMS_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORMS_H

/* Each on its own: compilers move loads that two branches share in front of both, and out of the
 * registers. */
#define ALONE static __attribute__((noinline, aligned(64))) void

static void KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n);

ALONE KERNEL(plain_64)(const float *x, float *out, size_t rows)
{
    for (; rows; rows--, x += 64, out += 64) transform_64((struct transform){x, NULL, out}, 0);
}

ALONE KERNEL(scaled_64)(const float *x, const float *factors, float *out, size_t rows)
{
    for (; rows; rows--, x += 64, out += 64) transform_64((struct transform){x, factors, out}, 1);
}

ALONE KERNEL(plain_128)(const float *x, float *out, size_t rows)
{
    for (; rows; rows--, x += 128, out += 128) transform_128((struct transform){x, NULL, out}, 0);
}

ALONE KERNEL(scaled_128)(const float *x, const float *factors, float *out, size_t rows)
{
    for (; rows; rows--, x += 128, out += 128) transform_128((struct transform){x, factors, out}, 1);
}

ALONE KERNEL(measured_128)(const float *x, const float *factors, float *out, size_t rows, float *squares)
{
    for (; rows; rows--, x += 128, out += 128) {
        const __m256 sums = squares_of_128(x);
        transform_128((struct transform){x, factors, out}, 1);
        *squares++ = sum_eight(sums);
    }
}

static void KERNEL(hadamard_far)(const float *x, const float *factors, float *out, size_t n, size_t rows)
{
    if (n > 128)
        for (; rows; rows--, x += n, out += n) KERNEL(hadamard_blocks)(x, factors, out, n);
    else if (n < 64)
        KERNEL(hadamard)(x, factors, out, n, rows);
    else if (factors)
        (n == 64 ? KERNEL(scaled_64) : KERNEL(scaled_128))(x, factors, out, rows);
    else
        (n == 64 ? KERNEL(plain_64) : KERNEL(plain_128))(x, out, rows);
}

static void KERNEL(hadamard_far_squares)(const float *x, const float *factors, float *out, size_t n, size_t rows,
                                         float *squares)
{
    if (n == 128 && factors) {
        KERNEL(measured_128)(x, factors, out, rows, squares);
        return;
    }
    KERNEL(hadamard_far)(x, factors, out, n, rows);
    for (size_t r = 0; r < rows; r++) squares[r] = KERNEL(sum_squares)(x + r * n, n);
}

#endif
