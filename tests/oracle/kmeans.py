"""One-dimensional weighted k-means: Lloyd's iteration from quantiles of the weights' square roots."""
import numpy as np


def kmeans(values, weights, k, steps=300):
    order = np.lexsort((weights, values))
    values, weights = np.asarray(values, dtype=np.float64)[order], np.asarray(weights, dtype=np.float64)[order]
    if not weights.sum() > 0:
        weights = np.ones_like(weights)
    roots = np.cumsum(np.sqrt(weights))
    wanted = roots[-1] * (2 * np.arange(k) + 1) / (2 * k)
    means = values[np.minimum(np.searchsorted(roots, wanted), len(values) - 1)].copy()
    mass, moment = np.concatenate([[0], np.cumsum(weights)]), np.concatenate([[0], np.cumsum(weights * values)])
    ends = None
    for _ in range(steps):
        found = np.searchsorted(values, 0.5 * (means[1:] + means[:-1]), side="right")
        found = np.concatenate([[0], found, [len(values)]])
        if ends is not None and np.array_equal(found, ends):
            break
        ends = found
        share = mass[ends[1:]] - mass[ends[:-1]]
        total = moment[ends[1:]] - moment[ends[:-1]]
        means = np.where(share > 0, total / np.where(share > 0, share, 1), means)
    return means
