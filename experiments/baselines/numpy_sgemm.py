#!/usr/bin/env python3
"""The BLAS behind numpy at its best: sgemm of 2048 x 2048 matrices, as many multiply-adds as exact causal
attention counts on the shape. Where it stays below 85 % of the multiply-add peak, attention is to be as
fast (a turn's seconds are those of whole products, taken in proportion)."""
import time

import turns

try:
    import numpy as np
except ImportError as error:
    turns.skip(error)

SIZE = 2048


def main():
    shape = turns.arguments(['attn'])
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((SIZE, SIZE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    visible = shape['tokens'] * (shape['tokens'] + 1) / 2 * shape['heads']
    share = 4 * shape['dim'] * visible / (2 * SIZE ** 3)

    def seconds():
        begin = time.process_time()
        np.matmul(a, b, out=out)
        return (time.process_time() - begin) * share

    turns.serve_seconds(f'numpy {np.__version__}, sgemm {SIZE}', seconds)


if __name__ == '__main__':
    main()
