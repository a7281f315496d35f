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


class OverLayer(Codec):
    """Modifiers around a codec whose object spans the heads of a layer: a row of it is the layer's
    (interface.md section 2), so outliers are chosen among the columns of all heads, while a mean is a
    column's and a transform a head's. One head's view; the first pays for what is kept apart."""

    def __init__(self, dim, around, inner):
        super().__init__(dim)
        self.around, self.inner, self.tiers = around, inner, inner.tiers
        self.wants_layer, self.charged = True, True

    def bind(self, trace, owner, head, side):
        tensor = owner.k if side == "k" else owner.v
        self.rows, self.head, self.prompt = [to_f32(rows) for rows in tensor], head, trace.prefill_length

    def fit(self, prompt_rows):
        """Outer to inner, and back: rows of all heads go in, this head's come out."""
        rows, back = self.rows, []
        for kind, value in self.around:
            rows, undo = {Center: self.center, Outliers: self.part, Hadamard: self.turn}[kind](rows, value)
            back.append(undo)
        self.inner.fit(np.concatenate([head[:self.prompt] for head in rows]))
        self.table = self.inner.round_trip(rows[self.head])
        for undo in reversed(back):
            self.table = undo(self.table)

    def center(self, rows, _):
        means = [to_f32(through_f16(np.mean(head[:self.prompt], axis=0, dtype=np.float64))) for head in rows]
        return [head - mean for head, mean in zip(rows, means)], lambda read: read + means[self.head]

    def part(self, rows, share):
        joint = np.concatenate(rows, axis=1)
        mask = largest_mask(joint, share_count(share, joint.shape[1]))
        own = slice(self.head * self.dim, (self.head + 1) * self.dim)
        inner = np.split(fill(joint, mask), len(rows), axis=1)
        return inner, lambda read: np.where(mask[:, own], kept_halves(joint[:, own]), read)

    def turn(self, rows, _):
        turned = Hadamard(self.dim, self.inner)
        return [turned.inside(head) for head in rows], turned.turn

    def round_trip_at(self, positions):
        return self.table[positions]

    @property
    def basis_bytes(self):
        self.inner.charged = self.charged
        means = sum(2 * self.dim for kind, _ in self.around if kind is Center)
        return self.inner.basis_bytes + means

    def atom_bytes(self):
        payload, metadata = self.inner.atom_bytes()
        width = self.dim * len(self.rows)
        more = sum(2 * share_count(share, width) for kind, share in self.around if kind is Outliers)
        more = more if self.charged else 0
        return payload + more, metadata + more
