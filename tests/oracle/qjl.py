"""QJL (arXiv 2406.03482) with the oracle's own sketch: keys as signs of random projections.

Per group of tokens the channels of largest norm are sketched apart, with the first rows of the same
matrix; both lengths are halves. Values are KIVI's. An orthogonal block has E|u_1| where a Gaussian
one has sqrt(2 / pi).
"""
import numpy as np

from codec import Codec, Tiers
from lloyd_max import codebook
from rounding import through_f16
from turboquant import haar


class QjlKeys(Codec):
    def __init__(self, dim, layer=0, bits=2, outlier_bits=2, outliers=8, group_size=32,
                 residual_length=128, initial_layers=15, initial_bits=4, initial_outlier_bits=1,
                 sketch="orthogonal", value_bits=2, seed=1):
        super().__init__(dim)
        del value_bits
        self.settings = (bits, outlier_bits), (initial_bits, initial_outlier_bits), initial_layers
        self.sketch, self.seed = sketch, seed
        self.choose(layer)
        self.outliers, self.block = min(outliers, dim), group_size
        self.tiers = Tiers(flush=residual_length, at_once=False)

    def bind(self, trace, owner, head, side):
        self.choose(owner.index)

    def choose(self, layer):
        usual, initial, initial_layers = self.settings
        bits, outlier_bits = initial if layer < initial_layers else usual
        dim = self.dim
        self.signs = int(bits * dim + 0.5)
        self.outlier_signs = int(outlier_bits * dim + 0.5)
        rng = np.random.default_rng(self.seed)
        blocks = (max(self.signs, self.outlier_signs) + dim - 1) // dim
        if self.sketch == "gaussian":
            self.matrix = rng.standard_normal((blocks * dim, dim))
            self.magnitude = np.sqrt(2 / np.pi)
        else:
            self.matrix = np.vstack([haar(dim, rng) for _ in range(blocks)])
            self.magnitude = codebook(dim, 1)[0][1]

    def estimate(self, rows, signs):
        matrix = self.matrix[:signs]
        length = through_f16(np.linalg.norm(rows, axis=1, keepdims=True))
        return length / (max(signs, 1) * self.magnitude) * (np.sign(rows @ matrix.T) @ matrix)

    def round_trip(self, rows):
        result = np.empty(np.shape(rows))
        for start in range(0, len(rows), self.block):
            part = np.asarray(rows[start:start + self.block], dtype=np.float64)
            loud = np.argsort(-np.sum(part ** 2, axis=0), kind="stable")[:self.outliers]
            mask = np.zeros(self.dim)
            mask[loud] = 1
            result[start:start + self.block] = (self.estimate(part * (1 - mask), self.signs) +
                                                self.estimate(part * mask, self.outlier_signs))
        return result

    def atom_bytes(self):
        """Signs of a block of `dim` projections fill whole bytes."""
        def row(signs):
            return signs // self.dim * ((self.dim + 7) // 8) + (signs % self.dim + 7) // 8
        index = 1 if self.dim <= 256 else 2
        sketched = 2 if self.outliers else 1
        payload = self.block * (row(self.signs) + (row(self.outlier_signs) if self.outliers else 0))
        return payload, self.block * 2 * sketched + self.outliers * index
