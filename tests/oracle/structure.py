"""Structural methods (low rank, pooled heads, shared layers, pruned channels), from the formulas of
methods-arch.md: one object may serve several heads, sides and layers. No policy stands beside them here.

A method is a function of the rows of its object (float64, [tokens, columns]: layers outermost, then
heads, a head's key before its value) and says what they read as, and what an atom costs.
"""
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from cache import Bank, HeadCache
from codec import Codec, Tiers
import disturbed
from replay import LayerReplay, empty_answers
from rotary import before_rotation, pair_columns, rotated
from rounding import through_f16, to_f32
import policies
import specs


@dataclass
class Object:
    """What a method is given: the rows of its lanes, and what a fit may know of the prompt."""
    rows: np.ndarray               # [tokens, columns]
    prompt: int
    lanes: int                     # KV heads x layers
    layers: list                   # of the trace, in the object
    heads: list
    side: str                      # "k", "v" or "kv"
    rest: list                     # stages of the inner codec
    params: dict

    @property
    def width(self):
        return self.rows.shape[1] // self.lanes

    def inner(self, latents):
        """Latents as the inner codec gives them back, and its bytes: fitted on the prompt's."""
        codec = specs.make_chain(self.rest or [specs.Stage("f16")], latents.shape[1], self.side[0])
        codec.fit(latents[:self.prompt])
        return codec.round_trip(latents), codec

    def count(self, name, default, whole):
        """A number, or a share of the whole."""
        value = self.params.get(name, default)
        return int(value * whole + 1e-9) if isinstance(value, float) else value


@dataclass
class Stored:
    rows: np.ndarray               # as read
    payload: int                   # of an atom, one a token
    metadata: object               # the same: a number, or an array over tokens
    basis: int = 0
    recent: int = 0                # newest rows that stay exact
    owners: list = None            # layers of the object that bytes belong to; None: all
    prompt_only: bool = False      # rows after the prompt stay exact


def from_inner(rows, codec, basis, **more):
    payload, metadata = codec.atom_bytes()
    return Stored(rows, payload, metadata, basis + codec.basis_bytes, **more)


def leading(gram, rank):
    """Eigenvectors of the largest eigenvalues, as columns, and these. A sign is free: the component of
    largest magnitude is positive."""
    values, vectors = np.linalg.eigh(disturbed.gram(gram))
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(vectors))])
    return vectors[:, ::-1][:, :rank], values[::-1][:rank]


def project(of, down, up, basis, shift=0.0, **more):
    """x -> down -> inner -> up; both maps as halves."""
    down, up = through_f16(down), through_f16(up)
    latents, codec = of.inner((of.rows - shift) @ down)
    return from_inner(latents @ up.T + shift, codec, basis, **more)


def checked(rank, columns, of):
    if not 0 < rank <= min(columns, of.prompt):
        raise ValueError(f"rank {rank} of {of.prompt} rows with {columns} columns")
    return rank


def svd(of):
    rank = checked(of.params.get("rank", 32), of.rows.shape[1], of)
    basis, _ = leading(of.rows[:of.prompt].T @ of.rows[:of.prompt], rank)
    return project(of, basis, basis, 2 * basis.size)


def palu(of):
    """Groups of heads; singular values = square roots of the eigenvalues, parted over both factors."""
    heads = min(of.params.get("group_heads", 4), len(of.heads))
    group = of.width * heads
    total, rank = of.rows.shape[1], checked(of.count("rank", 0.5, group), group, of)
    downs, ups, size = [], [], 0
    for first in range(0, total, group):
        columns = slice(first, min(first + group, total))
        x = of.rows[:of.prompt, columns]
        vectors, values = leading(x.T @ x, min(rank, x.shape[1]))
        scale = values ** 0.25
        down, up = np.zeros((total, len(values))), np.zeros((total, len(values)))
        down[columns], up[columns] = vectors / scale, vectors * scale
        downs.append(down), ups.append(up)
        size += x.shape[1] * len(values)
    return project(of, np.hstack(downs), np.hstack(ups), 2 * size)


def xkv(of):
    rank = checked(of.count("rank", 0.125, of.rows.shape[1]), of.rows.shape[1], of)
    x = of.rows[:of.prompt]
    basis, _ = leading(x.T @ x, rank)
    return project(of, basis, basis, 2 * basis.size, prompt_only=True)


