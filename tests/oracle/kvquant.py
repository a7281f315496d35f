"""KVQuant (arXiv 2401.18079): keys before the rotation per channel, values per token, one table of
signposts a layer and side, outliers in halves, the first token exact. Rows span all heads of a layer.
"""
import numpy as np

from codec import Codec, Tiers, packed_bytes
from kmeans import kmeans
from probe_squares import squares
from rounding import through_f16, to_f32


def normalised(rows, offset, span):
    """f32, as a program decides codes; a span of 0 gives 0."""
    rows, offset, span = to_f32(rows), to_f32(offset), to_f32(span)
    difference = rows - offset
    return np.divide(difference, np.broadcast_to(span, rows.shape), out=np.zeros_like(rows),
                     where=np.broadcast_to(span, rows.shape) > 0)


def halves(low, high):
    """(offset, half range) as kept."""
    low, high = to_f32(low), to_f32(high)
    return through_f16((low + high) * np.float32(0.5)), through_f16((high - low) * np.float32(0.5))


class KVQuant(Codec):
    """A row is of all heads of a layer."""

    def __init__(self, dim, bits=4, outliers=0.01, weights="fisher", signposts="nuq", q_norm="auto", turned=True):
        super().__init__(dim)
        self.width, self.turned, self.positions, self.behind_turn = dim, turned, None, False
        self.bits, self.share, self.kind = bits, outliers, weights
        self.uniform, self.norm = signposts == "uniform", q_norm == "on" or (q_norm == "auto" and bits == 2)
        self.tiers = Tiers(sinks=1)
        self.coded = {}

    def bind(self, trace, owner, head, side):
        if side == "kv":
            raise ValueError("keys and values are stored by different rules")
        self.trace, self.owner, self.is_keys = trace, owner, side == "k"

    def turn_evidence(self, turn):
        self.behind_turn = True

    def weight_of(self, prompt):
        if self.kind == "none":
            return np.ones_like(prompt)
        if self.behind_turn or self.trace is None:
            raise ValueError("gradients of rows behind a turn")
        kind = "fisher" if self.kind == "fisher" else "label"
        cached = self.trace.exact.setdefault(("squares", kind), {})
        found = []
        for head in range(len(self.owner.k)):
            key = (self.owner.index, head)
            if key not in cached:
                cached[key] = squares(self.trace, self.owner, head, kind)
            if cached[key] is None:
                raise ValueError("the trace has no such probes")
            found.append(cached[key][(1 if self.turned else 0) if self.is_keys else 2])
        return np.concatenate(found, axis=1)

    def fit(self, prompt_rows):
        rows = to_f32(prompt_rows).astype(np.float64)
        fitted = np.arange(len(rows)) >= self.tiers.sinks
        weight = self.weight_of(rows)[fitted]
        rows = rows[fitted]
        if self.is_keys:
            self.fit_channels(rows)
        y, kept, span = self.split(rows)
        values, weights = y[kept].astype(np.float64), weight
        if self.kind in ("fisher", "label"):
            weights = weight * np.broadcast_to(span, rows.shape) ** 2
        levels = 2 ** self.bits
        if self.uniform or not len(values):
            self.table = through_f16(-1 + 2 * np.arange(levels) / (levels - 1))
        else:
            self.table = through_f16(kmeans(values, weights[kept], levels))
        self.decoded = self.table
        if self.norm and len(values):
            read = self.table[self.nearest(values)]
            spread = read.std()
            factor = values.std() / spread if spread > 0 else 1.0
            self.decoded = through_f16((self.table - read.mean()) * factor + values.mean())

    def fit_channels(self, rows):
        if not len(rows):
            self.offset, self.span = np.zeros(self.width), np.ones(self.width)
            return
        tail = 0.5 * self.share
        low, high = np.quantile(rows, tail, axis=0), np.quantile(rows, 1 - tail, axis=0)
        self.offset, self.span = halves(low, high)

    def nearest(self, y):
        table = to_f32(self.table)
        return np.searchsorted((table[1:] + table[:-1]) * np.float32(0.5), to_f32(y))

    def kept_per_end(self):
        if not self.share:
            return 0
        n = self.width - int(np.ceil((1 - 0.5 * self.share) * (self.width - 1) - 1e-9))
        return min(n, (self.width - 1) // 2)

    def split(self, rows):
        """(y, which are coded, half ranges)."""
        if self.is_keys:
            y = normalised(rows, self.offset, self.span)
            outside = np.abs(y) > 1
            outside |= (self.span == 0) & (to_f32(rows) != to_f32(self.offset))
            return y, ~outside if self.share else np.ones_like(outside), self.span
        n, kept = self.kept_per_end(), np.ones(rows.shape, dtype=bool)
        for row, mask in zip(rows, kept):
            top = np.argsort(-row, kind="stable")[:n]
            mask[top] = False
            rest = np.flatnonzero(mask)
            mask[rest[np.argsort(row[rest], kind="stable")[:n]]] = False
        low = np.where(kept, rows, np.inf).min(axis=1, keepdims=True)
        high = np.where(kept, rows, -np.inf).max(axis=1, keepdims=True)
        self.offset, span = halves(low, high)
        return normalised(rows, self.offset, span), kept, span

    def round_trip_at(self, positions):
        self.positions = positions

    def round_trip(self, rows):
        rows = to_f32(rows).astype(np.float64)
        y, kept, span = self.split(rows)
        read = self.decoded[self.nearest(y)] * span + self.offset
        for position, row in zip(self.positions, kept):
            self.coded[position] = int(np.sum(~row))
        return np.where(kept, read, through_f16(rows))

    @property
    def basis_bytes(self):
        tables = 2 * 2 ** self.bits * (2 if self.norm else 1)
        return tables + (4 * self.width if self.is_keys else 0)

    def bytes_of(self, positions):
        """(payload, metadata) of the live rows."""
        rows = len(positions)
        payload = rows * packed_bytes(self.width, self.bits)
        if not self.is_keys:
            return payload, rows * (4 + 8 * self.kept_per_end())
        if not self.share:
            return payload, 0
        return payload, rows * 4 + 4 * sum(self.coded[p] for p in positions)
