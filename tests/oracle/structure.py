"""Structural methods (low rank, pooled heads, shared layers, pruned channels), from the formulas of
methods-arch.md: one object may serve several heads, sides and layers.

A method is fitted on the prompt's rows of its object (float64, [prompt, columns]: layers outermost, then heads,
a head's key before its value) and says what rows read as, and what an atom costs. As a codec (Structural) it
goes wherever codecs go: behind policies, within what stands around a codec, in either of two caches.
"""
from dataclasses import dataclass, replace

import numpy as np

from cache import by_place
from codec import Codec, Tiers
import disturbed
from joint import Lane, LaneBank, ObjectBank, part_of
from replay import LayerReplay, run_together
from rotary import before_rotation, over_lags, pair_columns
from rounding import through_bf16, through_f16, to_f32
from svd import check_found
import specs


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
        codec = specs.make_chain(self.rest or [specs.Stage("f16")], latents.shape[1], self.side[0],
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


def leading(gram, rank):
    """Eigenvectors of the largest eigenvalues, as columns, and these. A sign is free: the component of
    largest magnitude is positive."""
    values, vectors = np.linalg.eigh(disturbed.gram(gram))
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(vectors))])
    return vectors[:, ::-1][:, :rank], values[::-1][:rank]


def project(of, down, up, basis, shift=0.0, found=(), **more):
    """x -> down -> inner -> up; both maps as halves. found: columns of a row, and what `leading` gave for them."""
    def latents_of(rows):
        for columns, vectors, values in found:
            check_found(rows[:, columns], vectors, values)
        return disturbed.products(rows - shift, down)

    down, up = through_f16(down), through_f16(up)
    codec = of.inner(disturbed.products(of.rows - shift, down))
    return from_inner(latents_of, lambda latents: latents @ up.T + shift, codec, basis, **more)


def checked(rank, columns, of):
    if not 0 < rank <= min(columns, of.prompt):
        raise ValueError(f"rank {rank} of {of.prompt} rows with {columns} columns")
    return rank


def svd(of):
    rank = checked(of.params.get("rank", 32), of.rows.shape[1], of)
    return on_energy(of, rank)


def on_energy(of, rank):
    basis, values = leading(of.rows.T @ of.rows, rank)
    return project(of, basis, basis, 2 * basis.size, found=[(slice(None), basis, values)])


def palu(of):
    """Groups of heads; singular values = square roots of the eigenvalues, parted over both factors."""
    heads = min(of.params.get("group_heads", 4), len(of.heads))
    group = of.width * heads
    total, rank = of.rows.shape[1], checked(of.count("rank", 0.5, group), group, of)
    downs, ups, size, found = [], [], 0, []
    for first in range(0, total, group):
        columns = slice(first, min(first + group, total))
        x = of.rows[:, columns]
        vectors, values = leading(x.T @ x, min(rank, x.shape[1]))
        found.append((columns, vectors, values))
        scale = np.where(values > 1e-12 * values.max(initial=0), np.abs(values), 1.0) ** 0.25
        down, up = np.zeros((total, len(values))), np.zeros((total, len(values)))
        down[columns], up[columns] = vectors / scale, vectors * scale
        downs.append(down), ups.append(up)
        size += x.shape[1] * len(values)
    return project(of, np.hstack(downs), np.hstack(ups), 2 * size, found=found)


def xkv(of):
    rank = checked(of.count("rank", 0.125, of.rows.shape[1]), of.rows.shape[1], of)
    return on_energy(of, rank)


def kq_svd(of):
    """Closed form by factors of both metrics and one SVD of L_q^T L_k (section 4.3)."""
    dim = of.width
    rank, x = checked(of.count("rank", 0.5, dim), dim, of), of.rows
    if of.side == "v":
        if of.params.get("values", "pca") == "pca":
            return on_energy(of, rank)
        c_q = output_metric(of)
    else:
        c_q = of.metric
    c_k = disturbed.gram(x.T @ x)
    c_k += (1e-6 * np.trace(c_k) / dim or 1.0) * np.eye(dim)       # keys without energy: any basis is theirs
    c_q = c_q + 1e-12 * np.trace(c_q) / dim * np.eye(dim)
    l_q, l_k = root(c_q), root(c_k)
    u, s, vt = np.linalg.svd(l_q.T @ l_k)
    a = np.linalg.solve(l_q.T, u[:, :rank] * np.sqrt(s[:rank]))
    b = np.linalg.solve(l_k.T, vt[:rank].T * np.sqrt(s[:rank]))
    length = np.linalg.norm(b, axis=0)
    return project(of, b / length, a * length, 4 * b.size)