def kq_svd(of):
    """Closed form by Cholesky factors and one SVD of L_q^T L_k (section 4.3)."""
    dim = of.width
    rank, x = checked(of.count("rank", 0.5, dim), dim, of), of.rows[:of.prompt]
    if of.side == "v":
        if of.params.get("values", "pca") == "pca":
            basis, _ = leading(x.T @ x, rank)
            return project(of, basis, basis, 2 * basis.size)
        c_q = output_metric(of)
    else:
        queries = of.layers[0].q[query_heads(of.layers[0], of.heads[0]), :of.prompt].reshape(-1, dim)
        c_q = queries.T @ queries
    c_k = disturbed.gram(x.T @ x)
    c_k += 1e-6 * np.trace(c_k) / dim * np.eye(dim)
    c_q = c_q + 1e-12 * np.trace(c_q) / dim * np.eye(dim)
    l_q, l_k = np.linalg.cholesky(c_q), np.linalg.cholesky(c_k)
    u, s, vt = np.linalg.svd(l_q.T @ l_k)
    a = np.linalg.solve(l_q.T, u[:, :rank] * np.sqrt(s[:rank]))
    b = np.linalg.solve(l_k.T, vt[:rank].T * np.sqrt(s[:rank]))
    length = np.linalg.norm(b, axis=0)
    return project(of, b / length, a * length, 4 * b.size)


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
    x, dim = of.rows[:of.prompt], of.rows.shape[1]
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


