"""Lloyd-Max codebooks of one coordinate of a uniform unit vector, by own integration.

Density f(x) ~ (1 - x^2)^((d-3)/2) on [-1, 1], mean 0, variance 1/d. Results are scaled by sqrt(d),
so that they read like a unit-variance table; the distortion D is per unit vector.
"""
from functools import lru_cache

import numpy as np

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(60)


def cell_moments(edges, d):
    """(mass, first moment) of every cell between consecutive edges, unnormalised.

    Over x = sin(angle) the density is a power of the cosine, smooth to the very end, and a cell
    spans a few standard deviations, so 60 Gauss nodes reach 1e-14; the first moment has a closed form.
    """
    angles = np.arcsin(edges)
    low, high = angles[:-1, None], angles[1:, None]
    points = 0.5 * (high - low) * NODES + 0.5 * (high + low)
    mass = 0.5 * (high - low)[:, 0] * (np.cos(points) ** (d - 2) @ NODE_WEIGHTS)
    tail = (1 - edges ** 2) ** (0.5 * (d - 1)) / (d - 1)
    return mass, tail[:-1] - tail[1:]


def outer_edge(d):
    """Beyond 13 standard deviations the mass is below 1e-30; the cell must not be wide and empty."""
    return min(1.0 - 1e-15, 13.0 / np.sqrt(d))


def lloyd_step(centroids, d):
    edge = outer_edge(d)
    edges = np.concatenate([[-edge], 0.5 * (centroids[1:] + centroids[:-1]), [edge]])
    mass, moment = cell_moments(edges, d)
    return moment / mass, mass / mass.sum()


@lru_cache(maxsize=None)
def codebook(d, bits):
    """(centroids of a unit vector's coordinate, ascending; D = E|x - x_hat|^2 for |x| = 1).

    Below three columns the density has poles at the ends, and the table of three is taken, scaled.
    """
    if d < 3:
        centroids, distortion = codebook(3, bits)
        return centroids * np.sqrt(3 / d), distortion
    levels = 2 ** bits
    centroids = (2 * np.arange(levels) + 1 - levels) / levels * min(1, 2.5 / np.sqrt(d))
    for _ in range(40000):
        better, share = lloyd_step(centroids, d)
        moved = np.abs(better - centroids).max() * np.sqrt(d)
        centroids = better
        if moved < 1e-13:
            break
    centroids = 0.5 * (centroids - centroids[::-1])          # symmetric by definition
    return centroids, float(1 - d * np.sum(share * centroids ** 2))
