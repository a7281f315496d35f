"""Both PolarQuants. Wu et al. (NeurIPS 2025): radius and angle of the pairs that the rotary position
turns, each on a grid of its own per pair and group of tokens, floored and read at the middle of its
cell. Han et al. (arXiv 2502.02617): a random rotation, then angles of angles of blocks of 16.
"""
import numpy as np

from codec import Codec, Tiers
from rounding import through_f16, to_f16, to_f32
from turboquant import rotation_of

TURN = 2 * np.pi


def cells(values, bits, axis):
    """v_hat = s (floor((v - min) / s) + 1/2) + min with halves s and min, s = (max - min) / 2^b."""
    values = to_f32(values)
    low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
    step, base = to_f16((high - low) / np.float32(2 ** bits)), to_f16(low)
    step32, base32 = step.astype(np.float32), base.astype(np.float32)
    ratio = np.divide(values - base32, step32, out=np.zeros_like(values), where=step32 > 0)
    codes = np.clip(np.floor(ratio), 0, 2 ** bits - 1)
    return step.astype(np.float64) * (codes + 0.5) + base.astype(np.float64)


def pairs_of(dim, layout, rope_dims):
    """Columns of each pair's x and y; a column without a partner has y = 0 (-1)."""
    if layout == "interleaved":
        pairs = [(i, i + 1 if i + 1 < dim else -1) for i in range(0, dim, 2)]
        return np.array(pairs)
    turning = rope_dims if layout == "half" else 0
    pairs = [(i, i + turning // 2) for i in range(turning // 2)]
    rest = list(range(turning // 2 * 2, dim))
    half = (len(rest) + 1) // 2
    pairs += [(rest[i], rest[half + i] if half + i < len(rest) else -1) for i in range(half)]
    return np.array(pairs)


def pairs_of_row(dim, layer):
    """A row of keys is of as many heads as it is wide; a latent's columns do not turn."""
    key = layer.k.shape[2]
    width = dim if dim % key else key
    pairs = pairs_of(width, layer.rope_layout, layer.rope_dims if width == key else 0)
    return np.concatenate([np.where(pairs < 0, -1, pairs + first) for first in range(0, dim, width)])


class PolarWuKeys(Codec):
    def __init__(self, dim, layout="half", rope_dims=None, radius_bits=4, angle_bits=4, group_size=128,
                 value_bits=16):
        super().__init__(dim)
        del value_bits
        self.pairs = pairs_of(dim, layout, dim if rope_dims is None else rope_dims)
        self.radius_bits, self.angle_bits, self.block = radius_bits, angle_bits, group_size
        self.tiers = Tiers(flush=group_size, at_once=False)

    def bind(self, trace, owner, head, side):
        self.pairs = pairs_of_row(self.dim, owner)

    def round_trip(self, rows):
        padded = np.concatenate([np.asarray(rows, dtype=np.float64), np.zeros((len(rows), 1))], axis=1)
        x, y = padded[:, self.pairs[:, 0]], padded[:, self.pairs[:, 1]]
        shape = (-1, self.block, len(self.pairs))
        angle = np.arctan2(y + 0.0, x + 0.0)      # a pair of zeros has angle 0, whatever their signs
        angle = cells(np.where(angle < 0, angle + TURN, angle).reshape(shape), self.angle_bits, 1)
        radius = cells(np.sqrt(x * x + y * y).reshape(shape), self.radius_bits, 1)
        angle, radius = angle.reshape(x.shape), radius.reshape(x.shape)
        padded[:, self.pairs[:, 0]] = radius * np.cos(angle)
        padded[:, self.pairs[:, 1]] = radius * np.sin(angle)
        return padded[:, :self.dim]

    def atom_bytes(self):
        codes = self.block * len(self.pairs)
        return (codes * self.radius_bits + 7) // 8 + (codes * self.angle_bits + 7) // 8, 8 * len(self.pairs)


def angle_codebook(level, levels):
    """Lloyd-Max of the density sin^m(2 psi) on [0, pi / 2], m = 2^(level - 1) - 1, levels 2, 3, 4."""
    psi = (np.arange(200000) + 0.5) * (np.pi / 2 / 200000)
    density = np.sin(2 * psi) ** (2 ** (level - 1) - 1)
    mass, moment = np.cumsum(density), np.cumsum(density * psi)
    centroids = (np.arange(levels) + 0.5) * (np.pi / 2 / levels)
    for _ in range(2000):
        ends = np.searchsorted(psi, 0.5 * (centroids[1:] + centroids[:-1]))
        ends = np.concatenate([[0], ends, [len(psi)]])
        total = np.diff(np.concatenate([[0], mass])[ends])
        better = np.diff(np.concatenate([[0], moment])[ends]) / total
        if np.abs(better - centroids).max() < 1e-12:
            break
        centroids = better
    return centroids


class PolarHan(Codec):
    BLOCK, LEVELS = 16, 4

    def __init__(self, dim, rotation="auto", codebook="offline", generated="exact", seed=1):
        super().__init__(dim)
        self.rotation = np.eye(dim) if rotation == "none" else rotation_of(
            rotation, dim, np.random.default_rng(seed))
        self.online = codebook == "online"
        self.books = [angle_codebook(level, 4) for level in range(2, self.LEVELS + 1)]
        self.basis_bytes = 3 * 4 * 2 if self.online else 0
        if generated == "exact":
            self.later = Codec(dim)
            self.later.tiers = Tiers(flush=1 << 40)
            self.later.atom_bytes = lambda: (0, 0)
        self.blocks = (dim + self.BLOCK - 1) // self.BLOCK

    def turned(self, rows):
        turned = np.asarray(rows, dtype=np.float64) @ self.rotation.T
        padding = self.blocks * self.BLOCK - self.dim
        return np.pad(turned, ((0, 0), (0, padding))).reshape(-1, self.BLOCK)

    def angles(self, blocks):
        """(level 1 in [0, 2 pi), [levels 2..], radius)."""
        x, y = blocks[:, 0::2], blocks[:, 1::2]
        first = np.mod(np.arctan2(y, x), TURN)
        radius, others = np.hypot(x, y), []
        for _ in range(2, self.LEVELS + 1):
            left, right = radius[:, 0::2], radius[:, 1::2]
            others.append(np.arctan2(right, left))
            radius = np.hypot(left, right)
        return first, others, radius

    def fit(self, prompt_rows):
        if not self.online:
            return
        from kmeans import kmeans
        _, others, _ = self.angles(self.turned(prompt_rows))
        self.books = [through_f16(kmeans(psi.ravel(), np.ones(psi.size), 4)) for psi in others]

    def round_trip(self, rows):
        first, others, radius = self.angles(self.turned(rows))
        values = through_f16(radius)
        for book, psi in zip(reversed(self.books), reversed(others)):
            read = book[np.searchsorted(0.5 * (book[1:] + book[:-1]), psi)]
            values = np.stack([values * np.cos(read), values * np.sin(read)], axis=-1).reshape(len(values), -1)
        read = (np.minimum(np.floor(first / TURN * 16), 15) + 0.5) * TURN / 16
        values = np.stack([values * np.cos(read), values * np.sin(read)], axis=-1).reshape(len(values), -1)
        return values.reshape(-1, self.blocks * self.BLOCK)[:, :self.dim] @ self.rotation

    def atom_bytes(self):
        return self.blocks * 4 + (self.blocks * 14 + 7) // 8, 2 * self.blocks
