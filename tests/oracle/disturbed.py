"""How far the oracle's own numbers move when what a basis is fitted on is known to f32 only.

Eigenvectors of close eigenvalues turn into each other at the least touch, and where a rank parts them,
so does the subspace; the program turns rows back before the rotation in f32. `gram` hands a symmetric
matrix through, with noise while a `Disturbance` is open.
"""
import numpy as np

NOISE = 2.0 ** -23          # of an entry, relative to its row's and its column's diagonal
DRAWS = 4
_generator = None


def gram(matrix):
    if _generator is None:
        return matrix
    noise = _generator.standard_normal(matrix.shape) * NOISE
    size = np.sqrt(np.abs(np.diag(matrix)))
    return matrix + (noise + noise.T) / 2 * np.outer(size, size)


class Disturbance:
    def __init__(self, seed):
        self.seed = seed

    def __enter__(self):
        global _generator
        _generator = np.random.default_rng(self.seed)

    def __exit__(self, *failure):
        global _generator
        _generator = None


def spreads(make_rows, want):
    """{layer: {column: largest move}} over a few disturbed runs of make_rows()."""
    result = {layer: {} for layer in want}
    for seed in range(DRAWS):
        with Disturbance(seed):
            rows = make_rows()
        for layer, row in rows.items():
            for column, value in row.items():
                if isinstance(value, float) and isinstance(want[layer].get(column), float):
                    moved = abs(value - want[layer][column])
                    result[layer][column] = max(moved, result[layer].get(column, 0.0))
    return result
