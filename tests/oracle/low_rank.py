"""Low rank: rows as coefficients of a few directions that are fitted on the prompt, both maps as halves (charged as
online basis); latents go to the inner codec. svd factorises without centring, X ~ (X B) B^T, B the leading
eigenvectors of X^T X.
"""
import numpy as np

from codec import Unknown
import disturbed
from exact import query_heads
from objects import from_inner
from rounding import through_f16


def check_found(rows, vectors, values):
    """Raises Unknown where rows have a part along directions without energy in the fit: any of these would do."""
    found = vectors[:, values > 1e-12 * values.max(initial=0)]
    if found.shape[1] < vectors.shape[1]:
        rest = rows - rows @ found @ found.T
        if np.sum(rest ** 2) > 1e-6 * np.sum(rows ** 2):
            raise Unknown("directions that no row of the prompt has")


def signs_of_largest(columns):
    return np.sign(columns[np.abs(columns).argmax(axis=0), range(columns.shape[1])])


def leading(gram, rank):
    """Eigenvectors of the largest eigenvalues, as columns, and these. A sign is free: the component of
    largest magnitude is positive."""
    values, vectors = np.linalg.eigh(disturbed.gram(gram))
    vectors = vectors * signs_of_largest(vectors)
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
    length = np.linalg.norm(b, axis=0) * signs_of_largest(b)
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
