/* mla: rows, queries and answers to the latents and back. See codecs/mla.c. */
#include <string.h>

#include "methods/codecs/mla/mla_parts.h"

/* x' = (x c - y s, y c + x s) of a key's pairs; direction -1 turns back. */
static void turn_key(const struct mla_code *self, uint32_t token, float direction, float *key)
{
    const float *cosine = self->own.cosine + (size_t)token * self->own.n;
    const float *sine = self->own.sine + (size_t)token * self->own.n;
    for (uint32_t i = 0; i < self->own.n; i++) {
        float *x = key + self->pairs[i][0], *y = key + self->pairs[i][1];
        const float first = *x, s = sine[i] * direction;
        *x = first * cosine[i] - *y * s;
        *y = first * s + *y * cosine[i];
    }
}

static void turn_part(const struct mla_code *self, uint32_t token, float direction, float *part)
{
    const uint32_t n = self->turns.n;
    const float *cosine = self->turns.cosine + (size_t)token * n,
                *sine = self->turns.sine + (size_t)token * n;
    for (uint32_t k = 0; k < n; k++) {
        const float x = part[k], s = sine[k] * direction;
        part[k] = x * cosine[k] - part[n + k] * s;
        part[n + k] = x * s + part[n + k] * cosine[k];
    }
}

void kv_mla_add_components(const struct mla_code *self, uint32_t lane, const float *key,
                           float *part)
{
    const struct mla_shape *shape = &self->shape;
    for (uint32_t k = 0; k < shape->kept; k++) {
        const float *u = self->directions + ((size_t)k * shape->heads + lane) * shape->fold;
        const uint32_t(*pairs)[2] =
            (const uint32_t(*)[2])self->pairs + k / shape->each * shape->fold;
        for (uint32_t f = 0; f < shape->fold; f++) {
            part[k] += u[f] * key[pairs[f][0]];
            part[shape->kept + k] += u[f] * key[pairs[f][1]];
        }
    }
}

void kv_mla_take_off(const struct mla_code *self, const float *part, float *row)
{
    const struct mla_shape *shape = &self->shape;
    for (uint32_t k = 0; k < shape->kept; k++)
        for (uint32_t c = 0; c < shape->heads * shape->fold; c++) {
            const float u = self->directions[(size_t)k * shape->heads * shape->fold + c];
            const uint32_t *pair = self->pairs[k / shape->each * shape->fold + c % shape->fold];
            float *key = row + (size_t)(c / shape->fold) * shape->lane;
            key[pair[0]] -= u * part[k], key[pair[1]] -= u * part[shape->kept + k];
        }
}

static void whole_latents(const struct mla_code *self, const float *row, float *latents)
{
    for (uint32_t r = 0; r < self->shape.rank; r++) latents[r] = row[self->columns[r]];
}

void kv_mla_to_latents(const struct mla_code *self, float *before, float *latents)
{
    const struct mla_shape *shape = &self->shape;
    if (shape->whole) {
        whole_latents(self, before, latents);
        return;
    }
    for (uint32_t h = 0; !shape->latent_already && h < shape->heads; h++)
        self->kernels->scale(before + (size_t)h * shape->lane, shape->key, 1.0f / self->balance);
    self->kernels->rotate(self->basis, shape->rank, kv_mla_basis_rows(shape), before, latents);
}

static void turn_row(const struct kv_code *code, uint32_t token, const float *row, float *turned)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct mla_shape *shape = &self->shape;
    float *before = self->row, *part = turned + shape->rank;
    memcpy(before, row, shape->dim * sizeof *row);
    if (shape->latent_already) {
        kv_mla_to_latents(self, before, turned);
        memcpy(part, row + shape->value, shape->tail * sizeof *part);
        return;
    }
    memset(part, 0, shape->tail * sizeof *part);
    for (uint32_t h = 0; h < shape->heads; h++) {
        float *key = before + (size_t)h * shape->lane;
        turn_key(self, token, -1.0f, key);
        /* Columns of their own keep the rotation that they were recorded with, to the bit. */
        kv_mla_add_components(self, h, shape->whole ? row + (size_t)h * shape->lane : key, part);
    }
    if (!shape->whole) {
        kv_mla_take_off(self, part, before);
        turn_part(self, token, 1.0f, part);
    }
    kv_mla_to_latents(self, before, turned);
}

