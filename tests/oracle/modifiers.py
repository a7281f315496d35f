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

    @property
    def wants_layer(self):
        return self.inner.wants_layer

    @property
    def charged(self):
        return self.inner.charged

    @charged.setter
    def charged(self, charged):
        self.inner.charged = charged

    @property
    def basis_bytes(self):
        return self.own_basis_bytes() + self.inner.basis_bytes

    def own_basis_bytes(self):
        return 0

    def bind(self, trace, owner, head, side):
        self.inner.bind(trace, owner, head, side)

    def fit(self, prompt_rows):
        self.inner.fit(self.inside(prompt_rows))

    def inside(self, rows):
        """The rows that the inner codec stores."""
        raise NotImplementedError

    def atom_bytes(self):
        return self.inner.atom_bytes()


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


class Outliers(Around):
    """The round(share * dim) values of largest magnitude of a row (of equal ones the lower column), at
    least one, are halves with an index of 16 bits; the inner codec sees the mean of the others there."""

    def __init__(self, dim, inner, share=0.01):
        super().__init__(dim, inner)
        self.count = min(dim, max(1, int(np.floor(share * dim + 0.5))))

    def kept(self, rows):
        order = np.argsort(-np.abs(rows), axis=1, kind="stable")
        mask = np.zeros(rows.shape, dtype=bool)
        np.put_along_axis(mask, order[:, :self.count], True, axis=1)
        return mask

    def inside(self, rows):
        rows = to_f32(rows)
        mask = self.kept(rows)
        others = np.where(mask, 0.0, rows.astype(np.float64)).sum(axis=1, keepdims=True)
        mean = others / max(1, self.dim - self.count)
        return np.where(mask, to_f32(mean), rows)

    def round_trip(self, rows):
        rows = to_f32(rows)
        kept = to_f16(np.clip(rows, -65504, 65504)).astype(np.float64)
        return np.where(self.kept(rows), kept, self.inner.round_trip(self.inside(rows)))

    def atom_bytes(self):
        payload, metadata = self.inner.atom_bytes()
        more = 2 * self.count * self.block
        return payload + more, metadata + more


def sylvester(n):
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(n)


class Hadamard(Around):
    """Sylvester's order, in blocks of the largest power of two that divides the width."""

    def turn(self, rows):
        span = min(4096, self.dim & -self.dim)
        blocks = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1, span)
        return (blocks @ sylvester(span)).reshape(len(rows), self.dim)

    def inside(self, rows):
        """Butterflies of span 1, 2, 4, ... in f32, then the factor in f32."""
        span = min(4096, self.dim & -self.dim)
        x = to_f32(rows).reshape(-1, span)
        step = 1
        while step < span:
            pairs = x.reshape(-1, span // (2 * step), 2, step)
            x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
            step *= 2
        return (x.reshape(len(rows), self.dim) * np.float32(1 / np.sqrt(span))).astype(np.float32)

    def round_trip(self, rows):
        return self.turn(self.inner.round_trip(self.inside(rows)))
