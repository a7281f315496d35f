#include "methods/parts/rotation.h"

#include <math.h>
#include <stdlib.h>

#include "harness/base/sums.h"

enum { LARGEST_HADAMARD = 4096 };

static int make_signs(struct kv_rotation *rotation, const struct kv_setup *setup,
                      struct kv_rng *rng, struct kv_error *err)
{
    const uint32_t n = rotation->n;
    if (n & (n - 1) || n > LARGEST_HADAMARD)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "rotation=hadamard: rows of %u columns are not a power of two up to %d", n,
                       LARGEST_HADAMARD);
    rotation->signs = kv_pool_reserve(setup->pool, KV_WORKSPACE, n * sizeof(float));
    if (!rotation->signs) return kv_fail(err, KV_EMEMORY, "no memory for %u signs", n);
    const float size = (float)(1.0 / sqrt(n));
    for (uint32_t i = 0; i < n; i++) rotation->signs[i] = kv_rng_word(rng) & 1 ? size : -size;
    return KV_OK;
}

/* Gram-Schmidt by rows, each finished row taken off all that follow (the modified order: enough,
 * since a Gaussian matrix is well conditioned). Dividing by the positive length makes it Haar
 * (Mezzadri, arXiv math-ph/0609050). */
static void orthonormalise(double *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double *row = rows + (size_t)i * n;
        const double inverse = 1.0 / sqrt(kv_dot(row, row, n));
        for (uint32_t c = 0; c < n; c++) row[c] *= inverse;
        for (uint32_t j = i + 1; j < n; j++) {
            double *other = rows + (size_t)j * n;
            const double share = kv_dot(row, other, n);
            for (uint32_t c = 0; c < n; c++) other[c] -= share * row[c];
        }
    }
}

static int make_matrix(struct kv_rotation *rotation, const struct kv_setup *setup,
                       struct kv_rng *rng, struct kv_error *err)
{
    const uint32_t n = rotation->n;
    const size_t size = (size_t)n * n;
    double *rows = malloc(size * sizeof *rows);
    rotation->matrix = kv_pool_reserve(setup->pool, KV_WORKSPACE, size * sizeof(float));
    rotation->transpose = kv_pool_reserve(setup->pool, KV_WORKSPACE, size * sizeof(float));
    if (!rows || !rotation->matrix || !rotation->transpose) {
        free(rows);
        return kv_fail(err, KV_EMEMORY, "no memory for a rotation of %u columns", n);
    }
    for (size_t i = 0; i < size; i++) rows[i] = kv_rng_normal(rng);
    if (rotation->kind == KV_ROTATE_HAAR) orthonormalise(rows, n);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < n; c++) {
            const float value = (float)rows[(size_t)r * n + c];
            rotation->matrix[(size_t)r * n + c] = rotation->transpose[(size_t)c * n + r] = value;
        }
    free(rows);
    return KV_OK;
}

int kv_rotation_create(struct kv_rotation *rotation, const struct kv_setup *setup, uint32_t n,
                       enum kv_rotation_kind kind, struct kv_rng rng, struct kv_error *err)
{
    *rotation = (struct kv_rotation){.kernels = setup->kernels, .kind = kind, .n = n};
    if (kind == KV_ROTATE_HADAMARD) return make_signs(rotation, setup, &rng, err);
    return setup->sizes_only ? KV_OK : make_matrix(rotation, setup, &rng, err);
}

/* The kernel takes a matrix by columns: our rows are the columns of the transpose. */
void kv_rotation_apply(const struct kv_rotation *rotation, const float *x, float *out)
{
    const uint32_t n = rotation->n;
    if (rotation->kind != KV_ROTATE_HADAMARD) {
        rotation->kernels->rotate(rotation->transpose, n, n, x, out);
        return;
    }
    if (n > 1)
        rotation->kernels->hadamard(x, rotation->signs, out, n, 1);
    else
        out[0] = x[0] * rotation->signs[0];
}

void kv_rotation_apply_measured(const struct kv_rotation *rotation, const float *x, uint32_t rows, float *out,
                                float *squares)
{
    const uint32_t n = rotation->n;
    if (rotation->kind == KV_ROTATE_HADAMARD && n > 1) {
        rotation->kernels->hadamard_squares(x, rotation->signs, out, n, rows, squares);
        return;
    }
    for (uint32_t r = 0; r < rows; r++, x += n, out += n) {
        kv_rotation_apply(rotation, x, out);
        squares[r] = rotation->kernels->sum_squares(x, n);
    }
}

void kv_rotation_undo(const struct kv_rotation *rotation, const float *x, float *out)
{
    const uint32_t n = rotation->n;
    if (rotation->kind != KV_ROTATE_HADAMARD) {
        rotation->kernels->rotate(rotation->matrix, n, n, x, out);
        return;
    }
    if (n > 1)
        rotation->kernels->hadamard(x, NULL, out, n, 1);
    else
        out[0] = x[0];
    for (uint32_t i = 0; i < n; i++) out[i] *= rotation->signs[i];
}