def root(matrix):
    """L, L L^T = matrix, of one that rounding may have left a little below positive."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 1e-15 * values[-1]))


def output_metric(of):
    layer, dim = of.layers[0], of.width
    heads = query_heads(layer, of.heads[0])
    if layer.w_o is None:
        raise ValueError("values=output of a trace without w_o")
    parts = [layer.w_o[:, h * dim:(h + 1) * dim] for h in range(heads.start, heads.stop)]
    return sum(part.T @ part for part in parts)


def query_heads(layer, head):
    return slice(head * layer.group, (head + 1) * layer.group)


def autoencoder(of):
    """Orthogonal iteration on the covariance from the first unit vectors."""
    x, dim = of.rows, of.rows.shape[1]
    rank = checked(of.count("rank", 0.5, dim), dim, of)
    mean = through_f16(x.mean(axis=0))
    covariance = disturbed.gram((x - mean).T @ (x - mean))
    basis = np.eye(dim)[:, :rank]
    for _ in range(of.params.get("steps", 16)):
        basis, upper = np.linalg.qr(covariance @ basis)
        basis = basis * np.sign(np.diag(upper))
    return project(of, basis, basis, 2 * dim * (rank + 1), shift=mean)


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
            raise specs.Unknown("a turn of directions that no row has")
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
GROUPS = {"layer-share": lambda params, layer, trace: 1024 if shares(params, layer) else 1,
          "xkv": lambda params, layer, trace: params.get("group_layers", 4),
          "minicache": lambda params, layer, trace: 2 if layer.index >= first_merged(params, trace) else 1}


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


class Exact(Codec):
    """Rows that stay as they are."""

    def __init__(self, dim):
        super().__init__(dim)
        self.tiers = Tiers(flush=1 << 40)

    def atom_bytes(self):
        return 0, 0


class Structural(Codec):
    """A method of this file around what stores its latents."""

    def __init__(self, name, dim, side, params, rest, place):
        super().__init__(dim)
        if set(params) - PARAMETERS[name]:
            raise specs.Unknown(f"{name} takes no {sorted(set(params) - PARAMETERS[name])}")
        self.name, self.params, self.rest, self.place = name, params, rest, replace(place, side=place.side or side)
        inner = specs.make_chain(rest or [specs.Stage("f16")], dim, side, place=Place(side=self.place.side))
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
                    self.rest, self.params, self.queries() if self.name == "think" and place.side == "k" else None,
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


def shares(params, layer):
    """Not a layer of a map that nobody else reads and that reads nobody."""
    if "map" not in params:
        return True
    given = [int(entry) for entry in str(params["map"]).split("-")]
    return any((i == layer.index) != (source == layer.index) for i, source in enumerate(given))


def first_merged(params, trace):
    start = params.get("start", 0.5)
    return int(start * trace.model_layers + 1e-9) if isinstance(start, float) else start


# -- which lanes share an object -----------------------------------------------------------------

HEADS, SIDES = 2, 1
SPANS = {"none": 0, "joint": SIDES, "heads": HEADS, "all": HEADS | SIDES}
MEANT = {"layer-share": lambda params: HEADS | SIDES, "xkv": lambda params: HEADS, "gqa": lambda params: HEADS,
         "palu": lambda params: HEADS * (params.get("group_heads", 4) > 1),
         "kvquant": lambda params: HEADS,
         "nvfp4": lambda params: HEADS * (params.get("scale", "tensor") == "tensor"),
         "fp8": lambda params: HEADS * (params.get("scale") == "tensor")}


def stages_of(spec, side):
    return [s for s in specs.parse(spec) if s.name in specs.CODECS and side in s.side]


def span_of(spec, side):
    """What the outermost codec says, or else what one of the chain means; of one side it cannot span both."""
    chain = stages_of(spec, side)
    if not chain:
        return 0
    said = SPANS[specs.side_params(chain[0], side).get("span", "none")]
    if said:
        return said
    sided = any(stage.side != "kv" for stage in specs.parse(spec))
    meant = [MEANT[s.name](specs.side_params(s, side)) for s in chain if s.name in MEANT]
    return next((m & (HEADS if sided else 3) for m in meant if m), 0)


def knows(spec):
    """Specs with rows that several lanes share."""
    try:
        return "+rest+" not in spec and any(
            span_of(spec, side) or any(s.name in GROUPS for s in stages_of(spec, side)[:1]) for side in "kv")
    except specs.Unknown:
        return False


def finds_basis(spec):
    """Directions of more rows than there are columns; of fewer, some are nobody's."""
    return any(s.name in {"svd", "palu", "xkv", "kq-svd", "autoencoder", "mla", "gear"}
               or s.params.get("align") == "procrustes" for s in specs.all_stages(spec))


