"""llama.cpp's KV formats: ggml's quantize_row_NAME_ref and dequantize_row_NAME, in blocks of 32.

Each quantizer takes f32 blocks [n, 32] and gives (codes, parameters, decoded): parameters are the
halves of a block as stored, the scale first.
"""
import numpy as np

from codec import Codec, apply_by_group, packed_bytes
from rounding import half_away, to_f16, to_f32

LLAMA_BLOCK = 32
NONLINEAR = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
                     dtype=np.float32)


def reciprocal(step):
    """ggml divides once and multiplies; a zero step gives zero codes."""
    return np.divide(np.float32(1), step, out=np.zeros_like(step), where=step != 0)


def extreme(values):
    """The first element of largest magnitude, with its sign."""
    largest = np.abs(values).argmax(axis=1)[:, None]
    return np.take_along_axis(values, largest, axis=1)


def as_read(parameter):
    return parameter.astype(np.float64)


def q8_0_block(values):
    """Codes from the f32 step, decoding with the half."""
    values = to_f32(values)
    step = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    codes = half_away(values * reciprocal(step))
    return codes, [to_f16(step)], codes.astype(np.float64) * as_read(to_f16(step))


def signed_block(bits):
    """q4_0, q5_0: the step has the sign of the largest element, over minus half the levels."""
    half = np.float32(2 ** (bits - 1))

    def quantize(values):
        values = to_f32(values)
        step = extreme(values) / -half
        codes = np.minimum(2 * half - 1, np.trunc(values * reciprocal(step) + (half + np.float32(0.5))))
        return codes, [to_f16(step)], (codes.astype(np.float64) - half) * as_read(to_f16(step))
    return quantize


def minimum_block(bits):
    """q4_1, q5_1: from the minimum upwards."""
    top = np.float32(2 ** bits - 1)

    def quantize(values):
        values = to_f32(values)
        low = values.min(axis=1, keepdims=True)
        step = (values.max(axis=1, keepdims=True) - low) / top
        codes = np.minimum(top, np.trunc((values - low) * reciprocal(step) + np.float32(0.5)))
        halves = [to_f16(step), to_f16(low)]
        return codes, halves, codes.astype(np.float64) * as_read(halves[0]) + as_read(halves[1])
    return quantize


def iq4_nl_block(values):
    """Nearest of 16 levels under the step of the largest element, then the least-squares step, weights
    x^2; f32 sums in order. Blocks below 1e-15 are nothing."""
    values = to_f32(values)
    first = extreme(values)
    alive = np.abs(first) >= np.float32(1e-15)
    scaled = values * reciprocal(first / NONLINEAR[0])
    upper = np.clip(np.searchsorted(NONLINEAR, scaled, side="right"), 1, 15)
    closer_below = scaled - NONLINEAR[upper - 1] < NONLINEAR[upper] - scaled
    codes = np.where(closer_below, upper - 1, upper)
    codes = np.where(scaled <= NONLINEAR[0], 0, np.where(scaled >= NONLINEAR[15], 15, codes))
    codes = np.where(alive, codes, 8)
    levels, weights = NONLINEAR[codes], values * values
    top = bottom = np.zeros(len(values), dtype=np.float32)
    for j in range(LLAMA_BLOCK):
        top = top + weights[:, j] * levels[:, j] * values[:, j]
        bottom = bottom + weights[:, j] * levels[:, j] * levels[:, j]
    step = np.divide(top, bottom, out=np.zeros_like(top), where=(bottom > 0) & alive[:, 0])[:, None]
    return codes, [to_f16(step)], levels.astype(np.float64) * as_read(to_f16(step))


class Llama(Codec):
    """Blocks along the head; widths that are not a multiple have no such format."""
    BLOCKS = {"q8_0": (8, q8_0_block), "q5_1": (5, minimum_block(5)), "q5_0": (5, signed_block(5)),
              "q4_1": (4, minimum_block(4)), "q4_0": (4, signed_block(4)), "iq4_nl": (4, iq4_nl_block)}

    def __init__(self, dim, name):
        super().__init__(dim)
        if dim % LLAMA_BLOCK:
            raise ValueError(f"{name} needs a multiple of {LLAMA_BLOCK} columns, found {dim}")
        self.bits, self.quantize = self.BLOCKS[name]
        self.halves = 2 if name.endswith("_1") else 1

    def round_trip(self, rows):
        return apply_by_group(rows, LLAMA_BLOCK, lambda part: self.quantize(part)[2])

    def atom_bytes(self):
        return packed_bytes(self.dim, self.bits), 2 * self.halves * (self.dim // LLAMA_BLOCK)


def block_bytes(name, codes, parameters):
    """One block as ggml stores it: halves, the word of fifth bits, then bytes or nibbles j and j + 16."""
    head = b"".join(np.float16(p).tobytes() for p in parameters)
    if name == "q8_0":
        return head + codes.astype(np.int8).tobytes()
    codes = codes.astype(np.uint32)
    fifth = np.uint32((codes >> 4 << np.arange(LLAMA_BLOCK, dtype=np.uint32)).sum()).tobytes()
    low, high = (codes[:16] & 15).astype(np.uint8), (codes[16:] & 15).astype(np.uint8)
    return head + (fifth if name.startswith("q5") else b"") + (low | (high << 4)).tobytes()
