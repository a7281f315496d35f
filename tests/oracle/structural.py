"""Structural methods (low rank, pooled heads, shared layers, pruned channels), from the formulas of
methods-arch.md: one object may serve several heads, sides and layers.

A method is fitted on the prompt's rows of its object (float64, [prompt, columns]: layers outermost, then heads,
a head's key before its value) and says what rows read as, and what an atom costs. As a codec (Structural) it
goes wherever codecs go: behind policies, within what stands around a codec, in either of two caches.
"""
from dataclasses import replace

import numpy as np

from codec import Codec, Tiers, Unknown
from low_rank import autoencoder, kq_svd, palu, svd, xkv
from objects import Object, Place, Stored, from_inner
from rotary import over_lags, pair_columns
from rounding import through_f16, to_f32
from specs import Stage


def think_channels(keys, queries, ratio):
    """The channels of one head that stay, by |q_j k_j^T| over queries [heads, n, dim]."""
    scores = (keys ** 2).sum(axis=0) * (queries ** 2).sum(axis=(0, 1))
    kept = len(scores) - int(ratio * len(scores) + 1e-9)
    return np.sort(np.argsort(-scores, kind="stable")[:kept])


THINK_WINDOW = 32


def think(of):
    """Channels by |q_j k_j^T| over all but the newest keys. Values go to the inner codec."""
    if of.side == "v":
        return from_inner(lambda rows: rows, lambda rows: rows, of.inner(of.rows), 0)
    n = of.prompt
    before = n - THINK_WINDOW if n > THINK_WINDOW else n
    channels = think_channels(of.rows[:before], of.queries[:, -THINK_WINDOW:], of.params.get("ratio", 0.4))

    def spread(latents):
        rows = np.zeros((len(latents), of.width))
        rows[:, channels] = latents
        return rows
    return from_inner(lambda rows: rows[:, channels], spread, of.inner(of.rows[:, channels]), (of.width + 7) // 8)


def minicache(of):
    """SLERP of two layers' directions; extreme angles kept beside it."""
    if len(of.layers) == 1:
        return Stored(lambda rows: (through_f16(rows), np.zeros(len(rows), dtype=int)), 2 * of.rows.shape[1], 0)
    share, dim = of.params.get("retained", 0.05), of.width
    prompt = np.sort(angles_between(of.rows, dim))[::-1]
    if of.params.get("retain", "largest") == "below":
        least, most = (0, prompt[-1] + (prompt[0] - prompt[-1]) * share) if share else (4, 4)
    else:
        count = int(np.ceil(share * of.prompt - 1e-9))
        least, most = (prompt[count - 1], 4) if count else (4, 4)

    def read(rows):
        angle = angles_between(rows, dim)
        kept = (angle >= least) & (angle <= most)
        merged = interpolated(rows, angle, dim, of.params.get("t", 0.6))
        return np.where(kept[:, None], through_f16(rows), merged), kept * (4 * dim + 4)
    return Stored(read, 2 * dim, 8)


def directions(rows, dim):
    x = rows.reshape(-1, 2, dim)
    norms = np.linalg.norm(x, axis=2)
    return x / np.where(norms > 0, norms, 1)[..., None], norms


def angles_between(rows, dim):
    """Half the angle from |u1 - u2| and |u1 + u2|: arccos loses what is near 0. A zero row has none."""
    u, norms = directions(rows, dim)
    angle = 2 * np.arctan2(np.linalg.norm(u[:, 0] - u[:, 1], axis=1), np.linalg.norm(u[:, 0] + u[:, 1], axis=1))
    angle[(norms == 0).any(axis=1)] = 0
    return angle


def interpolated(rows, angle, dim, t):
    u, norms = directions(rows, dim)
    flat = np.sin(angle) < 1e-6
    weights = np.where(flat, [[1 - t], [t]], np.stack([np.sin((1 - t) * angle), np.sin(t * angle)])
                       / np.where(flat, 1, np.sin(angle)))
    shared = (weights.T[..., None] * u).sum(axis=1)
    length = np.where(flat, np.linalg.norm(shared, axis=1), 1)
    shared = through_f16(shared / np.where(length > 0, length, 1)[:, None])
    return (to_f32(norms).astype(np.float64)[..., None] * shared[:, None]).reshape(len(rows), -1)


def gqa(of):
    """Mean of a group's heads, turned onto its first before and back after."""
    n = len(of.heads)
    groups, dim = max(of.count("heads", 0.5, n), 1), of.width
    if groups > n:
        raise ValueError(f"{groups} heads of {n}")
    x = of.rows.reshape(-1, n, dim)
    group_of = [h * groups // n for h in range(n)]
    turns, basis = [], 0
    for h in range(n):
        first = group_of.index(group_of[h])
        aligned = of.params.get("align", "none") == "procrustes" and first != h
        turns.append(turn_onto(of, x[:, h], x[:, first]) if aligned else np.eye(dim))
        basis += 2 * dim * (1 if keeps_pairs(of) else dim) * aligned

    def pooled(rows):
        x = rows.reshape(-1, n, dim)
        return np.hstack([np.mean([x[:, h] @ turns[h] for h in range(n) if group_of[h] == g], axis=0)
                          for g in range(groups)])

    def parted(latents):
        parts = latents.reshape(-1, groups, dim)
        return np.hstack([parts[:, group_of[h]] @ turns[h].T for h in range(n)])
    return from_inner(pooled, parted, of.inner(pooled(of.rows)), basis)


def keeps_pairs(of):
    return of.side == "k" and of.layers[0].rope_layout != "none"


def turn_onto(of, own, reference):
    """Orthogonal Procrustes; keys that rotate, what commutes with it: an angle for each rotary pair."""
    if not keeps_pairs(of):
        u, sizes, vt = np.linalg.svd(own.T @ reference)
        if sizes[-1] < 1e-9 * sizes[0]:
            raise Unknown("a turn of directions that no row has")
        return through_f16(u @ vt)
    turn = np.eye(of.width)
    for x, y in zip(*pair_columns(of.layers[0])):
        along = np.sum(own[:, x] * reference[:, x] + own[:, y] * reference[:, y])
        across = np.sum(own[:, x] * reference[:, y] - own[:, y] * reference[:, x])
        angle = np.arctan2(across, along)
        turn[x, x] = turn[y, y] = np.cos(angle)
        turn[x, y], turn[y, x] = np.sin(angle), -np.sin(angle)
    return through_f16(turn)


def layer_share(of):
    """Layers read the rows of others: by a map over the model's layers, or pairs by distance as in
    KVSharer's published search (without its test by hidden states)."""
    n, lanes = len(of.layers), of.lanes // len(of.layers)
    given = [int(entry) for entry in str(of.params["map"]).split("-")] if "map" in of.params else None
    sources = mapped_sources(of, given) if given else chosen_sources(of, lanes)
    owners = [l for l in range(n) if sources[l] == l]
    basis = 0 if given or n == 1 else 2 * n

    def stored(rows):
        return rows.reshape(len(rows), n, -1)[:, owners].reshape(len(rows), -1)

    def shown(latents):
        kept = latents.reshape(len(latents), len(owners), -1)
        return np.stack([kept[:, owners.index(source)] for source in sources], axis=1).reshape(len(latents), -1)
    return from_inner(stored, shown, of.inner(stored(of.rows)), basis, owners=owners)


def mapped_sources(of, given):
    """The root of each layer, as its place in the object."""
    here = [layer.index for layer in of.layers]
    roots = []
    for layer in here:
        while given[layer] != layer:
            layer = given[layer]
        roots.append(layer)
    if not set(roots) <= set(here):
        raise ValueError("a layer reads one that is not beside it")
    return [here.index(root) for root in roots]


def chosen_sources(of, lanes):
    """Pairs in order of distance: the later layer reads the earlier one, and who read it reads that, too."""
    n = len(of.layers)
    dims = [(d, s) for s, d in (("k", of.layers[0].k.shape[2]), ("v", of.layers[0].v.shape[2])) if s in of.side]
    heads = of.rows.reshape(of.prompt, n, lanes, -1)
    distance, first = np.zeros((n, n)), 0
    for dim, _ in dims:
        side = heads[..., first:first + dim]
        first += dim
        for i in range(n):
            for j in range(i):
                distance[i, j] += np.linalg.norm(side[:, i] - side[:, j], axis=-1).mean() / len(dims)
    sign = -1 if of.params.get("choose", "dissimilar") == "dissimilar" else 1
    pairs = sorted((sign * distance[i, j], i, j) for i in range(n) for j in range(i))
    wanted = max(of.count("shared", 0.25, n), 1) if n > 1 else 0
    sources, shared = list(range(n)), set()
    for _, later, earlier in pairs:
        if len(shared) == wanted:
            break
        if later in shared:
            continue
        shared.add(later)
        sources[later] = earlier
        for i in range(n):
            sources[i] = sources[sources[i]]
    return sources


METHODS = {"svd": svd, "layer-share": layer_share, "think": think, "minicache": minicache, "gqa": gqa, "palu": palu,
           "xkv": xkv, "kq-svd": kq_svd, "autoencoder": autoencoder}
PARAMETERS = {"svd": {"rank"}, "layer-share": {"map", "choose", "shared"}, "think": {"ratio"}, "gqa": {"heads", "align"},
              "minicache": {"start", "t", "retained", "retain"}, "xkv": {"rank", "group_layers"},
              "palu": {"rank", "group_heads"}, "kq-svd": {"rank", "values"}, "autoencoder": {"rank", "steps"}}
ONE_LANE = {"think", "kq-svd"}                 # of one head and side


class Exact(Codec):
    """Rows that stay as they are."""

    def __init__(self, dim):
        super().__init__(dim)
        self.tiers = Tiers(flush=1 << 40)

    def atom_bytes(self):
        return 0, 0


class Structural(Codec):
    """A method of this file around what stores its latents."""

    def __init__(self, name, dim, side, params, rest, place, make_chain):
        super().__init__(dim)
        if set(params) - PARAMETERS[name]:
            raise Unknown(f"{name} takes no {sorted(set(params) - PARAMETERS[name])}")
        self.name, self.params, self.rest, self.place = name, params, rest, replace(place, side=place.side or side)
        self.make_chain = make_chain
        inner = make_chain(rest or [Stage("f16")], dim, side, place=Place(side=self.place.side))
        if inner.later:
            raise ValueError("rows after the prompt that are stored in another way")
        self.block, self.tiers = inner.block, replace(inner.tiers)
        if name == "think" and side == "k":
            self.tiers.recent += THINK_WINDOW
        if name == "xkv":
            self.later = Exact(dim)
            self.later.tiers.sinks = self.tiers.sinks
        self.more = {}
        if name == "minicache" or inner.bytes_of:
            self.bytes_of = self.bytes_by_row
        self.stored, self.positions, self.turns = None, None, []

    def bind(self, trace, owner, head, side):
        if self.place.layers is None:                             # no trace: its rows are another's latents
            self.place = replace(self.place, layers=[owner], heads=[head], side=side, trace=trace)

    def turn_evidence(self, turn):
        """Called from the innermost turn outwards."""
        self.turns.insert(0, turn)

    def queries(self):
        rows = self.place.queries()
        for turn in self.turns:
            rows = np.stack([turn(head) for head in rows])
        return rows

    def metric(self):
        """Of queries that meet keys at other positions than their own."""
        place, rows = self.place, self.place.queries().reshape(-1, self.dim)
        squares = rows.T @ rows
        if place.turned:
            squares = over_lags(place.layers[0], squares, place.trace.positions[:place.trace.prefill_length])
        for turn in self.turns:
            squares = turn(turn(squares).T)
        return squares

    def fit(self, prompt_rows):
        place = self.place
        if place.trace is None and (self.name in ONE_LANE and place.side == "k" or self.params.get("values") == "output"):
            raise ValueError("queries, and W_o, of rows that are latents")
        if place.trace is None and self.name == "gqa" and len(place.layers[0].k) > 1:
            raise ValueError("latents, which are no head's, to be pooled")
        if self.turns and self.params.get("values") == "output" and place.side == "v":
            raise ValueError("W_o of rows behind a turn")
        if self.name in ONE_LANE and (len(place.heads) > 1 or place.side == "kv"):
            raise ValueError(f"{self.name} serves one head and side")
        of = Object(to_f32(prompt_rows).astype(np.float64), place.lanes, place.layers, place.heads, place.side,
                    self.rest, self.params, self.make_chain, self.queries() if self.name == "think" and place.side == "k" else None,
                    self.metric() if self.name == "kq-svd" and place.side == "k" else None)
        self.stored = METHODS[self.name](of)

    def round_trip_at(self, positions):
        self.positions = positions
        if self.stored.inner:
            self.stored.inner.round_trip_at(positions)

    def round_trip(self, rows):
        read, more = self.stored.read(to_f32(rows).astype(np.float64))
        if more is not None:
            self.more.update(zip(self.positions, more))
        return read

    def atom_bytes(self):
        return self.stored.payload, self.stored.metadata

    def bytes_by_row(self, positions):
        if self.stored.inner:
            return self.stored.inner.bytes_of(positions)
        return (len(positions) * self.stored.payload,
                len(positions) * self.stored.metadata + sum(int(self.more[p]) for p in positions))

    @property
    def basis_bytes(self):
        return self.stored.basis

    @basis_bytes.setter
    def basis_bytes(self, _):
        pass


def within(codec):
    """The method of this file in a chain, or None."""
    while codec is not None and not isinstance(codec, Structural):
        codec = getattr(codec, "inner", None)
    return codec


def tells_layers_apart(codec):
    method = within(codec)
    return method is not None and method.name == "layer-share"


def stored_by(codec):
    """Layers of the object that atoms and bases belong to; None: all, as where something around the method stores
    of every layer (its mean, its outliers)."""
    return codec.stored.owners if isinstance(codec, Structural) else None
