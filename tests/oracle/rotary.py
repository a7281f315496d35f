"""Rotary positions: turning rows by whole positions, in both layouts."""
import numpy as np

import disturbed


def turned(layer, rows, steps):
    """Rows [n, d] turned on by `steps` [n] positions; dimensions past rope_dims stay."""
    if layer.rope_layout == "none":
        return rows
    angles = np.outer(steps, layer.rope_inv_freq)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = pair_columns(layer)
    result = rows.copy()
    result[:, first] = rows[:, first] * cos - rows[:, second] * sin
    result[:, second] = rows[:, second] * cos + rows[:, first] * sin
    return result


def before_rotation(layer, rows, positions):
    """Rows as they were before they were rotated and scaled (YaRN's factor, of what rotates)."""
    before = scaled(layer, turned(layer, rows, -positions), 1 / layer.rope_scale)
    return disturbed.rows(before, pair_lengths(layer, before))


def pair_lengths(layer, rows):
    """Of the pair that each column turns with; 0 where none does."""
    lengths = np.zeros(rows.shape)
    if layer.rope_layout != "none":
        first, second = pair_columns(layer)
        lengths[:, first] = lengths[:, second] = np.hypot(rows[:, first], rows[:, second])
    return lengths


def rotated(layer, rows, positions):
    return turned(layer, scaled(layer, rows, layer.rope_scale), positions)


def scaled(layer, rows, factor):
    if layer.rope_layout == "none" or factor == 1:
        return rows
    columns = np.ones(rows.shape[1])
    columns[:layer.rope_dims] = factor
    return rows * columns


def pair_columns(layer):
    """`half` pairs x[i] with x[i + rope_dims/2], `interleaved` x[2i] with x[2i+1]."""
    half = layer.rope_dims // 2
    if layer.rope_layout == "half":
        return np.arange(half), np.arange(half, 2 * half)
    return np.arange(0, 2 * half, 2), np.arange(1, 2 * half, 2)


def over_lags(layer, squares, positions):
    """Sum of x x^T of queries before the rotation as keys before theirs are met by them: M = sum over lags of
    p(lag) R_lag C R_lag^T, p the share of the pairs of a query and a key that it sees. What rotates was
    scaled on both sides. R = cos + sin J on each pair: J turns it by a quarter."""
    if layer.rope_layout == "none":
        return squares
    dim, (first, second) = len(squares), pair_columns(layer)
    lags, share = lag_shares(positions, layer.window)
    angles = np.outer(lags, layer.rope_inv_freq)
    cos, sin, quarter = np.ones((len(lags), dim)), np.zeros((len(lags), dim)), np.zeros((dim, dim))
    cos[:, first] = cos[:, second] = np.cos(angles)
    sin[:, first] = sin[:, second] = np.sin(angles)
    quarter[first, second], quarter[second, first] = -1, 1
    scales = scaled(layer, np.ones((1, dim)), layer.rope_scale ** 2)[0]
    c = squares * np.outer(scales, scales)
    kinds = ((cos, c, cos), (cos, c @ quarter.T, sin), (sin, quarter @ c, cos), (sin, quarter @ c @ quarter.T, sin))
    return sum((left.T @ (share[:, None] * right)) * part for left, part, right in kinds)


def lag_shares(positions, window):
    """Lags between queries and the keys that they see, and how many pairs have each, of all pairs."""
    n = len(positions)
    apart = np.subtract.outer(np.arange(n), np.arange(n))
    seen = (apart >= 0) & (apart < (window or n))
    lags, counts = np.unique(np.subtract.outer(positions, positions)[seen], return_counts=True)
    return lags, counts / counts.sum()
