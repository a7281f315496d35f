"""The three number formats that a trace or a codec stores, as rounding of numpy arrays.

Codecs receive rows as f32 and keep parameters as halves, so every rounding that decides a code is
done here in f32 or f16; sums and attention elsewhere are float64.
"""
import numpy as np


def to_f32(values):
    return np.asarray(values, dtype=np.float32)


def to_f16(values):
    """Nearest even, beyond the largest half that; the result stays an array of halves so that callers
    see what is stored."""
    return np.clip(values, -65504, 65504).astype(np.float16)


def through_f16(values):
    return to_f16(to_f32(values)).astype(np.float64)


def f32_to_bf16_words(values):
    """The upper 16 bits of the f32, rounded to nearest even."""
    words = to_f32(values).view(np.uint32).astype(np.uint64)
    words += 0x7FFF + ((words >> 16) & 1)
    return (words >> 16).astype(np.uint16)


def bf16_words_to_f32(words):
    return (np.asarray(words, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


def through_bf16(values):
    return bf16_words_to_f32(f32_to_bf16_words(values)).astype(np.float64)


def half_away(values):
    """C's roundf: halves go away from zero (numpy's rint sends them to even)."""
    values = to_f32(values)
    return np.copysign(np.floor(np.abs(values) + np.float32(0.5)), values)