def think(of):
    """Channels by |q_j k_j^T|; the newest 32 keys whole. Values go to the inner codec."""
    if of.side == "v":
        rows, codec = of.inner(of.rows)
        return from_inner(rows, codec, 0)
    n = of.prompt
    window, before = min(32, n), n - 32 if n > 32 else n
    queries = of.layers[0].q[query_heads(of.layers[0], of.heads[0]), n - window:n]
    channels = think_channels(of.rows[:before], queries, of.params.get("ratio", 0.4))
    latents, codec = of.inner(of.rows[:, channels])
    rows = np.zeros_like(of.rows)
    rows[:, channels] = latents
    return from_inner(rows, codec, (of.width + 7) // 8, recent=32)


def minicache(of):
    """SLERP of two layers' directions; extreme angles kept beside it."""
    if len(of.layers) == 1:
        return Stored(through_f16(of.rows), 2 * of.rows.shape[1], 0)
    dim, t = of.width, of.params.get("t", 0.6)
    x = of.rows.reshape(-1, 2, dim)
    norms = np.linalg.norm(x, axis=2)
    u = x / np.where(norms > 0, norms, 1)[..., None]
    # Half the angle from |u1 - u2| and |u1 + u2|: arccos loses what is near 0. A zero row has none.
    angle = 2 * np.arctan2(np.linalg.norm(u[:, 0] - u[:, 1], axis=1), np.linalg.norm(u[:, 0] + u[:, 1], axis=1))
    angle[(norms == 0).any(axis=1)] = 0
    flat = np.sin(angle) < 1e-6
    weights = np.where(flat, [[1 - t], [t]], np.stack([np.sin((1 - t) * angle), np.sin(t * angle)])
                       / np.where(flat, 1, np.sin(angle)))
    shared = (weights.T[..., None] * u).sum(axis=1)
    length = np.where(flat, np.linalg.norm(shared, axis=1), 1)
    shared = through_f16(shared / np.where(length > 0, length, 1)[:, None])
    share, prompt = of.params.get("retained", 0.05), np.sort(angle[:of.prompt])[::-1]
    if of.params.get("retain", "largest") == "below":
        kept = angle <= prompt[-1] + (prompt[0] - prompt[-1]) * share if share else angle < 0
    else:
        count = int(np.ceil(share * of.prompt - 1e-9))
        kept = angle >= prompt[count - 1] if count else angle > 4
    merged = to_f32(norms).astype(np.float64)[..., None] * shared[:, None]
    rows = np.where(kept[:, None, None], through_f16(x), merged).reshape(len(x), -1)
    return Stored(rows, 2 * dim, 8 + kept * (4 * dim + 4))


def gqa(of):
    """Mean of a group's heads, turned onto its first before and back after."""
    n = len(of.heads)
    groups, dim = max(of.count("heads", 0.5, n), 1), of.width
    x = of.rows.reshape(-1, n, dim)
    group_of = [h * groups // n for h in range(n)]
    turns, basis = [], 0
    for h in range(n):
        first = group_of.index(group_of[h])
        aligned = of.params.get("align", "none") == "procrustes" and first != h
        turns.append(turn_onto(of, x[:of.prompt, h], x[:of.prompt, first]) if aligned else np.eye(dim))
        basis += 2 * dim * (1 if keeps_pairs(of) else dim) * aligned
    pooled = np.hstack([np.mean([x[:, h] @ turns[h] for h in range(n) if group_of[h] == g], axis=0)
                        for g in range(groups)])
    latents, codec = of.inner(pooled)
    parts = latents.reshape(-1, groups, dim)
    rows = np.hstack([parts[:, group_of[h]] @ turns[h].T for h in range(n)])
    return from_inner(rows, codec, basis)


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
    parts = of.rows.reshape(len(of.rows), n, -1)
    given = [int(entry) for entry in str(of.params["map"]).split("-")] if "map" in of.params else None
    sources = mapped_sources(of, given) if given else chosen_sources(of, lanes)
    owners = [l for l in range(n) if sources[l] == l]
    stored, codec = of.inner(parts[:, owners].reshape(len(parts), -1))
    stored = stored.reshape(len(parts), len(owners), -1)
    rows = np.stack([stored[:, owners.index(source)] for source in sources], axis=1)
    basis = 0 if given or n == 1 else 2 * n
    return from_inner(rows.reshape(len(parts), -1), codec, basis, owners=owners)


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


ONE_SIDE = {"gqa", "think", "minicache", "kq-svd"}
PARAMETERS = {"layer-share": {"map", "choose", "shared"}, "think": {"ratio"}, "gqa": {"heads", "align"},
              "minicache": {"start", "t", "retained", "retain"}, "svd": {"rank"}, "xkv": {"rank", "group_layers"},
              "palu": {"rank", "group_heads"}, "kq-svd": {"rank", "values"}, "autoencoder": {"rank", "steps"}}


def check(trace, spec):
    """Raises ValueError where the layers of the trace do not allow a map or so many readers."""
    for side in "kv":
        for stage in stages_of(spec, side)[:1]:
            strange = set(specs.side_params(stage, side)) - PARAMETERS.get(stage.name, set()) - {"span", "keys"}
            if stage.name in ONE_SIDE and {"span"} & set(specs.side_params(stage, side)):
                strange.add("span")
            if strange:
                raise specs.Unknown(f"{stage.name} with {sorted(strange)}")
        for stage in stages_of(spec, side)[1:]:
            if {"sinks", "recent", "residual_length"} & set(specs.side_params(stage, side)):
                raise specs.Unknown("latents of which some wait")
    for side in sides_of(list(trace.layers.values()), spec):
        stage = stages_of(spec, side[0])[:1]
        if not stage or stage[0].name != "layer-share":
            continue
        params = specs.side_params(stage[0], side[0])
        if "map" in params:
            given = [int(entry) for entry in str(params["map"]).split("-")]
            if len(given) != trace.model_layers or any(source > i for i, source in enumerate(given)):
                raise ValueError("a map that does not fit the model")
        for members in layer_groups(trace, spec):
            of = Object(None, 0, 1, members, [], side, [], params)
            if "map" in params:
                mapped_sources(of, given)
            elif len(members) > 1 and max(of.count("shared", 0.25, len(members)), 1) >= len(members):
                raise ValueError("no layer is left to store rows")


def chosen_sources(of, lanes):
    """Pairs in order of distance: the later layer reads the earlier one, and who read it reads that, too."""
    n = len(of.layers)
    dims = [(d, s) for s, d in (("k", of.layers[0].k.shape[2]), ("v", of.layers[0].v.shape[2])) if s in of.side]
    heads = of.rows[:of.prompt].reshape(of.prompt, n, lanes, -1)
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


METHODS = {"layer-share": layer_share, "think": think, "minicache": minicache, "gqa": gqa, "svd": svd, "palu": palu, "xkv": xkv, "kq-svd": kq_svd, "autoencoder": autoencoder}
UNROTATED = {"palu", "xkv"}
JOINT_SIDES = {"layer-share"}
OBJECT_HEADS = {"layer-share": True, "xkv": True, "gqa": True, "palu": lambda p: p.get("group_heads", 4) > 1}
GROUPS = {"layer-share": lambda params, layer, trace: 1024 if shares(params, layer) else 1,
          "xkv": lambda params, layer, trace: params.get("group_layers", 4),
          "minicache": lambda params, layer, trace: 2 if layer.index >= first_merged(params, trace) else 1}


def shares(params, layer):
    """Not a layer of a map that nobody else reads and that reads nobody."""
    if "map" not in params:
        return True
    given = [int(entry) for entry in str(params["map"]).split("-")]
    return any((i == layer.index) != (source == layer.index) for i, source in enumerate(given))


def first_merged(params, trace):
    start = params.get("start", 0.5)
    return int(start * trace.model_layers + 1e-9) if isinstance(start, float) else start


# -- the replay of layers that share objects -----------------------------------------------------


def stages_of(spec, side):
    return [s for s in specs.parse(spec) if s.name in specs.CODECS and side in s.side]


def knows(spec):
    """Specs whose outer codec is structural, or svd with heads joined or keys turned back."""
    try:
        stages = specs.parse(spec)
    except specs.Unknown:
        return False
    if any(s.name in specs.POLICIES for s in stages):
        return False
    firsts = [chain[0] for chain in (stages_of(spec, "k"), stages_of(spec, "v")) if chain]
    if not all(s.name in METHODS for s in firsts) and any(s.name in specs.AROUND for s in firsts):
        return False
    return any(s.name in METHODS and (s.name != "svd" or {"span", "keys"} & set(s.params)) for s in firsts)


def finds_basis(spec):
    """Directions of more rows than there are columns; of fewer, some are nobody's."""
    return any(s.name in {"svd", "palu", "xkv", "kq-svd", "autoencoder", "mla", "gear"} or s.params.get("align") == "procrustes"
               for s in specs.parse(spec))


def same_kind(a, b):
    return (a.k.shape, a.v.shape, a.q.shape, a.window, a.rope_layout, a.rope_dims) == \
        (b.k.shape, b.v.shape, b.q.shape, b.window, b.rope_layout, b.rope_dims)


def layer_groups(trace, spec):
    """Recorded neighbours of one kind, as many as the outer codec joins."""
    groups = []
    for layer in trace.layers.values():
        if layer.owner != layer.index:
            continue
        most = 1
        for side in "kv":
            for stage in stages_of(spec, side)[:1]:
                if stage.name in GROUPS:
                    most = max(most, GROUPS[stage.name](specs.side_params(stage, side), layer, trace))
        kin = [g for g in groups if g[0] > 1 and same_kind(g[1][0], layer)]
        if most > 1 and kin and len(kin[-1][1]) < kin[-1][0]:
            kin[-1][1].append(layer)
        else:
            groups.append((most, [layer]))
    return [members for _, members in groups]


def lane_rows(trace, layer, head, side, unrotated):
    parts = []
    if "k" in side:
        k = layer.k[head]
        parts.append(before_rotation(layer, k, trace.positions) if unrotated else k)
    if "v" in side:
        parts.append(layer.v[head])
    return np.hstack(parts)


def joint_heads(stage):
    rule = OBJECT_HEADS.get(stage.name, False)
    span = stage.params.get("span")
    return span in ("heads", "all") or (rule(stage.params) if callable(rule) else rule)


def objects_of(trace, spec, members, side):
    """(Object, Stored, method stage) for every object of a side in a layer group."""
    chain = stages_of(spec, side[0])
    stage = chain[0]
    if stage.name not in METHODS:
        raise specs.Unknown(f"{stage.name} beside a method of its kind")
    params = specs.side_params(stage, side[0])
    heads = range(len(members[0].k))
    parts = [list(heads)] if joint_heads(stage) else [[h] for h in heads]
    blocks = [members] if stage.name in GROUPS else [[m] for m in members]
    keys = params.get("keys", "unrotated" if stage.name in UNROTATED else "rotated")
    for layers in blocks:
        for part in parts:
            rows = np.hstack([lane_rows(trace, l, h, side, keys == "unrotated" and side != "v")
                              for l in layers for h in part])
            of = Object(to_f32(rows).astype(np.float64), trace.prefill_length, len(part) * len(layers),
                        layers, part, side, chain[1:], params)
            yield of, METHODS[stage.name](of), keys == "unrotated"


class GivenBank(Bank):
    """Rows whose coded form is known beforehand."""

    def __init__(self, recorded, given, exact_row_bytes, recent, exact_from):
        codec = Codec(recorded.shape[1])
        codec.tiers = Tiers(recent=recent)
        super().__init__(codec, recorded, exact_row_bytes)
        self.given, self.exact_from = given, exact_from
        self.coded = []

    def append(self, position):
        if position >= self.exact_from:
            self.sinks.add(position)
        else:
            super().append(position)

    def flush(self):
        n = max(0, len(self.queue) - self.codec.tiers.recent)
        positions, self.queue = self.queue[:n], self.queue[n:]
        if positions:
            self.read[positions] = self.given[positions]
            self.coded += positions

    def coded_mask(self):
        mask = np.zeros(len(self.recorded), dtype=bool)
        mask[self.coded] = True
        return mask


def part_of(count, index, n):
    return count * (index + 1) // n - count * index // n


class StructureReplay(LayerReplay):
    """One layer of a group; objects of the whole group are shared among its members' replays."""

    def __init__(self, trace, owner, readers, spec, group):
        self.trace, self.owner, self.readers = trace, owner, readers
        self.policy = policies.Policy(SimpleNamespace(length=trace.prefill_length, layer=owner))
        self.layers = [owner] + readers
        self.group = group
        prefix = owner.v.shape[2] if owner.value_is_key_prefix else 0
        self.heads = [HeadCache(self.bank("k", h), self.bank("v", h), trace.tokens, prefix)
                      for h in range(len(owner.k))]
        self.answers = {layer.index: empty_answers(trace, layer) for layer in self.layers}

    def prompt_rows(self, head, bank):
        return np.zeros((1, bank.codec.dim))

    def find(self, side, head):
        for kind, of, stored, unrotated in self.group:
            if side in kind and any(l is self.owner for l in of.layers) and head in of.heads:
                return of, stored, unrotated
        return None

    def bank(self, side, head):
        recorded = (self.owner.k if side == "k" else self.owner.v)[head]
        exact_bytes = self.owner.element_bytes * recorded.shape[1]
        found = self.find(side, head)
        if not found:                                  # a side without a codec: as recorded
            return GivenBank(recorded, recorded, exact_bytes, 0, self.trace.tokens)
        of, stored, unrotated = found
        lane = [l is self.owner for l in of.layers].index(True) * len(of.heads) + of.heads.index(head)
        first = lane * of.width + (self.owner.k.shape[2] if of.side == "kv" and side == "v" else 0)
        given = stored.rows[:, first:first + recorded.shape[1]]
        if side == "k" and unrotated:
            given = rotated(self.owner, given, self.trace.positions)
        exact_from = self.trace.prefill_length if stored.prompt_only else self.trace.tokens
        return GivenBank(recorded, given, exact_bytes, stored.recent, exact_from)

    def byte_counts(self):
        total = dict(payload=0, metadata=0, residual=0, basis=0, key=0, value=0)
        for kind, of, stored, _ in self.group:
            mine = [l is self.owner for l in of.layers]
            if any(mine):
                self.count_object(total, kind, of, stored, mine.index(True), len(of.layers))
        for side, name in (("k", "key"), ("v", "value")):
            if not any(side in kind for kind, *_ in self.group) and \
                    not (side == "v" and self.owner.value_is_key_prefix):
                size = self.owner.element_bytes * (self.owner.k if side == "k" else self.owner.v).size
                total["payload"] += size
                total[name] += size
        total["resident"] = sum(total[n] for n in ("payload", "metadata", "residual", "basis"))
        total["joint"] = any(kind == "kv" for kind, *_ in self.group)
        return total

    def count_object(self, total, kind, of, stored, index, n):
        bank = getattr(self.heads[of.heads[0]], "keys" if "k" in kind else "values")
        exact = (self.trace.tokens - len(bank.coded)) * of.rows.shape[1] * self.owner.element_bytes
        metadata = np.broadcast_to(stored.metadata, self.trace.tokens)[bank.coded].sum()
        owners = list(range(n)) if stored.owners is None else stored.owners
        for name, count in (("payload", stored.payload * len(bank.coded)), ("metadata", int(metadata)),
                            ("residual", exact), ("basis", stored.basis)):
            among = list(range(n)) if name == "residual" else owners
            part = part_of(count, among.index(index), len(among)) if index in among else 0
            total[name] += part
            total["key" if "k" in kind else "value"] += part


def sides_of(members, spec):
    """Objects hold one side each, or both; where values are columns of the keys there are keys alone."""
    if members[0].value_is_key_prefix:
        return ["k"]
    stages = [s for s in specs.parse(spec) if s.name in specs.CODECS]
    joint = stages[0].side == "kv" and (stages[0].name in JOINT_SIDES and "span" not in stages[0].params
                                        or stages[0].params.get("span") in ("joint", "all"))
    return ["kv"] if joint else ["k", "v"]


def replay_groups(trace, spec):
    """Yields (replay, answers by layer) like replay.replay_layers."""
    for members in layer_groups(trace, spec):
        group = []
        for side in sides_of(members, spec):
            if stages_of(spec, side[0]):
                group += [(side, *found) for found in objects_of(trace, spec, members, side)]
        for owner in members:
            readers = [l for l in trace.layers.values() if l.owner == owner.index and l is not owner]
            replay = StructureReplay(trace, owner, readers, spec, group)
            yield replay, replay.run()
