"""sign and ternary: one and 1.6 bits a value, with a half a group; none: no value at all."""
import numpy as np

import disturbed
from codec import Codec, apply_by_group, group_count, packed_bytes
from rounding import to_f16, to_f32


def as_half(values):
    return to_f16(np.clip(values, -65504, 65504)).astype(np.float32)


class Sign(Codec):
    def __init__(self, dim, group_size=64):
        super().__init__(dim)
        self.group_size = min(group_size, dim)

    def group(self, rows):
        scale = as_half(to_f32(disturbed.sums(np.abs(rows).mean(axis=1, keepdims=True, dtype=np.float64))))
        return np.where(rows > 0, scale, -scale).astype(np.float64)

    def round_trip(self, rows):
        return apply_by_group(rows, self.group_size, self.group)

    def atom_bytes(self):
        return packed_bytes(self.dim, 1), 2 * group_count(self.dim, self.group_size)


class Ternary(Sign):
    """Thresholds and levels of the three-level Lloyd-Max quantizer of a normal value."""
    THRESHOLD, LEVEL = np.float32(0.612003), np.float32(1.224006)

    def group(self, rows):
        rows = to_f32(rows)
        square = (rows.astype(np.float64) ** 2).mean(axis=1, keepdims=True)
        r = as_half(np.sqrt(disturbed.sums(square)))
        code = (rows > self.THRESHOLD * r).astype(np.float64) - (rows <= -self.THRESHOLD * r)
        return code * self.LEVEL.astype(np.float64) * r

    def atom_bytes(self):
        return (self.dim + 4) // 5, 2 * group_count(self.dim, self.group_size)


class Nothing(Codec):
    """Values that are not stored."""

    def round_trip(self, rows):
        return np.zeros(np.shape(rows))

    def atom_bytes(self):
        return 0, 0
