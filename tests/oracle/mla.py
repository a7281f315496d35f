"""Multi-head attention replayed as latent attention, after TransMLA (arXiv 2502.07864) and DeepSeek-V2
(arXiv 2405.04434, equations 37-47); methods-arch.md section 6.

The program absorbs the maps into queries and answers. Here keys and values of every head are built in
full, [k_R | k_nope,h] and v_h, and met by [q_R | q_h before rotation].
"""
import numpy as np

from cache import Bank, HeadCache
from codec import Codec
import disturbed
import exact
from makers import make_chain, make_policy
from objects import Place
from prompt import Prompt
from replay import LayerReplay, empty_answers, replay_layers
from rotary import pair_columns, turned
from rounding import through_f16, to_f32
import specs


def knows(spec):
    try:
        return any(stage.name == "mla" for stage in specs.parse(spec))
    except specs.Unknown:
        return False


def leading(gram, count):
    """Eigenvectors of the largest eigenvalues, as columns; the largest entry of each is positive."""
    values, vectors = np.linalg.eigh(disturbed.gram(gram))
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(vectors))])
    vectors = np.where(values > 1e-12 * values[-1], vectors, 0.0)      # directions without energy are none
    return vectors[:, ::-1][:, :count]


def share(value, whole):
    return int(value * whole + 1e-9) if isinstance(value, float) else value


