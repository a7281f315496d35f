"""What a structural method is given, and what it gives back; where its rows are from."""
from dataclasses import dataclass

import numpy as np

from codec import Codec
from exact import query_heads
from rotary import before_rotation
from specs import Stage


@dataclass
class Object:
    """What a method is given: the prompt's rows of its lanes, and what a fit may know beside them."""
    rows: np.ndarray               # [prompt, columns]
    lanes: int                     # KV heads x layers
    layers: list                   # of the trace, in the object
    heads: list
    side: str                      # "k", "v" or "kv"
    rest: list                     # stages of the inner codec
    params: dict
    make_chain: object = None      # of makers.py: codecs of `rest`
    queries: np.ndarray = None     # [query heads of the first lane, prompt, key dim], turned as the keys are
    metric: np.ndarray = None      # [key dim, key dim] sum of their squares, as keys meet them

    @property
    def prompt(self):
        return len(self.rows)

    @property
    def width(self):
        return self.rows.shape[1] // self.lanes

    def inner(self, latents):
        """The inner codec, fitted on the prompt's latents."""
        codec = self.make_chain(self.rest or [Stage("f16")], latents.shape[1], self.side[0],
                                 place=Place(side=self.side))
        codec.bind(None, self.layers[0], self.heads[0], self.side)
        codec.fit(latents)
        return codec

    def count(self, name, default, whole):
        """A number, or a share of the whole."""
        value = self.params.get(name, default)
        return int(value * whole + 1e-9) if isinstance(value, float) else value


@dataclass
class Stored:
    read: object                   # rows -> as they are read, and their metadata where it varies (else None)
    payload: int                   # of an atom
    metadata: int                  # the same; where it varies, the rest of it
    basis: int = 0
    owners: list = None            # layers of the object that bytes belong to; None: all
    inner: Codec = None            # of the latents


def from_inner(down, up, codec, basis, **more):
    payload, metadata = (0, 0) if codec.bytes_of else codec.atom_bytes()
    return Stored(lambda rows: (up(codec.round_trip(down(rows))), None), payload, metadata,
                  basis + codec.basis_bytes, inner=codec, **more)


@dataclass
class Place:
    """Where a codec's rows are from: lanes of one layer or more."""
    lanes: int = 1                 # in a row
    turned: bool = False           # keys are as before the rotation
    columns: int = 0               # of a row
    layers: list = None
    heads: list = None
    side: str = "k"
    trace: object = None

    def lanes_in(self, columns):
        return self.lanes if columns == self.columns else 1

    def queries(self):
        """Of the prompt, of the query heads that read the first head."""
        layer, n = self.layers[0], self.trace.prefill_length
        rows = layer.q[query_heads(layer, self.heads[0]), :n]
        if not self.turned:
            return rows
        return np.stack([before_rotation(layer, head, self.trace.positions[:n]) for head in rows])
