/* Rotary positions; see rotary.h. cos and sin are computed here rather than by libm, whose last place
 * differs between CPUs: unrotated keys decide codes, and codes must not depend on the CPU. */
#include "methods/rotary.h"

#include <math.h>

/* Reduced to [-pi/4, pi/4] by pi/2 in two parts
 * (Cody and Waite), then Taylor series whose next term is below 2^-53. */
void kv_cos_sin(double angle, double *cosine, double *sine)
{
    const double turns = floor(angle * 0.63661977236758134308 + 0.5);
    const double x = angle - turns * 1.5707963267341256 - turns * 6.0771005065061922e-11;
    const double x2 = x * x;
    double c = 0.0, s = 0.0;
    for (int n = 18; n >= 2; n -= 2) {
        c = (1.0 - c) * x2 / (double)(n * (n - 1));
        s = (1.0 - s) * x2 / (double)(n * (n + 1));
    }
    c = 1.0 - c;
    s = (1.0 - s) * x;
    switch ((int)fmod(turns, 4.0) & 3) {
    case 0: *cosine = c, *sine = s; break;
    case 1: *cosine = -s, *sine = c; break;
    case 2: *cosine = -c, *sine = -s; break;
    default: *cosine = s, *sine = -c; break;
    }
}

bool kv_rotary_create(struct kv_rotary *rotary, const struct kv_geometry *geometry,
                      struct kv_pool *pool)
{
    const uint32_t half = geometry->rope.dims / 2;
    const size_t bytes = (size_t)geometry->tokens * half * sizeof(float);
    rotary->rope = &geometry->rope;
    rotary->cosine = kv_pool_take(pool, bytes);
    rotary->sine = kv_pool_take(pool, bytes);
    if (!rotary->cosine || !rotary->sine) return false;
    for (uint32_t t = 0; t < geometry->tokens; t++)
        for (uint32_t i = 0; i < half; i++) {
            double cosine, sine;
            kv_cos_sin((double)geometry->positions[t] * geometry->rope.inv_freq[i], &cosine, &sine);
            rotary->cosine[(size_t)t * half + i] = (float)(cosine * geometry->rope.scale);
            rotary->sine[(size_t)t * half + i] = (float)(sine * geometry->rope.scale);
        }
    return true;
}

/* x' = (x c - y s, x s + y c) for each pair; the inverse has -s and divides by c^2 + s^2 = scale^2. */
static void turn(const struct kv_rotary *rotary, uint32_t token, float *key, float direction,
                 float factor)
{
    const uint32_t half = rotary->rope->dims / 2;
    const float *cosine = rotary->cosine + (size_t)token * half;
    const float *sine = rotary->sine + (size_t)token * half;
    const bool interleaved = rotary->rope->layout == KV_ROPE_INTERLEAVED;
    for (uint32_t i = 0; i < half; i++) {
        float *x = key + (interleaved ? 2 * i : i), *y = key + (interleaved ? 2 * i + 1 : i + half);
        const float c = cosine[i] * factor, s = sine[i] * factor * direction, first = *x;
        *x = first * c - *y * s;
        *y = first * s + *y * c;
    }
}

void kv_rotary_undo(const struct kv_rotary *rotary, uint32_t token, float *key)
{
    const double scale = rotary->rope->scale;
    turn(rotary, token, key, -1.0f, (float)(1.0 / (scale * scale)));
}

void kv_rotary_apply(const struct kv_rotary *rotary, uint32_t token, float *key)
{
    turn(rotary, token, key, 1.0f, 1.0f);
}