def same_kind(a, b):
    return (a.k.shape, a.v.shape, a.q.shape, a.window, a.rope_layout, a.rope_dims) == \
        (b.k.shape, b.v.shape, b.q.shape, b.window, b.rope_layout, b.rope_dims)


def layers_joined(spec, side, layer, trace):
    stage = stages_of(spec, side)[:1]
    return GROUPS[stage[0].name](specs.side_params(stage[0], side), layer, trace) \
        if stage and stage[0].name in GROUPS else 1


def left_out(layer, spec, trace):
    return specs.leaves_exact(spec, layer.index, trace.model_layers)


def layer_groups(trace, spec):
    """Recorded neighbours of one kind, as many as the outer codec joins; a layer that stays exact is alone."""
    groups = []
    for layer in trace.layers.values():
        if layer.owner != layer.index:
            continue
        most = 1 if left_out(layer, spec, trace) else max(layers_joined(spec, side, layer, trace) for side in "kv")
        kin = [g for g in groups if g[0] > 1 and same_kind(g[1][0], layer)]
        if most > 1 and kin and len(kin[-1][1]) < kin[-1][0]:
            kin[-1][1].append(layer)
        else:
            groups.append((most, [layer]))
    return [members for _, members in groups]


def sides_of(member, spec):
    """Objects hold one side each, or both; where values are columns of the keys there are keys alone."""
    if member.value_is_key_prefix:
        return ["k"]
    return ["kv"] if span_of(spec, "k") & SIDES else ["k", "v"]


def lanes_of(layers, heads, side):
    """Columns of each lane, a key before its value."""
    first, lanes = 0, []
    for layer in layers:
        for head in heads:
            columns = []
            for kind, dim in (("k", layer.k.shape[2]), ("v", layer.v.shape[2])):
                columns.append(slice(first, first + dim) if kind in side else None)
                first += dim if kind in side else 0
            lanes.append(Lane(layer, head, *columns))
    return lanes, first


def make_object(trace, spec, layers, heads, side):
    lanes, columns = lanes_of(layers, heads, side)
    rows = np.zeros((trace.tokens, columns))
    for lane in lanes:
        for part, tensor in ((lane.keys, lane.layer.k), (lane.values, lane.layer.v)):
            if part:
                rows[:, part] = tensor[lane.head]
    place = Place(lanes=len(lanes), columns=columns, layers=layers, heads=heads, side=side, trace=trace)
    owner = layers[0]
    recorded = "bf16" if owner.stored is through_bf16 else "f16"
    codec = specs.make_codec(specs.parse(spec), columns, side[0], owner.element_bytes, recorded, place)
    codec.bind(trace, owner, heads[0], side)
    bank = ObjectBank(codec, rows, owner.element_bytes * columns, lanes, trace)
    codec.fit(bank.recorded[:trace.prefill_length])
    return bank


def objects_of(trace, spec, members):
    """Banks that serve more lanes than one, of a group of layers."""
    for side in sides_of(members[0], spec):
        joined = [members] if len(members) > 1 and layers_joined(spec, side[0], members[0], trace) > 1 \
            else [[member] for member in members]
        heads = list(range(len(members[0].k)))
        parts = [heads] if span_of(spec, side[0]) & HEADS else [[head] for head in heads]
        for layers in joined if stages_of(spec, side[0]) else []:
            for part in parts:
                if len(layers) * len(part) * len(side) > 1:
                    yield make_object(trace, spec, layers, part, side)


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


