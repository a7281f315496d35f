#!/usr/bin/env python3
"""Exact causal attention as a careful user writes it in numpy: 256 query rows at a time against the
keys that they see, softmax in place. Float32, sgemm of whatever BLAS numpy has."""
import turns

try:
    import numpy as np
except ImportError as error:
    turns.skip(error)

ROWS = 256


def attend(q, k, v, out):
    scale = np.float32(q.shape[-1] ** -0.5)
    future = np.triu(np.full((ROWS, ROWS), -np.inf, np.float32), 1)
    for head in range(q.shape[0]):
        for first in range(0, q.shape[1], ROWS):
            last = min(first + ROWS, q.shape[1])
            s = (q[head, first:last] * scale) @ k[:last].T
            s[:, first:last] += future[:last - first, :last - first]
            s -= s.max(axis=1, keepdims=True)
            np.exp(s, out=s)
            out[head, first:last] = (s @ v[:last]) / s.sum(axis=1, keepdims=True)


def main():
    shape = turns.arguments(['attn', 'e2e'])
    rng = np.random.default_rng(1)
    draw = lambda *size: rng.standard_normal(size, dtype=np.float32)
    group = shape['heads'] // shape['kv_heads']
    q = draw(shape['kv_heads'], group, shape['tokens'], shape['dim'])
    k, v = (draw(shape['kv_heads'], shape['tokens'], shape['dim']) for _ in range(2))
    out = np.empty_like(q)
    turns.serve(f'numpy {np.__version__}, hand-chunked',
                lambda: [attend(q[h], k[h], v[h], out[h]) for h in range(shape['kv_heads'])])


if __name__ == '__main__':
    main()
