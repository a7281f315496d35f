"""svd:rank=r: rows of the prompt factorised without centring, X ~ (X B) B^T, B = the leading
eigenvectors of X^T X. B is kept in halves (charged as online basis); latents go to the inner codec.
"""
import numpy as np

from codec import Codec, Unknown
import disturbed
from rounding import through_f16


def with_fixed_signs(vectors):
    """The largest entry of every column is positive: a grid over latents notices the sign."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


def check_found(rows, vectors, values):
    """Raises Unknown where rows have a part along directions without energy in the fit: any of these would do."""
    found = vectors[:, values > 1e-12 * values.max(initial=0)]
    if found.shape[1] < vectors.shape[1]:
        rest = rows - rows @ found @ found.T
        if np.sum(rest ** 2) > 1e-6 * np.sum(rows ** 2):
            raise Unknown("directions that no row of the prompt has")


class Svd(Codec):
    def __init__(self, dim, rank, make_inner):
        super().__init__(dim)
        if rank > dim:
            raise ValueError(f"rank {rank} of rows with {dim} columns")
        self.rank = rank
        self.inner = make_inner(self.rank)
        if self.inner.later:
            raise ValueError("rows after the prompt that are stored in another way")
        self.block, self.tiers = self.inner.block, self.inner.tiers
        self.basis_bytes = 2 * dim * self.rank
        self.basis = None

    def bind(self, trace, owner, head, side):
        self.inner.bind(trace, owner, head, side)

    def fit(self, prompt_rows):
        if len(prompt_rows) < self.rank:
            raise ValueError(f"rank {self.rank} of a prompt of {len(prompt_rows)} rows")
        values, vectors = np.linalg.eigh(disturbed.gram(prompt_rows.T @ prompt_rows))   # ascending
        self.found = vectors[:, ::-1][:, :self.rank], values[::-1][:self.rank]
        self.basis = through_f16(with_fixed_signs(self.found[0]))
        self.inner.fit(disturbed.products(prompt_rows, self.basis))

    def round_trip(self, rows):
        check_found(rows, *self.found)
        return self.inner.round_trip(disturbed.products(rows, self.basis)) @ self.basis.T

    def atom_bytes(self):
        return self.inner.atom_bytes()
