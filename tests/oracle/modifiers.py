"""What goes around a codec: the prompt's mean taken off, outliers apart, a Hadamard turn.

Each sees rows as f32, as the program's codecs do, and hands rows to the codec inside.
"""
import numpy as np

from codec import Codec
from rounding import through_f16, to_f16, to_f32


class Around(Codec):
    """Block, tiers and bytes are the inner codec's."""

    def __init__(self, dim, inner):
        super().__init__(dim)
        self.inner, self.block, self.tiers = inner, inner.block, inner.tiers
        self.bytes_of = inner.bytes_of and self.bytes_by_row

    @property
    def basis_bytes(self):
        return self.own_basis_bytes() + self.inner.basis_bytes

    def own_basis_bytes(self):
        return 0

    def bind(self, trace, owner, head, side):
        self.inner.bind(trace, owner, head, side)

    def turn_evidence(self, turn):
        self.inner.turn_evidence(turn)

    def fit(self, prompt_rows):
        self.inner.fit(self.inside(prompt_rows))

    def inside(self, rows):
        """The rows that the inner codec stores."""
        raise NotImplementedError

    def round_trip_at(self, positions):
        return self.inner.round_trip_at(positions)     # which rows come next; None

    def atom_bytes(self):
        return self.inner.atom_bytes()

    def bytes_by_row(self, positions):
        """Where the inner codec's atoms, of one row each, vary in size."""
        return self.inner.bytes_of(positions)


class Center(Around):
    """x - mean of the prompt, the mean a half."""

    def own_basis_bytes(self):
        return 2 * self.dim

    def fit(self, prompt_rows):
        self.mean = to_f32(through_f16(np.mean(prompt_rows, axis=0)))
        super().fit(prompt_rows)

    def inside(self, rows):
        return to_f32(rows) - self.mean

    def round_trip(self, rows):
        return self.inner.round_trip(self.inside(rows)) + self.mean


def share_count(share, dim):
    """round(share * dim), at least one."""
    return min(dim, max(1, int(np.floor(share * dim + 0.5))))


def largest_mask(rows, count):
    """True at the `count` largest magnitudes of each row, of equal ones the lower column."""
    order = np.argsort(-np.abs(rows), axis=1, kind="stable")
    mask = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(mask, order[:, :count], True, axis=1)
    return mask


def fill(rows, mask):
    """The mean of a row's other values where the mask is set."""
    others = np.where(mask, 0.0, rows.astype(np.float64)).sum(axis=1, keepdims=True)
    mean = others / np.maximum(1, (~mask).sum(axis=1, keepdims=True))
    return np.where(mask, to_f32(mean), rows)


def kept_halves(rows):
    return to_f16(np.clip(rows, -65504, 65504)).astype(np.float64)


class Outliers(Around):
    """The round(share * dim) values of largest magnitude of a row (of equal ones the lower column), at
    least one, are halves with an index of 16 bits; the inner codec sees the mean of the others there."""

    def __init__(self, dim, inner, share=0.01):
        super().__init__(dim, inner)
        self.count = share_count(share, dim)

    def inside(self, rows):
        rows = to_f32(rows)
        return fill(rows, largest_mask(rows, self.count))

    def round_trip(self, rows):
        rows = to_f32(rows)
        mask = largest_mask(rows, self.count)
        return np.where(mask, kept_halves(rows), self.inner.round_trip(fill(rows, mask)))

    def atom_bytes(self):
        payload, metadata = self.inner.atom_bytes()
        more = 2 * self.count * self.block
        return payload + more, metadata + more

    def bytes_by_row(self, positions):
        payload, metadata = self.inner.bytes_of(positions)
        more = 2 * self.count * len(positions)
        return payload + more, metadata + more


def sylvester(n):
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(n)


class Hadamard(Around):
    """Sylvester's order, in blocks of the largest power of two that divides the width of a lane."""

    def __init__(self, dim, inner, lanes=1):
        super().__init__(dim, inner)
        width = dim // lanes
        self.span = min(4096, width & -width)

    def turn(self, rows):
        span = self.span
        blocks = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1, span)
        return (blocks @ sylvester(span)).reshape(len(rows), self.dim)

    def inside(self, rows):
        """Butterflies of span 1, 2, 4, ... in f32, then the factor in f32."""
        span = self.span
        x = to_f32(rows).reshape(-1, span)
        step = 1
        while step < span:
            pairs = x.reshape(-1, span // (2 * step), 2, step)
            x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
            step *= 2
        return (x.reshape(len(rows), self.dim) * np.float32(1 / np.sqrt(span))).astype(np.float32)

    def round_trip(self, rows):
        return self.turn(self.inner.round_trip(self.inside(rows)))
