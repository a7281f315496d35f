"""KVQuant (arXiv 2401.18079): keys before the rotation per channel, values per token, one table of
signposts a layer and side, outliers in halves, the first token exact. Rows span all heads of a layer.
"""
import numpy as np

from codec import Codec, Tiers, packed_bytes
from kmeans import kmeans
from probe_squares import squares
from rotary import turned
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
    """One head's view of the layer's rows; the first head pays."""

    def __init__(self, dim, bits=4, outliers=0.01, weights="fisher", signposts="nuq", q_norm="auto"):
        super().__init__(dim)
        self.bits, self.share, self.kind = bits, outliers, weights
        self.uniform, self.norm = signposts == "uniform", q_norm == "on" or (q_norm == "auto" and bits == 2)
        self.tiers = Tiers(sinks=1)
        self.coded = {}

    def bind(self, trace, owner, head, side):
        self.head, self.is_keys = head, side == "k"
        self.trace, self.owner = trace, owner
        tensor = owner.k if self.is_keys else owner.v
        if self.is_keys:
            back = -trace.positions
            tensor = np.stack([turned(owner, rows, back) / self.rope_factor(owner) for rows in tensor])
        self.rows = to_f32(np.concatenate(list(tensor), axis=1)).astype(np.float64)
        self.width = self.rows.shape[1]

    def rope_factor(self, owner):
        factor = np.ones(owner.k.shape[2])
        if owner.rope_layout != "none":
            factor[:owner.rope_dims] = owner.rope_scale
        return factor

    def weight_of(self, prompt):
        if self.kind == "none":
            return np.ones_like(prompt)
        kind = "fisher" if self.kind == "fisher" else "label"
        cached = self.trace.exact.setdefault(("squares", kind), {})
        found = []
        for head in range(len(self.owner.k)):
            key = (self.owner.index, head)
            if key not in cached:
                cached[key] = squares(self.trace, self.owner, head, kind)
            if cached[key] is None:
                raise ValueError("the trace has no such probes")
            found.append(cached[key][1 if self.is_keys else 2])
        return np.concatenate(found, axis=1)

    def fit(self, prompt_rows):
        del prompt_rows
        length = self.trace.prefill_length
        fitted = np.arange(length) >= self.tiers.sinks
        rows = self.rows[:length]
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
        rows = self.rows[positions]
        y, kept, span = self.split(rows)
        read = self.decoded[self.nearest(y)] * span + self.offset
        result = np.where(kept, read, through_f16(rows))
        for position, row in zip(positions, kept):
            self.coded[position] = int(np.sum(~row))
        width = self.dim
        own = result[:, self.head * width:(self.head + 1) * width]
        if self.is_keys:
            own = turned(self.owner, own * self.rope_factor(self.owner), self.trace.positions[positions])
        return own

    @property
    def basis_bytes(self):
        if self.head:
            return 0
        tables = 2 * 2 ** self.bits * (2 if self.norm else 1)
        return tables + (4 * self.width if self.is_keys else 0)

    def bytes_of(self, positions):
        """(payload, metadata) of the live rows."""
        if self.head:
            return 0, 0
        rows = len(positions)
        payload = rows * packed_bytes(self.width, self.bits)
        if not self.is_keys:
            return payload, rows * (4 + 8 * self.kept_per_end())
        if not self.share:
            return payload, 0
        return payload, rows * 4 + 4 * sum(self.coded[p] for p in positions)