/* n columns of the recorded row from `first` on, as the latents have them; added. */
static void from_latents(const struct mla_code *self, const float *latents, uint32_t first,
                         uint32_t n, float factor, float *out)
{
    const struct mla_shape *shape = &self->shape;
    if (shape->whole) {
        for (uint32_t r = 0; r < shape->rank; r++)
            if (self->columns[r] >= first && self->columns[r] < first + n)
                out[self->columns[r] - first] += latents[r];
        return;
    }
    for (uint32_t c = 0; c < n; c++)
        out[c] += factor * self->kernels->dot(self->basis + (size_t)(first + c) * shape->rank,
                                              latents, shape->rank);
}

static void turn_back(const struct kv_code *code, uint32_t token, const float *turned, float *row)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct mla_shape *shape = &self->shape;
    memset(row, 0, shape->dim * sizeof *row);
    if (shape->latent_already) {
        from_latents(self, turned, 0, shape->value, 1.0f, row);
        memcpy(row + shape->value, turned + shape->rank, shape->tail * sizeof *row);
        return;
    }
    float *part = self->row; /* tail <= dim */
    memcpy(part, turned + shape->rank, shape->tail * sizeof *part);
    turn_part(self, token, -1.0f, part);
    for (uint32_t h = 0; h < shape->heads; h++) {
        float *key = row + (size_t)h * shape->lane;
        from_latents(self, turned, h * shape->lane, shape->key, self->balance, key);
        from_latents(self, turned, h * shape->lane + shape->key, shape->value, 1.0f,
                     key + shape->key);
        for (uint32_t k = 0; k < shape->kept; k++) {
            const float *u = self->directions + ((size_t)k * shape->heads + h) * shape->fold;
            for (uint32_t f = 0; f < shape->fold; f++) {
                const uint32_t *pair = self->pairs[k / shape->each * shape->fold + f];
                key[pair[0]] += u[f] * part[k], key[pair[1]] += u[f] * part[shape->kept + k];
            }
        }
        turn_key(self, token, 1.0f, key);
    }
}

static void turn_query(const struct kv_code *code, uint32_t lane, uint32_t token,
                       const float *query, float *turned)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct mla_shape *shape = &self->shape;
    float *before = self->row, *part = turned + shape->rank;
    memset(before, 0, shape->dim * sizeof *before);
    memcpy(before, query, shape->key * sizeof *before);
    if (shape->latent_already) {
        kv_mla_to_latents(self, before, turned);
        memcpy(part, query + shape->value, shape->tail * sizeof *part);
        return;
    }
    turn_key(self, token, -1.0f, before);
    memset(part, 0, shape->tail * sizeof *part);
    kv_mla_add_components(self, lane, shape->whole ? query : before, part);
    if (shape->whole) {
        whole_latents(self, before, turned);
        return;
    }
    turn_part(self, token, 1.0f, part);
    self->kernels->rotate(self->basis + (size_t)lane * shape->lane * shape->rank, shape->rank,
                          shape->key, before, turned);
    self->kernels->scale(turned, shape->rank, self->balance);
}

static void turn_output(const struct kv_code *code, uint32_t lane, const float *turned,
                        float *output)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct mla_shape *shape = &self->shape;
    const uint32_t first = shape->latent_already ? 0 : lane * shape->lane + shape->key;
    from_latents(self, turned, first, shape->value, 1.0f, output);
}

static uint32_t turned_columns(const struct kv_code *code, enum kv_side side)
{
    const struct mla_shape *shape = &((const struct mla_code *)code)->shape;
    return side == KV_VALUES ? shape->rank : shape->rank + shape->tail;
}

const struct kv_turn kv_mla_turn = {.columns = turned_columns,
                                    .row = turn_row,
                                    .back = turn_back,
                                    .query = turn_query,
                                    .output = turn_output};
