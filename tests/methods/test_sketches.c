/* QJL's estimator and the PolarQuants against their laws. */
#include "tests/methods/codec_fixture.h"

#include <math.h>
#include <stdlib.h>

enum { DIM = 128, N = 3200, PROBES = 64 };

struct relation {
    double error,
        slope; /* m times the squared error of <y, x> over (|x| |y|)^2; of <x, x_hat> on |x|^2 */
};

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (int c = 0; c < DIM; c++) sum += (double)a[c] * b[c];
    return sum;
}

static struct relation relate(const char *spec, double signs)
{
    struct fixture f;
    struct relation relation = {0};
    float *rows = malloc(N * DIM * sizeof *rows), *decoded = malloc(N * DIM * sizeof *decoded);
    float *probes = malloc(PROBES * DIM * sizeof *probes);
    double along = 0, square = 0;
    fill_normal(rows, N * DIM, 1);
    fill_normal(probes, PROBES * DIM, 2);
    open_codec(&f, spec, DIM, KV_KEYS);
    round_trip(&f, rows, N, decoded);
    for (int i = 0; i < N; i++) {
        const float *x = rows + i * DIM, *x_hat = decoded + i * DIM;
        along += dot(x, x_hat), square += dot(x, x);
        for (int k = 0; k < 8; k++) {
            const float *y = probes + (i * 8 + k) % PROBES * DIM;
            const double off = dot(y, x_hat) - dot(y, x);
            relation.error += signs * off * off / (dot(x, x) * dot(y, y)) / N / 8;
        }
    }
    relation.slope = along / square;
    close_codec(&f);
    free(rows);
    free(decoded);
    free(probes);
    return relation;
}

/* Unbiased; variance pi / 2 of Gaussian rows, less of orthogonal ones (computed apart for m = d, 2
 * d: .577, .565). One matrix, and few vectors y: 8 %. */
Test(sketches, qjl_is_unbiased_and_as_noisy_as_computed)
{
    static const struct {
        const char *spec;
        double signs, error;
    } known[] = {
        {"qjl:outliers=0:initial_layers=0:bits=1:sketch=gaussian", DIM, 1.5708},
        {"qjl:outliers=0:initial_layers=0:bits=1", DIM, .577},
        {"qjl:outliers=0:initial_layers=0:bits=2", 2 * DIM, .565},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct relation found = relate(known[i].spec, known[i].signs);
        cr_expect(fabs(found.error / known[i].error - 1) < .08, "%s: %.4g, expected %.4g",
                  known[i].spec, found.error, known[i].error);
        cr_expect_float_eq(found.slope, 1, .02, "%s: slope %.4f", known[i].spec, found.slope);
    }
}

/* 3.875 bits, .0321 of normal rows (computed apart); as many bytes as the paper's, padding charged.
 */
Test(sketches, polar_han_errs_as_computed)
{
    struct fixture f;
    cr_expect_float_eq(nmse("polar-han", DIM, KV_KEYS, 6000) / .0321, 1, .01);
    open_codec(&f, "polar-han", 80, KV_KEYS);
    cr_expect_eq(f.code->payload_bytes, 5 * 4 + 9);
    cr_expect_eq(f.code->metadata_bytes, 2 * 5);
    close_codec(&f);
}

/* 4.25 bits at 4 and 4 bits in groups of 128, at d = 128; an odd column is a pair of its own. */
Test(sketches, bytes_of_polar_wu_and_qjl)
{
    struct fixture f;
    open_codec(&f, "polar-wu", DIM, KV_KEYS);
    cr_expect_eq(8 * (f.code->payload_bytes + f.code->metadata_bytes) * 100 / (DIM * 128), 425);
    close_codec(&f);
    open_codec(&f, "polar-wu", 5, KV_KEYS);
    cr_expect_eq(f.code->metadata_bytes, 8 * 3);
    close_codec(&f);
    /* 256 + 256 signs and two lengths a token, 8 indices a group of 32: 4.27 bits. */
    open_codec(&f, "qjl:initial_layers=0", DIM, KV_KEYS);
    cr_expect_eq(f.code->payload_bytes, 32 * 64);
    cr_expect_eq(f.code->metadata_bytes, 32 * 4 + 8);
    close_codec(&f);
    open_codec(&f, "qjl", DIM, KV_KEYS); /* layer 0 is one of the first 15: 5.27 bits */
    cr_expect_eq(f.code->payload_bytes, 32 * (64 + 16));
    close_codec(&f);
}
