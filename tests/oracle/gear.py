"""GEAR (arXiv 2403.05527): grid codes, a low-rank residual, and outliers in halves.

Prompt rows: keys on one grid a channel over the whole prompt, values on one a row; the residual's
leading right directions B over the prompt, and each row's coefficients. Later rows: the same in blocks.
"""
import numpy as np

from codec import Codec, Tiers, packed_bytes
import disturbed
from quantizers import integer_grid
from rounding import through_f16, to_f16, to_f32


def leading(residual, rank):
    _, vectors = np.linalg.eigh(disturbed.gram(residual.T @ residual))
    return through_f16(vectors[:, ::-1][:, :rank])


def ends(rows, count, axis):
    """True where a value is among the `count` largest or smallest of its vector (ties: earlier)."""
    mask = np.zeros(rows.shape, dtype=bool)
    if count:
        for sign in (-1, 1):
            free = np.where(mask, np.inf, sign * rows)
            order = np.argsort(free, axis=axis, kind="stable")
            np.put_along_axis(mask, np.take(order, range(count), axis=axis), True, axis=axis)
    return mask


def filled(rows, mask, axis):
    """Outliers replaced by the mean of the others, in f32."""
    others = np.maximum((~mask).sum(axis=axis, keepdims=True), 1)
    mean = np.where(mask, 0, rows).sum(axis=axis, keepdims=True) / others
    return np.where(mask, to_f32(mean), to_f32(rows))


class Gear(Codec):
    def __init__(self, dim, keys, bits=4, rank=4, later_rank=2, sparsity=0.02, buffer=20):
        super().__init__(dim)
        self.keys, self.bits, self.rank, self.sparsity = keys, bits, min(rank, dim), sparsity
        self.later = GearBlocks(dim, keys, bits, min(later_rank, dim), sparsity, buffer)
        self.per_end = min(int(0.5 * sparsity * dim + 0.5), (dim - 1) // 2)
        self.basis_bytes = 2 * dim * self.rank + (4 * dim if keys else 0)
        self.counts = {}

    def fit(self, prompt_rows):
        rows = to_f32(prompt_rows).astype(np.float64)
        if self.keys:
            count = min(int(0.5 * self.sparsity * len(rows) + 0.5), (len(rows) - 1) // 2)
            mask = np.zeros(rows.shape, dtype=bool)
            self.low, self.high = np.full(self.dim, -np.inf), np.full(self.dim, np.inf)
            if count:
                ordered = np.sort(rows, axis=0)
                self.low, self.high = ordered[count - 1], ordered[-count]
                mask = (rows <= self.low) | (rows >= self.high)
            inner = filled(rows, mask, 0)
            self.mean = np.where(mask, 0, rows).sum(axis=0) / np.maximum((~mask).sum(axis=0), 1)
            _, self.step, self.base, _ = integer_grid(inner, self.bits, 0)
        read, mask = self.backbone(rows)
        self.basis = leading(np.where(mask, 0, rows - read), self.rank)

    def backbone(self, rows):
        if not self.keys:
            mask = ends(rows, self.per_end, 1)
            return integer_grid(filled(rows, mask, 1), self.bits, 1)[3], mask
        mask = (rows <= self.low) | (rows >= self.high)
        inner = np.where(mask, to_f32(self.mean), to_f32(rows))
        step = self.step.astype(np.float32)
        distance = inner - self.base.astype(np.float32)
        steps = np.divide(distance, np.broadcast_to(step, distance.shape), out=np.zeros_like(distance),
                          where=np.broadcast_to(step, distance.shape) != 0)
        codes = np.clip(np.rint(steps), 0, 2 ** self.bits - 1)
        return codes * self.step.astype(np.float64) + self.base.astype(np.float64), mask

    def round_trip_at(self, positions):
        self.positions = positions

    def round_trip(self, rows):
        rows = np.asarray(rows, dtype=np.float64)
        read, mask = self.backbone(rows)
        for position, row in zip(self.positions, mask):
            self.counts[position] = int(row.sum())
        coefficients = through_f16(np.where(mask, 0, rows - read) @ self.basis)
        return np.where(mask, through_f16(rows), read + coefficients @ self.basis.T)

    def bytes_of(self, positions):
        n = len(positions)
        payload = n * (packed_bytes(self.dim, self.bits) + 2 * self.rank)
        if not self.keys:
            return payload + n * 4 * self.per_end, n * (4 + 4 * self.per_end)
        return payload, sum(2 + 4 * self.counts[p] for p in positions) if self.sparsity else 0


class GearBlocks(Codec):
    def __init__(self, dim, keys, bits, rank, sparsity, buffer):
        super().__init__(dim)
        self.keys, self.bits, self.rank, self.block = keys, bits, rank, buffer
        self.tiers = Tiers(flush=buffer, at_once=False)
        vector = buffer if keys else dim
        self.per_end = min(int(0.5 * sparsity * vector + 0.5), (vector - 1) // 2)

    def round_trip(self, rows):
        axis = 0 if self.keys else 1
        result = np.empty(np.shape(rows))
        for start in range(0, len(rows), self.block):
            part = np.asarray(rows[start:start + self.block], dtype=np.float64)
            mask = ends(part, self.per_end, axis)
            read = integer_grid(filled(part, mask, axis), self.bits, axis)[3]
            residual = np.where(mask, 0, part - read)
            basis = leading(residual, self.rank)
            result[start:start + self.block] = np.where(
                mask, through_f16(part), read + through_f16(residual @ basis) @ basis.T)
        return result

    def atom_bytes(self):
        vectors = self.dim if self.keys else self.block
        kept = 2 * self.per_end * vectors
        payload = packed_bytes(self.block * self.dim, self.bits) + 2 * self.rank * (self.block + self.dim)
        return payload + 2 * kept, 4 * vectors + 2 * kept
