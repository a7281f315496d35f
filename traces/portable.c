/* See portable.h. frexp, ldexp and sqrt are exact by definition. */
#include "traces/portable.h"

#include <math.h>
#include <stdint.h>

static const double ln2 = 0.69314718055994530942, two_pi = 6.28318530717958647693;

static double nearest_integer(double x) { return (double)(int64_t)(x + (x < 0 ? -0.5 : 0.5)); }

double kv_portable_exp(double x)
{
    if (x < -700) return 0;
    /* |r| <= ln2 / 2: the term r^14 / 14! is below 1e-17. */
    const double k = nearest_integer(x / ln2), r = x - k * ln2;
    double sum = 1;
    for (int n = 14; n >= 1; n--) sum = 1 + sum * r / n;
    return ldexp(sum, (int)k);
}

double kv_portable_log(double x)
{
    /* log m = 2 atanh z with m in [0.5, 1), |z| <= 1/3; 16 terms leave less than 3^-33. */
    int exponent;
    const double m = frexp(x, &exponent), z = (m - 1) / (m + 1), z2 = z * z;
    double sum = 0;
    for (int n = 31; n >= 1; n -= 2) sum = sum * z2 + 1.0 / n;
    return 2 * z * sum + exponent * ln2;
}

double kv_portable_tanh(double x)
{
    if (x > 20) return 1;
    if (x < -20) return -1;
    return 1 - 2 / (kv_portable_exp(2 * x) + 1);
}

void kv_portable_sincos(double x, double *sine, double *cosine)
{
    /* |r| <= pi: the first term left out is pi^28 / 28! < 1e-15. */
    const double r = x - nearest_integer(x / two_pi) * two_pi, r2 = r * r;
    double s = 1, c = 1;
    for (int n = 26; n >= 2; n -= 2) {
        s = 1 - s * r2 / (n * (n + 1));
        c = 1 - c * r2 / (n * (n - 1));
    }
    *sine = s * r;
    *cosine = c;
}