# -- the replay ----------------------------------------------------------------------------------


class StructureReplay(LayerReplay):
    """One layer of a group; objects of the whole group are shared among its members' replays."""

    def __init__(self, trace, owner, readers, spec, objects):
        self.objects = [bank for bank in objects if any(lane.layer is owner for lane in bank.lanes)]
        super().__init__(trace, owner, readers, spec)

    def count_bytes(self, stages, policy, limit):
        raise specs.Unknown("a budget in bytes of rows that span")

    def make_bank_of(self, stages, head, side):
        for bank in self.objects:
            for lane in bank.lanes:
                columns = lane.keys if side == "k" else lane.values
                if lane.layer is self.owner and lane.head == head and columns:
                    return LaneBank(bank, columns)
        return super().make_bank_of(stages, head, side)

    def fit_bank(self, head, bank):
        if not isinstance(bank, LaneBank):
            super().fit_bank(head, bank)

    def byte_counts(self):
        total = dict(payload=0, metadata=0, residual=0, basis=0, offloaded=0, key=0, value=0, joint=False)
        for bank in self.objects:
            self.count_object(total, bank)
        for cache in self.heads:
            for side, bank in zip(("key", "value"), cache.banks):
                for name, count in by_place(bank).items() if not isinstance(bank, LaneBank) else []:
                    total[name] += count
                    total[side] += count if name != "offloaded" else 0
            total["metadata"] += self.policy_bytes(cache)
        total["resident"] = sum(total[n] for n in ("payload", "metadata", "residual", "basis"))
        return total

    def count_host_reads(self, cache, read, t):
        """Of rows that are read whole this layer's part, with the first of its heads."""
        if self.policy.selects:
            super().count_host_reads(cache, read, t)
        elif cache is self.heads[0]:
            self.host_reads += self.byte_counts()["offloaded"]

    def count_object(self, total, bank):
        layers = list(dict.fromkeys(lane.layer.index for lane in bank.lanes))
        index, owners = layers.index(self.owner.index), stored_by(bank.codec)
        owners = list(range(len(layers))) if owners is None else owners
        for counts in bank.parts():
            for name, count in counts.items():
                among = list(range(len(layers))) if name == "residual" else owners
                part = part_of(count, among.index(index), len(among)) if index in among else 0
                away = bank.codec.host and name != "basis"
                total["offloaded" if away else name] += part
                total["key" if bank.lanes[0].keys else "value"] += 0 if away else part
        total["joint"] |= bool(bank.lanes[0].keys and bank.lanes[0].values)


def replay_groups(trace, spec):
    """Yields (replay, answers by layer) like replay.replay_layers."""
    known = specs.without_question(trace, spec)
    for members in layer_groups(trace, spec):
        objects = [] if left_out(members[0], spec, trace) else list(objects_of(known, spec, members))
        replays = [StructureReplay(trace, owner,
                                   [l for l in trace.layers.values() if l.owner == owner.index and l is not owner],
                                   spec, objects) for owner in members]
        yield from zip(replays, run_together(replays))


def check(trace, spec):
    """Raises ValueError where the layers of the trace do not allow a map or so many readers, or where sides join
    other numbers of layers."""
    for layer in trace.layers.values():
        if len({layers_joined(spec, side, layer, trace) for side in "kv"} - {0, 1}) > 1:
            raise ValueError("sides that join other numbers of layers")
    for side in sides_of(next(iter(trace.layers.values())), spec):
        stage = stages_of(spec, side[0])[:1]
        if not stage or stage[0].name != "layer-share":
            continue
        params = specs.side_params(stage[0], side[0])
        given = [int(entry) for entry in str(params["map"]).split("-")] if "map" in params else None
        if given and (len(given) != trace.model_layers or any(source > i for i, source in enumerate(given))):
            raise ValueError("a map that does not fit the model")
        for members in layer_groups(trace, spec):
            if left_out(members[0], spec, trace):
                continue
            of = Object(np.zeros((0, 1)), 1, members, [], side, [], params)
            if given:
                mapped_sources(of, given)
            elif len(members) > 1 and max(of.count("shared", 0.25, len(members)), 1) >= len(members):
                raise ValueError("no layer is left to store rows")
