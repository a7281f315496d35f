"""Plain formats: f32, f16, bf16, the asymmetric integer grid, KIVI.

Codes are decided in f32, as a program that receives f32 rows decides them; parameters are halves,
used as stored.
"""
import numpy as np

from codec import Codec, Tiers, apply_by_group, group_count, packed_bytes
from rounding import through_bf16, through_f16, to_f16, to_f32

class Plain(Codec):
    """A number format per element."""
    is_number_format = True
    FORMATS = {"f32": (4, lambda rows: np.asarray(rows, dtype=np.float64)),
               "f16": (2, through_f16), "bf16": (2, through_bf16)}

    def __init__(self, dim, name):
        super().__init__(dim)
        self.element_bytes, self.convert = self.FORMATS[name]

    def round_trip(self, rows):
        return self.convert(rows)

    def atom_bytes(self):
        return self.element_bytes * self.dim, 0


def integer_grid(values, bits, axis):
    """Asymmetric round-to-nearest along `axis` (replay.md, `int`).

    Returns (codes, scale, minimum, decoded); scale and minimum are halves and used as halves.
    A group whose scale rounds to 0 gets code 0 and so decodes to its minimum.
    """
    values = to_f32(values)
    levels = np.float32(2 ** bits - 1)
    low = values.min(axis=axis, keepdims=True)
    high = values.max(axis=axis, keepdims=True)
    scale, minimum = to_f16((high - low) / levels), to_f16(low)
    step = scale.astype(np.float32)
    distance = values - minimum.astype(np.float32)
    steps = np.divide(distance, step, out=np.zeros_like(distance), where=step != 0)
    codes = np.clip(np.rint(steps), 0, levels)
    decoded = codes.astype(np.float64) * scale.astype(np.float64) + minimum.astype(np.float64)
    return codes.astype(np.int64), scale, minimum, decoded


def symmetric_grid(values, bits, axis):
    """Full range about 0 (methods-quant.md 3.1); a group whose scale rounds to 0 is 0."""
    values, half = to_f32(values), np.float32(2 ** (bits - 1))
    scale = to_f16(np.abs(values).max(axis=axis, keepdims=True) / (half - 1))
    step = scale.astype(np.float32)
    steps = np.divide(values, step, out=np.zeros_like(values), where=step != 0)
    codes = np.clip(np.rint(steps), -half, half - 1)
    return codes.astype(np.int64), scale, codes.astype(np.float64) * scale.astype(np.float64)


GRIDS = {"asymmetric": (integer_grid, 4), "symmetric": (symmetric_grid, 2)}     # and bytes a group


class IntToken(Codec):
    """One grid per token and group of consecutive channels."""

    def __init__(self, dim, bits, group_size, grid="asymmetric", residual_length=0):
        super().__init__(dim)
        self.bits, self.group_size = bits, min(group_size, dim)
        self.grid, self.group_bytes = GRIDS[grid]
        if residual_length:
            self.tiers = Tiers(recent=residual_length, flush=1, at_once=False)

    def round_trip(self, rows):
        return apply_by_group(rows, self.group_size, lambda part: self.grid(part, self.bits, 1)[-1])

    def atom_bytes(self):
        groups = group_count(self.dim, self.group_size)
        return packed_bytes(self.dim, self.bits), self.group_bytes * groups


class IntChannel(Codec):
    """One grid per channel and `block` consecutive tokens, encoded after the answer of the last of them."""

    def __init__(self, dim, bits, group_size, grid="asymmetric", residual_length=0):
        super().__init__(dim)
        self.bits, self.block = bits, group_size
        self.grid, self.group_bytes = GRIDS[grid]
        self.tiers = Tiers(flush=residual_length or group_size, at_once=False)

    def round_trip(self, rows):
        blocks = np.asarray(rows).reshape(-1, self.block, self.dim)
        return self.grid(blocks, self.bits, 1)[-1].reshape(-1, self.dim)

    def atom_bytes(self):
        return packed_bytes(self.dim * self.block, self.bits), self.group_bytes * self.dim


def kivi_keys(dim, bits, group_size, residual_length):
    """Per channel; the residual grows to residual_length and is then encoded whole."""
    codec = IntChannel(dim, bits, group_size)
    codec.tiers = Tiers(recent=0, flush=residual_length, at_once=False)
    return codec


def kivi_values(dim, bits, group_size, residual_length):
    """Per token; the residual slides."""
    codec = IntToken(dim, bits, group_size)
    codec.tiers = Tiers(recent=residual_length, flush=1, at_once=False)
    return codec
