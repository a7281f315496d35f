"""fp8, mxfp4, nvfp4: floats of ml_dtypes, saturated before they are narrowed (its e4m3fn has no infinity
and its overflow is NaN)."""
import ml_dtypes
import numpy as np

from codec import Codec, apply_by_group, group_count, packed_bytes
from rounding import to_f32

E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
E2M1 = ml_dtypes.float4_e2m1fn
LARGEST = {E4M3: np.float32(448), E5M2: np.float32(57344), E2M1: np.float32(6)}


def through(kind, values):
    """Nearest even, saturated."""
    limit = LARGEST[kind]
    return np.clip(to_f32(values), -limit, limit).astype(kind).astype(np.float32)


def scale_of(values, largest):
    """max |x| / largest, 1 where nothing is left of it."""
    scale = np.abs(to_f32(values)).max(initial=0) / np.float32(largest)
    return scale if scale > 0 else np.float32(1)


class Scaled(Codec):
    """A scale in f32 of all rows, of each lane's, or 1."""

    def __init__(self, dim, scale, largest, lanes):
        super().__init__(dim)
        if scale not in ("none", "tensor", "head", "token"):
            raise TypeError(f"scale={scale}")
        self.fitted, self.largest = scale in ("tensor", "head"), largest
        self.scales, self.lanes = lanes if scale == "head" else 1, lanes
        self.scale = np.ones(dim, dtype=np.float32)        # of each column
        self.basis_bytes = 4 * self.scales * self.fitted

    def fit(self, prompt_rows):
        parts = np.split(prompt_rows, self.scales, axis=1) if self.fitted else []
        if parts:
            self.scale = np.repeat([scale_of(part, self.largest) for part in parts], self.dim // self.scales)


class Fp8(Scaled):
    def __init__(self, dim, format="e4m3", scale="none", lanes=1):
        self.kind = {"e4m3": E4M3, "e5m2": E5M2}[format]
        super().__init__(dim, scale, LARGEST[self.kind], lanes)
        self.per_token = scale == "token"

    def round_trip(self, rows):
        rows, scale = to_f32(rows), self.scale
        if self.per_token:
            scale = np.array([[scale_of(row, self.largest)] for row in rows])
        return (through(self.kind, rows / scale) * scale).astype(np.float64)

    def atom_bytes(self):
        return self.dim, 4 * self.per_token


class MxFp4(Codec):
    def __init__(self, dim, group_size=32, rule="floor"):
        super().__init__(dim)
        self.group_size, self.rule = min(group_size, dim), rule

    def exponents(self, rows):
        """floor(log2 a) - 2, or the least e with 6 * 2^e >= a; E8M0 begins at -127, f32 ends at 6 * 2^125."""
        largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
        mantissa, power = np.frexp(largest)
        e = power - 3 + ((mantissa > 0.75) if self.rule == "ceil" else 0)
        return np.where(largest > 0, np.clip(e, -127, 125), -127)

    def group(self, rows):
        rows = to_f32(rows)
        unit = np.ldexp(1.0, self.exponents(rows))
        return through(E2M1, rows / unit).astype(np.float64) * unit

    def round_trip(self, rows):
        return apply_by_group(rows, self.group_size, self.group)

    def atom_bytes(self):
        return packed_bytes(self.dim, 4), group_count(self.dim, self.group_size)


class NvFp4(Scaled):
    GROUP = 16

    def __init__(self, dim, scale="tensor", lanes=1):
        super().__init__(dim, scale, np.float32(6 * 448), lanes)
        self.width = dim // lanes                          # groups do not cross lanes

    def group(self, rows, scale):
        rows = to_f32(rows)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        unit = through(E4M3, largest / (np.float32(6) * scale)) * scale
        scaled = np.divide(rows, unit, out=np.zeros_like(rows), where=unit > 0)
        return (through(E2M1, scaled) * unit).astype(np.float64)

    def round_trip(self, rows):
        lanes = [slice(first, first + self.width) for first in range(0, self.dim, self.width)]
        return np.hstack([apply_by_group(rows[:, lane], self.GROUP, lambda part: self.group(part, self.scale[lane][0]))
                          for lane in lanes])

    def atom_bytes(self):
        return self.lanes * packed_bytes(self.width, 4), self.lanes * group_count(self.width, self.GROUP)
