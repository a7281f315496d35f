#include "methods/parts/angle.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* 0 <= t <= 1: halved three times, atan t = 2 atan(t / (1 + sqrt(1 + t^2))), which leaves at most
 * pi / 32; then the series, whose 9th term is below 1e-18. */
static double small_angle(double t)
{
    for (int i = 0; i < 3; i++) t /= 1.0 + sqrt(1.0 + t * t);
    const double t2 = t * t;
    double sum = 0;
    for (int k = 17; k >= 1; k -= 2) sum = 1.0 / k - sum * t2;
    return 8.0 * t * sum;
}

double kv_angle_of(double y, double x)
{
    const double across = fabs(x), up = fabs(y);
    if (!(across > 0) && !(up > 0)) return 0;
    double angle = up <= across ? small_angle(up / across) : PI / 2 - small_angle(across / up);
    if (x < 0) angle = PI - angle;
    if (y < 0) angle = 2 * PI - angle;
    return angle < 2 * PI ? angle : 0;
}
