/* gear: S, the outliers that are kept apart: their values, their places, their count. See
 * codecs/gear.c. */
#include <string.h>

#include "methods/codecs/gear/gear_parts.h"
#include "methods/parts/codes.h"
#include "methods/parts/ends.h"

uint32_t kv_gear_places_bytes(const struct gear_code *self)
{
    if (self->counts) return 2 + 4 * self->code.block * self->code.dim;
    return 4 * self->per_end * self->n_vectors;
}

static uint8_t *places_of(const struct gear_code *self, const uint8_t *atom)
{
    return (uint8_t *)atom + kv_atom_bytes(&self->code) - kv_gear_places_bytes(self);
}

static uint32_t count_of(const struct gear_code *self, const uint8_t *atom)
{
    uint16_t count;
    memcpy(&count, places_of(self, atom), sizeof count);
    return count <= self->code.block * self->code.dim ? count : 0;
}

uint32_t kv_gear_counted_bytes(const struct gear_code *self, const uint8_t *atom)
{
    if (!self->counts) return kv_gear_places_bytes(self);
    if (!atom) return 2 + 4 * (uint32_t)(self->sparsity * self->code.block * self->code.dim + 0.5);
    return 2 + (atom == kv_smallest_atom ? 0 : 4 * count_of(self, atom));
}

void kv_gear_keep_outliers(const struct gear_code *self, const float *rows, uint8_t *values,
                           uint8_t *atom)
{
    const uint32_t dim = self->code.dim;
    uint16_t count = 0;
    uint8_t *const start = places_of(self, atom), *places = start;
    if (self->counts) places += 2;
    /* Vector by vector: a channel's outliers tell their token, a row's their column; where
     * they are counted, their place in the block. */
    const bool channels = self->keys && !self->prompt, counted = self->counts;
    const uint32_t length = channels ? self->code.block : dim, stride = channels ? dim : 1;
    for (uint32_t v = 0; v < (channels ? dim : self->code.block); v++) {
        const size_t first = channels ? v : (size_t)v * dim;
        for (uint32_t i = 0; i < length; i++) {
            if (!channels) i = kv_next_marked(self->outlying + first, i, length);
            const size_t at = first + (size_t)i * stride;
            if (i >= length || !self->outlying[at]) continue;
            const uint16_t place = (uint16_t)(counted ? (size_t)v * dim + i : i);
            uint8_t *value = counted ? places : values, *told = counted ? places + 2 : places;
            kv_keep_half(value, rows[at]);
            memcpy(told, &place, sizeof place);
            places += counted ? 4 : 2, values += counted ? 0 : 2, count++;
        }
    }
    if (self->counts) memcpy(start, &count, sizeof count);
}

void kv_gear_put_outliers(const struct gear_code *self, const uint8_t *atom, const uint8_t *values)
{
    const uint32_t dim = self->code.dim, each = 2 * self->per_end;
    const uint32_t n = self->counts ? count_of(self, atom) : each * self->n_vectors;
    const uint8_t *places = places_of(self, atom);
    const bool channels = self->keys && !self->prompt;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t place;
        const uint8_t *value = self->counts ? places + 2 + 4 * i : values + 2 * i;
        memcpy(&place, self->counts ? value + 2 : places + 2 * i, sizeof place);
        const uint32_t vector = self->counts ? place / dim : i / each,
                       within = self->counts ? place % dim : place;
        const uint32_t row = channels ? within : vector, column = channels ? vector : within;
        if (column < dim && row < self->code.block)
            self->read[(size_t)row * dim + column] = kv_kept_half(value);
    }
}
