"""What every codec of the oracle has: stated bytes per atom, tiers, and one round trip.

No codes are packed here. A row that was encoded is what later answers read, so the oracle only
needs encode-then-decode; the size of an atom follows from the definition.
"""
from dataclasses import dataclass

import numpy as np


class Unknown(ValueError):
    """What the oracle does not know, or what no document settles."""


@dataclass
class Tiers:
    """Rows that stay exact: the first `sinks` positions, the last `recent` of the queue."""
    sinks: int = 0
    recent: int = 0
    flush: int = 1            # rows encoded at a time, once the queue holds recent + flush
    at_once: bool = True      # before the answer of its own step (plain quantizers), or after it


class Codec:
    """Base: one side (keys or values) of one KV head."""
    block = 1                 # rows per atom
    is_number_format = False  # f32, f16, bf16: a copy
    basis_bytes = 0           # fitted on the prompt, resident
    host = False              # where=host: its rows lie in host memory
    unrotated = False         # keys reach it as they were before the rotation (UnrotatedBank)

    def __init__(self, dim):
        self.dim = dim
        self.tiers = Tiers()

    later = None              # the codec of rows after the prompt, and of prompt rows that fill no block
    bytes_of = None           # where sizes vary: (payload, metadata) of the live rows' positions

    def bind(self, trace, owner, head, side):
        """What some codecs know beside their rows: the layer, and whose rows they are."""

    def turn_evidence(self, turn):
        """Rows reach it turned: so do queries (q . k is the same), while gradients and W_o are not known there."""

    def fit(self, prompt_rows):
        """Called once with all prompt rows, before the policy drops any."""

    def round_trip(self, rows):
        """[n * block, dim] exact rows -> the same rows as they are read back."""
        raise NotImplementedError

    def round_trip_at(self, positions):
        """By position, for codecs whose rows are the layer's; None: by rows."""

    def atom_bytes(self):
        """(payload, metadata) of one atom, without padding."""
        raise NotImplementedError


def packed_bytes(codes, bits):
    return (codes * bits + 7) // 8


def in_groups(rows, size):
    """Column slices of `size`; the last may be short, since a latent's width is anything."""
    width = rows.shape[1]
    return [slice(start, min(start + size, width)) for start in range(0, width, size)]


def group_count(dim, size):
    return (dim + size - 1) // size


def apply_by_group(rows, size, function):
    rows = np.asarray(rows)
    result = np.empty(rows.shape, dtype=np.float64)
    for columns in in_groups(rows, size):
        result[:, columns] = function(rows[:, columns])
    return result
