#!/usr/bin/env python3
"""Encoding by pyturboquant-cpu (pip install pyturboquant-cpu==0.1.0), mse mode, 4 bits, where it is
installed. A turn is `vectors` vectors of `dim` (4096 by default)."""
import turns

try:
    import numpy as np
    import pyturboquant_cpu as peer
except ImportError as error:
    turns.skip(error)


def main():
    shape = turns.arguments(['encode'])
    x = np.random.default_rng(1).standard_normal((shape.get('vectors', 4096), shape['dim'])).astype(np.float32)
    turns.serve('pyturboquant-cpu, mse, 4 bits', lambda: peer.quantize_mse(x, bits=4))


if __name__ == '__main__':
    main()
