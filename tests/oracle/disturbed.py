"""How far the oracle's own numbers move when what it decides by is known to f32 only.

Eigenvectors of close eigenvalues turn into each other at the least touch, and where a rank parts them,
so does the subspace; the program turns rows back before the rotation in f32, and a code on a border
goes to either side; of scores that f32 cannot tell apart either row stays. `gram`, `rows`, `products`, `sums` and
`scores` hand their argument through, with noise while a `Disturbance` is open.
"""
from numbers import Number

import numpy as np

NOISE = 2.0 ** -23          # of an entry, relative to its row's and its column's diagonal
DRAWS, STAYING = 8, 24      # of everything; and where bases stay: an entry of a map that goes to the next half
                            # moves latents away from borders of their own, each of which is one of thousands
MOVES = 3                   # what of the unrest a few draws show
_generator, _bases_stay = None, False


def gram(matrix):
    if _generator is None or _bases_stay:
        return matrix
    noise = _generator.standard_normal(matrix.shape) * NOISE
    size = np.sqrt(np.abs(np.diag(matrix)))
    return matrix + (noise + noise.T) / 2 * np.outer(size, size)


def rows(turned, size):
    """Rows that were turned, and the lengths of what turned."""
    if _generator is None:
        return turned
    return turned + _generator.standard_normal(turned.shape) * NOISE / 2 * size


def products(left, right):
    """Latents: n partial sums that grow to a length L, each rounded by a share of itself of square 2^-48 / 3."""
    exact = left @ right
    if _generator is None:
        return exact
    return rows(exact, np.sqrt(len(right) / 6 * (left ** 2 @ right ** 2)))


def sums(values):
    """Of many terms."""
    return values if _generator is None else values * (1 + _generator.standard_normal(np.shape(values)) * NOISE)


def scores(values, floor):
    """Known to `floor` of themselves; what is equal stays so, for it is in f32, too."""
    if _generator is None:
        return values
    alone, place = np.unique(values, return_inverse=True)
    noise = _generator.standard_normal(len(alone)) * floor
    return values + np.where(np.isfinite(alone), alone * noise, 0.0)[place].reshape(np.shape(values))


class Disturbance:
    def __init__(self, seed, bases_stay=False):
        self.seed, self.bases_stay = seed, bases_stay

    def __enter__(self):
        global _generator, _bases_stay
        _generator, _bases_stay = np.random.default_rng(self.seed), self.bases_stay

    def __exit__(self, *failure):
        global _generator, _bases_stay
        _generator, _bases_stay = None, False


class Unrest:
    """How far the values of rows go by themselves: as many disturbed runs as a question needs."""

    def __init__(self, make_rows, want, has_bases=True):
        self.make_rows, self.want, self.has_bases, self.drawn, self.reached = make_rows, want, has_bases, 0, 0
        self.moved = {layer: {} for layer in want}

    def reaches(self, layer, column, distance):
        while distance > MOVES * self.moved[layer].get(column, 0.0):
            if self.drawn == DRAWS + (STAYING if self.has_bases else 0):
                return False
            self.draw()
        self.reached += 1
        return True

    def draw(self):
        with Disturbance(self.drawn, self.drawn >= DRAWS):
            rows = self.make_rows()
        self.drawn += 1
        for layer, row in rows.items():
            for column, value in row.items():
                known = self.want[layer].get(column)
                if isinstance(value, Number) and isinstance(known, Number):
                    self.moved[layer][column] = max(abs(value - known), self.moved[layer].get(column, 0.0))
