"""TurboQuant (arXiv 2504.19874) with the oracle's own random rotation.

The program draws another rotation, so single rows cannot agree; bytes, the distortion and the slope
of <x, x_hat> on |x|^2 must. Norms are halves; a norm rule other than `raw` rescales the row.
"""
from functools import lru_cache
from math import lgamma

import numpy as np

from codec import Codec, packed_bytes
from lloyd_max import codebook
from rounding import through_f16


def haar(dim, rng):
    """QR of a Gaussian matrix; the sign fix makes it uniform."""
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    return q * np.sign(np.diag(r))


def hadamard(dim, rng):
    """Sylvester's matrix times random signs; dim is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < dim:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix * rng.choice([-1.0, 1.0], dim) / np.sqrt(dim)


def rotation_of(kind, dim, rng):
    power_of_two = dim & (dim - 1) == 0
    if kind == "hadamard" and not power_of_two:
        raise ValueError(f"a Hadamard matrix of {dim} columns")
    return hadamard(dim, rng) if kind != "haar" and power_of_two else haar(dim, rng)


@lru_cache(maxsize=512)
def drawn(kind, dim, seed, sketched):
    """(rotation, sketch): the same for all heads of a seed."""
    rng = np.random.default_rng(seed)
    rotation = rotation_of(kind, dim, rng)
    return rotation, {"gaussian": lambda: rng.standard_normal((dim, dim)), "orthogonal": lambda: haar(dim, rng),
                      None: lambda: None}[sketched]()


def first_entry(dim):
    """E |u_1| of a random unit vector."""
    return np.exp(lgamma(dim / 2) - lgamma((dim + 1) / 2)) / np.sqrt(np.pi)


def stored_norm(rule, norm, unit, coded):
    """The factor that multiplies the decoded unit row (methods-quant.md, norm storage variants)."""
    if rule == "raw":
        return through_f16(norm)
    along = np.sum(unit * coded, axis=1, keepdims=True)
    length = np.sum(coded * coded, axis=1, keepdims=True)
    top, bottom = {"matched": (np.ones_like(along), np.sqrt(length)),
                   "unbiased": (np.ones_like(along), along), "least-squares": (along, length)}[rule]
    return through_f16(norm * np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0))


class TurboQuant(Codec):
    """One vector, one norm (two numbers for `prod`)."""

    def __init__(self, dim, bits, mode="mse", rotation="auto", norm="raw", sketch="gaussian", seed=1):
        super().__init__(dim)
        self.bits, self.mode, self.rule = bits, mode, norm
        self.code_bits = bits - 1 if mode == "prod" else bits
        self.rotation, self.sketch = drawn(rotation, dim, seed, sketch if mode == "prod" else None)
        self.unbiased = 1 / (dim * first_entry(dim)) if sketch == "orthogonal" else np.sqrt(np.pi / 2) / dim

    def nearest(self, rotated):
        if self.code_bits == 0:
            return np.zeros_like(rotated)
        centroids, _ = codebook(self.dim, self.code_bits)
        return centroids[np.searchsorted(0.5 * (centroids[1:] + centroids[:-1]), rotated)]

    def round_trip(self, rows):
        rows = np.asarray(rows, dtype=np.float64)
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
        rotated = unit @ self.rotation.T
        coded = self.nearest(rotated)
        if self.mode == "prod":
            return through_f16(norm) * (coded @ self.rotation + self.residual(unit, coded))
        return stored_norm(self.rule, norm, rotated, coded) * (coded @ self.rotation)

    def residual(self, unit, coded):
        """The 1-bit sketch of what the codebook left, unbiased for inner products."""
        rest = unit - coded @ self.rotation
        length = through_f16(np.linalg.norm(rest, axis=1, keepdims=True))
        signs = np.sign(rest @ self.sketch.T)
        return self.unbiased * length * (signs @ self.sketch)

    def atom_bytes(self):
        if self.mode == "prod":
            return packed_bytes(self.dim, self.code_bits) + packed_bytes(self.dim, 1), 4
        return packed_bytes(self.dim, self.bits), 2


class Fractional(Codec):
    """2.5 and 3.5 bits (section 4.3): channels of largest RMS over the prompt are a vector apart.

    2.5: a quarter of the channels at 3 bits, the rest at 2; 3.5: half at 4, half at 3; of a number
    that does not split so, the nearest, and of two the larger. The mask of the outlying channels is
    resident.
    """
    SPLITS = {2.5: (4, 3, 2), 3.5: (2, 4, 3)}         # one channel in .., its bits, the others' bits

    def __init__(self, dim, bits, **settings):
        super().__init__(dim)
        if dim < 2:
            raise ValueError("two kinds of one channel")
        one_in, high, low = self.SPLITS[bits]
        self.outlying = max(1, (2 * dim + one_in) // (2 * one_in))
        self.parts = [TurboQuant(self.outlying, high, **settings),
                      TurboQuant(dim - self.outlying, low, **settings)]
        self.basis_bytes = packed_bytes(dim, 1)
        self.columns = None

    def fit(self, prompt_rows):
        order = np.argsort(-np.sum(prompt_rows ** 2, axis=0), kind="stable")
        self.columns = [np.sort(order[:self.outlying]), np.sort(order[self.outlying:])]

    def round_trip(self, rows):
        result = np.empty(np.shape(rows))
        for columns, part in zip(self.columns, self.parts):
            result[:, columns] = part.round_trip(np.asarray(rows)[:, columns])
        return result

    def atom_bytes(self):
        payload, metadata = zip(*(part.atom_bytes() for part in self.parts))
        return sum(payload), sum(metadata)
