"""Banks of rows that several lanes share: heads, sides, layers. One row of the object is a token's columns of all
of them, and is charged until the last lane that holds it drops it (interface.md, sections 2 and 5).
"""
from dataclasses import dataclass

import numpy as np

from cache import Bank
from rotary import before_rotation, rotated
from rounding import to_f32


@dataclass
class Lane:
    """A KV head of a layer, and its columns of the object's rows; None: a side that is not there."""
    layer: object
    head: int
    keys: slice
    values: slice


class JointRows(Bank):
    """Keys are turned back, lane by lane, where the codec wants them so."""

    def __init__(self, codec, recorded, exact_row_bytes, lanes, trace):
        super().__init__(codec, recorded, exact_row_bytes, trace.prefill_length)
        self.turned = [lane for lane in lanes if lane.keys] if codec.unrotated else []
        self.positions, self.source = trace.positions, self.recorded.copy()
        for lane in self.turned:
            self.recorded[:, lane.keys] = to_f32(
                before_rotation(lane.layer, self.source[:, lane.keys], self.positions))
        if codec.later:
            self.later = JointRows(codec.later, recorded, exact_row_bytes, lanes, trace)
            self.later.read = self.read

    def encode(self, positions):
        super().encode(positions)
        for lane in self.turned:
            self.read[positions, lane.keys] = rotated(lane.layer, self.read[positions, lane.keys],
                                                      self.positions[positions])


class ObjectBank(JointRows):
    """Each row with the number of lanes that hold it."""

    def __init__(self, codec, recorded, exact_row_bytes, lanes, trace):
        super().__init__(codec, recorded, exact_row_bytes, lanes, trace)
        self.lanes, self.holders, self.ended = lanes, {}, False
        self.views = sum((lane.keys is not None) + (lane.values is not None) for lane in lanes)

    def append(self, position):
        """The first of the lanes brings the row in for all."""
        if position not in self.holders:
            self.holders[position] = self.views
            super().append(position)

    def drop(self, position):
        self.holders[position] -= 1
        if self.holders[position] == 0:
            super().drop(position)

    def end_prompt(self):
        if not self.ended:
            super().end_prompt()
        self.ended = True

    def parts(self):
        """Byte counts of each of its two ways to store: each is parted among layers by itself."""
        counts = self.bytes()
        if not self.later:
            return [counts]
        later = self.later.bytes()
        return [{name: count - later[name] for name, count in counts.items()}, later]


class LaneBank:
    """One lane's view of an object: what a cache of one head asks of a bank."""

    def __init__(self, bank, columns):
        self.bank, self.codec, self.later = bank, bank.codec, None
        self.source = self.recorded = bank.source[:, columns]
        self.read = bank.read[:, columns]
        self.held = np.zeros(len(self.read), dtype=bool)

    def append(self, position):
        self.held[position] = True
        self.bank.append(position)

    def drop(self, position):
        self.held[position] = False
        self.bank.drop(position)

    def edit(self, position, row):
        raise ValueError("rows that span heads, sides or layers are not merged into")

    def flush_due(self, at_once):
        self.bank.flush_due(at_once)

    def end_prompt(self):
        self.bank.end_prompt()

    def coded_mask(self):
        return self.bank.coded_mask() & self.held

    def touched(self, positions):
        """An equal part of what these rows of the object come to."""
        return self.bank.touched(positions) / self.bank.views


def part_of(count, index, n):
    """The parts of n layers differ by one at most, and add up."""
    return count * (index + 1) // n - count * index // n
