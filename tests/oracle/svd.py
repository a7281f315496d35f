"""svd:rank=r: rows of the prompt factorised without centring, X ~ (X B) B^T, B = the leading
eigenvectors of X^T X. B is kept in halves (charged as online basis); latents go to the inner codec.
"""
import numpy as np

from codec import Codec
import disturbed
from rounding import through_f16


def with_fixed_signs(vectors):
    """The largest entry of every column is positive: a grid over latents notices the sign."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


class Svd(Codec):
    def __init__(self, dim, rank, make_inner):
        super().__init__(dim)
        if rank > dim:
            raise ValueError(f"rank {rank} of rows with {dim} columns")
        self.rank = rank
        self.inner = make_inner(self.rank)
        self.block, self.tiers = self.inner.block, self.inner.tiers
        self.basis_bytes = 2 * dim * self.rank
        self.basis = None

    def fit(self, prompt_rows):
        if len(prompt_rows) < self.rank:
            raise ValueError(f"rank {self.rank} of a prompt of {len(prompt_rows)} rows")
        _, vectors = np.linalg.eigh(disturbed.gram(prompt_rows.T @ prompt_rows))   # ascending eigenvalues
        self.basis = through_f16(with_fixed_signs(vectors[:, ::-1][:, :self.rank]))
        self.inner.fit(prompt_rows @ self.basis)

    def round_trip(self, rows):
        return self.inner.round_trip(rows @ self.basis) @ self.basis.T

    def atom_bytes(self):
        return self.inner.atom_bytes()