class Shape:
    """What a layer and the parameters come to; ValueError where they do not go together."""

    def __init__(self, layer, params):
        self.heads, self.key, self.value = len(layer.k), layer.k.shape[2], layer.v.shape[2]
        self.latent_already = layer.value_is_key_prefix
        rotating = np.array([], dtype=int)
        if layer.rope_layout != "none":
            rotating = np.flatnonzero(layer.rope_inv_freq)
        self.pairs = np.stack(pair_columns(layer), axis=1)[rotating] if len(rotating) else np.zeros((0, 2), int)
        self.frequencies = layer.rope_inv_freq[rotating] if len(rotating) else np.array([])
        if self.latent_already:
            if (self.pairs < self.value).any():
                raise ValueError("values that are columns of rotating keys")
            self.kept, self.fold, self.most = 0, 1, self.value
            asked = params.get("rank", 0.25)
            self.rank = self.most if isinstance(asked, float) else min(asked, self.most)
            return
        self.part_pairs(params)
        width = self.heads * (self.key + self.value)
        self.most = width - 2 * self.kept
        self.rank = min(share(params.get("rank", 0.25), width), self.most)
        if self.rank < 1:
            raise ValueError("no latents")

    def part_pairs(self, params):
        """Groups of `fold` neighbouring pairs, of each the same number of components kept."""
        n = len(self.pairs)
        if not n:
            self.kept, self.fold = 0, 1
            return
        dims = share(params.get("rope", 0.5), 2 * n)
        self.kept = dims // 2
        if dims % 2 or not self.kept or (n % self.kept and self.kept % n) or self.kept > self.heads * n:
            raise ValueError(f"{dims} of {2 * n} rotary dimensions")
        self.collapse = max(n // self.kept, 1)
        self.fold = params.get("fold", 0) or self.collapse
        if self.fold % self.collapse or n % self.fold:
            raise ValueError(f"fold {self.fold}")

    @property
    def whole(self):
        """Latents that are the columns themselves."""
        plain = self.latent_already or (self.heads == 1 and self.fold == 1 and self.kept == len(self.pairs))
        return plain and self.rank == self.most


class Latents:
    """The maps of one layer, fitted on the prompt, and what they make of its rows."""

    def __init__(self, trace, layer, params, rest):
        self.trace, self.layer, self.shape = trace, layer, Shape(layer, params)
        shape, prompt = self.shape, trace.prefill_length
        if not shape.whole and shape.rank > prompt:
            raise ValueError(f"rank {shape.rank} of a prompt of {prompt} rows")
        before = [turned(layer, k, -trace.positions) for k in layer.k]
        before = [disturbed.rows(rows, np.abs(k)) for rows, k in zip(before, layer.k)]
        self.before = to_f32(np.stack(before)).astype(np.float64)        # [heads, T, key]
        self.balance = 1.0
        self.fit_rotary(prompt)
        self.fit_latents(prompt)
        own = [self.latents(), self.rotary_part(self.before, trace.positions)]
        if shape.latent_already:
            own[1] = layer.k[0][:, shape.value:]
        row = np.hstack(own)
        self.codec = make_chain(rest or [specs.Stage("f16")], row.shape[1], "k", place=Place(side="k" if shape.latent_already else "kv"))
        if self.codec.bytes_of:
            raise specs.Unknown("latents of mla whose atoms vary in size")
        self.codec.bind(None, layer, 0, "k")
        self.codec.fit(row[:prompt])
        coded = len(row) // self.codec.block * self.codec.block
        self.row = np.vstack([self.codec.round_trip(row[:coded]), row[coded:]])

    def fit_rotary(self, prompt):
        """directions [kept, heads, pairs] and the frequency that each turns with."""
        shape = self.shape
        self.directions, self.turns = np.zeros((shape.kept, shape.heads, len(shape.pairs))), []
        groups = len(shape.pairs) // shape.fold
        each = shape.kept // groups if groups else 0
        for g in range(groups if shape.kept else 0):
            pairs = slice(g * shape.fold, (g + 1) * shape.fold)
            x = self.before[:, :prompt][:, :, shape.pairs[pairs]]        # [heads, n, fold, 2]
            x = x.transpose(1, 3, 0, 2).reshape(-1, shape.heads * shape.fold)
            for c, vector in enumerate(leading(x.T @ x, each).T):
                self.directions[g * each + c][:, pairs] = through_f16(vector.reshape(shape.heads, shape.fold))
                self.turns.append(shape.frequencies[g * shape.fold + c * shape.collapse % shape.fold])
        self.turns = np.array(self.turns)

    def rotary_part(self, rows, positions):
        """[n, 2 kept] of rows before rotation [heads, n, key]: real halves before imaginary ones."""
        x, y = (np.einsum("khp,hnp->nk", self.directions, rows[:, :, self.shape.pairs[:, i]]) for i in (0, 1))
        angles = np.outer(positions, self.turns) if len(self.turns) else np.zeros_like(x)
        return np.hstack([x * np.cos(angles) - y * np.sin(angles), y * np.cos(angles) + x * np.sin(angles)])

    def from_rotary(self, part, positions):
        """The kept components as rows before rotation [heads, n, key]."""
        shape = self.shape
        rows = np.zeros((shape.heads, len(part), shape.key))
        if not shape.kept:
            return rows
        x, y = part[:, :shape.kept], part[:, shape.kept:]
        angles = np.outer(positions, self.turns)
        x, y = x * np.cos(angles) + y * np.sin(angles), y * np.cos(angles) - x * np.sin(angles)
        for i, half in enumerate((x, y)):
            rows[:, :, shape.pairs[:, i]] = np.einsum("nk,khp->hnp", half, self.directions)
        return rows

    def joint(self, rows):
        """[n, columns]: keys without their kept components, balanced, beside the values."""
        keys, values = rows
        return np.hstack([np.hstack([k / self.balance, v]) for k, v in zip(keys, values)])

    def fit_latents(self, prompt):
        shape, layer = self.shape, self.layer
        if shape.whole:
            return
        if shape.latent_already:
            c = layer.k[0][:prompt, :shape.value]
            self.basis = through_f16(leading(c.T @ c, shape.rank))
            return
        keys, values = self.without_kept(self.before)[:, :prompt], layer.v[:, :prompt]
        whole, left, other = (np.linalg.norm(side, axis=(0, 2)).mean()
                              for side in (self.before[:, :prompt], keys, values))
        if left > whole / 256 and other > 0:           # else only the directions' rounding is left
            self.balance = float(np.float32(left / other))
        x = self.joint((keys, values))
        self.basis = through_f16(leading(x.T @ x, shape.rank))

    def without_kept(self, rows):
        zero = np.zeros(rows.shape[1])
        return rows - self.from_rotary(self.rotary_part(rows, zero), zero)

    def latents(self):
        shape, layer = self.shape, self.layer
        if shape.latent_already:
            c = layer.k[0][:, :shape.value]
            return c if shape.whole else disturbed.products(c, self.basis)
        if shape.whole:
            return np.hstack([np.delete(self.before[0], shape.pairs.ravel(), axis=1), layer.v[0]])
        return disturbed.products(self.joint((self.without_kept(self.before), layer.v)), self.basis)

    # -- what readers meet: of all tokens ----------------------------------------------------------

    def values(self, head):
        shape, c = self.shape, self.row[:, :self.shape.rank]
        if shape.latent_already:
            return c if shape.whole else c @ self.basis.T
        if shape.whole:
            return c[:, -shape.value:]
        first = head * (shape.key + shape.value) + shape.key
        return c @ self.basis[first:first + shape.value].T

    def keys_without_rotation(self, head):
        """[T, key]: what is left of keys before rotation beside the kept part."""
        shape, c = self.shape, self.row[:, :self.shape.rank]
        keys = np.zeros((len(c), shape.key))
        if shape.whole:
            keys[:, np.delete(np.arange(shape.key), shape.pairs.ravel())] = c[:, :shape.most - shape.value]
            return keys
        first = head * (shape.key + shape.value)
        return self.balance * c @ self.basis[first:first + shape.key].T

    def keys_to_meet(self, head):
        if self.shape.latent_already:
            return np.hstack([self.values(0), self.row[:, self.shape.rank:]])
        return np.hstack([self.row[:, self.shape.rank:], self.keys_without_rotation(head)])

    def queries_to_meet(self, layer, head, queries, t):
        """Queries [n, key] of one token, as keys_to_meet has its columns."""
        if self.shape.latent_already:
            return queries
        position = np.full(len(queries), self.trace.positions[t])
        before = turned(layer, queries, -position)
        placed = np.zeros((self.shape.heads, *before.shape))
        placed[head] = before
        return np.hstack([self.rotary_part(placed, position), before])

    def recorded_keys(self, head):
        """Keys as a reader of recorded rows is shown them."""
        if self.shape.latent_already:
            return self.keys_to_meet(head)
        kept = self.from_rotary(self.row[:, self.shape.rank:], self.trace.positions)[head]
        return turned(self.layer, self.keys_without_rotation(head) + kept, self.trace.positions)

    def basis_bytes(self):
        shape = self.shape
        kept = 0 if shape.whole else 2 * shape.kept * shape.heads * shape.fold
        latents = 0 if shape.whole else 2 * self.basis.size
        balance = 0 if shape.whole or shape.latent_already else 4
        return kept + latents + balance + self.codec.basis_bytes


class Given(Codec):
    """Rows that are known by their position."""

    def __init__(self, rows, tiers, block):
        super().__init__(rows.shape[1])
        self.rows, self.tiers, self.block = rows, tiers, block

    def round_trip_at(self, positions):
        return self.rows[positions]


class LatentReplay(LayerReplay):
    """One object stores keys and values of all heads."""

    def __init__(self, trace, owner, readers, spec):
        self.owner, self.readers, self.layers = owner, readers, [owner] + readers
        self.answers = {layer.index: empty_answers(trace, layer) for layer in self.layers}
        self.trace = trace = specs.without_question(trace, spec)
        stages = specs.parse(spec)
        codecs = [stage for stage in stages if stage.name in specs.CODECS]
        params = dict(codecs[0].params)
        self.latents = Latents(trace, owner, params, codecs[1:])
        tiers = self.latents.codec.tiers
        tiers.recent, tiers.sinks = params.get("recent", tiers.recent), params.get("sinks", tiers.sinks)
        self.prompt = Prompt(owner, trace.tokens, trace.prefill_length, trace)
        self.policy = make_policy(stages, self.prompt)
        if self.latents.codec.block > 1 and (tiers.sinks or self.policy.selects or len(stages) > len(codecs)):
            raise specs.Unknown("latents in blocks that do not begin with the first row, or lose rows")
        self.heads = [self.head_cache(h, tiers) for h in range(len(owner.k))]
        self.meet = [self.latents.keys_to_meet(h) for h in range(len(owner.k))]

    def head_cache(self, head, tiers):
        rows = (self.owner.k[head], self.owner.v[head])
        read = (self.latents.recorded_keys(head), self.latents.values(head))
        banks = [Bank(Given(decoded, tiers, self.latents.codec.block), recorded, 0) for recorded, decoded in zip(rows, read)]
        return HeadCache(*banks, self.trace.tokens)

    def fit_bank(self, head, bank):
        """The latents' maps are."""

    def logits(self, layer, group, cache, positions, t):
        """Coded rows meet the query in the latents' space, exact ones as recorded."""
        queries, head = layer.q[group, t], group.start // layer.group
        logits = exact.logits_of(layer, queries, cache.keys.recorded[positions])
        coded = cache.keys.coded_mask()[positions]
        turned_queries = self.latents.queries_to_meet(layer, head, queries, t)
        logits[:, coded] = exact.logits_of(layer, turned_queries, self.meet[head][positions[coded]])
        return logits

    def host_read_bytes(self):
        return 0

    def byte_counts(self):
        """An atom, or an exact row of all heads, is charged until the last head drops it."""
        held = np.any([cache.held for cache in self.heads], axis=0)
        coded = np.any([cache.keys.coded_mask() for cache in self.heads], axis=0)
        owner, shape = self.owner, self.latents.shape
        width = shape.heads * (shape.key + (0 if shape.latent_already else shape.value))
        payload, metadata = self.latents.codec.atom_bytes()
        atoms = len(set().union(*(cache.keys.live_rows for cache in self.heads)))
        total = dict(payload=payload * atoms, metadata=metadata * atoms, basis=self.latents.basis_bytes(),
                     residual=int((held & ~coded).sum()) * width * owner.element_bytes, value=0)
        total.update(key=sum(total.values()), joint=not shape.latent_already)
        total["metadata"] += sum(self.policy_bytes(cache) for cache in self.heads)
        total["resident"] = sum(total[n] for n in ("payload", "metadata", "residual", "basis"))
        return total


def replay_groups(trace, spec):
    return replay_layers(trace, spec, LatentReplay)


def check(trace, spec):
    """ValueError where the shape does not allow it; Unknown where this file does not know the spec."""
    codecs = [stage for stage in specs.parse(spec) if stage.name in specs.CODECS]
    known = {"rank", "rope", "fold", "recent", "sinks"} | specs.WHOLE_SPEC
    if codecs[0].name != "mla" or set(codecs[0].params) - known:
        raise specs.Unknown("latents inside another codec")
    if codecs[0].side != "kv":
        raise ValueError("latents of one side")
    trace = specs.without_question(trace, spec)
    for layer in trace.layers.values():
        if layer.owner == layer.index and not specs.leaves_exact(spec, layer.index, trace.model_layers):
            Latents(trace, layer, dict(codecs[0].params), codecs[1:])
    first = next(iter(trace.layers.values()))
    make_policy(specs.parse(spec), Prompt(first, trace.tokens, trace.prefill_length, trace))
