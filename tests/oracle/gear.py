"""GEAR (arXiv 2403.05527): grid codes, a low-rank residual, and outliers in halves.

Prompt rows: keys on one grid a channel over the whole prompt, values on one a row; the residual's
leading right directions B over the prompt, and each row's coefficients. Later rows: the same in blocks.
GEAR's backbone is any quantizer (its section 3, tables over KCVT and KIVI): GearAround takes another codec
for the grids, and its blocks are whole blocks of that.
"""
import numpy as np

from codec import Codec, Tiers, packed_bytes
import disturbed
from quantizers import integer_grid
from rounding import through_f16, to_f32


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
            read = self.read_back(part, mask, axis)
            residual = np.where(mask, 0, part - read)
            basis = leading(residual, self.rank)
            result[start:start + self.block] = np.where(
                mask, through_f16(part), read + through_f16(residual @ basis) @ basis.T)
        return result

    def read_back(self, part, mask, axis):
        return integer_grid(filled(part, mask, axis), self.bits, axis)[3]

    def atom_bytes(self):
        vectors = self.dim if self.keys else self.block
        kept = 2 * self.per_end * vectors
        payload = packed_bytes(self.block * self.dim, self.bits) + 2 * self.rank * (self.block + self.dim)
        return payload + 2 * kept, 4 * vectors + 2 * kept


class GearAround(Gear):
    """The grid is another codec's: prompt rows go in its blocks, later ones in buffers of whole blocks."""

    def __init__(self, dim, keys, inner, rank=4, later_rank=2, sparsity=0.02, buffer=20, bits=4):
        super().__init__(dim, keys, bits, rank, later_rank, sparsity, buffer)
        self.inner, self.block, self.atoms = inner, inner.block, {}
        sinks, whole = inner.tiers.sinks, -(-buffer // inner.block) * inner.block
        self.tiers = Tiers(sinks=sinks, flush=inner.block)
        self.later = BlocksAround(dim, keys, bits, min(later_rank, dim), sparsity, whole)
        self.later.inner, self.later.tiers.sinks = inner, sinks
        self.own_basis = 2 * dim * self.rank

    @property
    def basis_bytes(self):
        return self.own_basis + self.inner.basis_bytes

    @basis_bytes.setter
    def basis_bytes(self, _):
        pass                                 # the grids of channels are not there

    def bind(self, trace, owner, head, side):
        self.inner.bind(trace, owner, head, side)

    def turn_evidence(self, turn):
        self.inner.turn_evidence(turn)

    def apart(self, rows):
        """(rows with outliers filled, mask)."""
        if self.keys:
            mask = (rows <= self.low) | (rows >= self.high)
            return np.where(mask, to_f32(self.mean), to_f32(rows)), mask
        mask = ends(rows, self.per_end, 1)
        return filled(rows, mask, 1), mask

    def fit(self, prompt_rows):
        rows = to_f32(prompt_rows).astype(np.float64)
        self.low, self.high, self.mean = np.full(self.dim, -np.inf), np.full(self.dim, np.inf), 0.0
        count = min(int(0.5 * self.sparsity * len(rows) + 0.5), (len(rows) - 1) // 2)
        if self.keys and count:
            ordered = np.sort(rows, axis=0)
            self.low, self.high = ordered[count - 1], ordered[-count]
            mask = (rows <= self.low) | (rows >= self.high)
            self.mean = np.where(mask, 0, rows).sum(axis=0) / np.maximum((~mask).sum(axis=0), 1)
        self.inner.fit(self.apart(rows)[0])
        whole = rows[:len(rows) // self.block * self.block]
        self.basis = np.zeros((self.dim, self.rank))
        if len(whole):
            read, mask = self.backbone(whole)
            self.basis = leading(np.where(mask, 0, whole - read), self.rank)

    def backbone(self, rows):
        inner, mask = self.apart(rows)
        return self.inner.round_trip(inner), mask

    def bytes_of(self, positions):
        """An atom's outliers count until its last row is dropped: blocks are told by their rows."""
        alive = set(positions)
        atoms = [rows for rows in self.atoms.values() if alive & set(rows)]
        payload, metadata = self.inner.atom_bytes()
        payload += 2 * self.rank * self.block
        if not self.keys:
            payload, metadata = (n + 4 * self.per_end * self.block for n in (payload, metadata))
        found = sum(2 + 4 * sum(self.counts[p] for p in rows) for rows in atoms)
        return (payload * len(atoms),
                metadata * len(atoms) + (found if self.keys and self.sparsity else 0))

    def round_trip(self, rows):
        for start in range(0, len(self.positions), self.block):
            rows_of = tuple(self.positions[start:start + self.block])
            self.atoms[rows_of[0]] = rows_of
        return super().round_trip(rows)


class BlocksAround(GearBlocks):
    def read_back(self, part, mask, axis):
        return self.inner.round_trip(filled(part, mask, axis))

    def atom_bytes(self):
        inner = self.block // self.inner.block
        kept = 2 * self.per_end * (self.dim if self.keys else self.block)
        payload, metadata = (inner * n for n in self.inner.atom_bytes())
        return payload + 2 * self.rank * (self.block + self.dim) + 2 * kept, metadata + 2 * kept
