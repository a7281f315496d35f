"""Worked examples for unit tests elsewhere: writes vectors/*.json and prints what they hold.

    vectors.py            rewrites tests/oracle/vectors/
    vectors.py --check    exits 1 when a file differs, and where the `gguf` package is installed
                          compares llama.cpp's formats with its reference quantizers
"""
import json
import sys
from pathlib import Path

import numpy as np

from cache import Bank
from lloyd_max import codebook
from llama import LLAMA_BLOCK, Llama, block_bytes
from quantizers import integer_grid, kivi_keys, kivi_values

FOLDER = Path(__file__).parent / "vectors"


def half_words(values):
    return [int(w) for w in np.asarray(values, dtype=np.float16).ravel().view(np.uint16)]


def hostile_rows(width, seed):
    """Halves, as f32: noise, a channel outlier, a constant row, zeros, tiny and large values."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((6, width)) * [[1], [0.02], [1], [0], [1e-6], [3000]]
    rows[0, 3] = 23.5
    rows[2] = 2.385
    return rows.astype(np.float16).astype(np.float32)


def integer_vectors():
    """One group a row; codes, the two halves as 16-bit words, decoded values."""
    found = []
    for bits in range(2, 9):
        rows = hostile_rows(16, bits)
        codes, scale, minimum, decoded = integer_grid(rows, bits, axis=1)
        found.append(dict(bits=bits, group_size=16, rows=rows.tolist(), codes=codes.tolist(),
                          scale_words=half_words(scale), minimum_words=half_words(minimum),
                          decoded=decoded.tolist()))
    return found


def all_bytes(name, codes, halves):
    return [block_bytes(name, c, [h[i, 0] for h in halves]) for i, c in enumerate(codes)]


def llama_vectors():
    found = []
    for name, (_, quantize) in Llama.BLOCKS.items():
        rows = hostile_rows(LLAMA_BLOCK, 40)
        codes, halves, decoded = quantize(rows)
        blocks = [b.hex() for b in all_bytes(name, codes, halves)]
        found.append(dict(type=name, rows=rows.tolist(), blocks=blocks, decoded=decoded.tolist()))
    return found


def kivi_windows():
    """State after T tokens entered one by one; R = 128, G = 32, d = 64, 2 bits."""
    found = []
    for tokens in (127, 128, 129, 255, 256, 257):
        recorded = np.zeros((tokens, 64))
        banks = [Bank(make(64, 2, 32, 128), recorded, 128) for make in (kivi_keys, kivi_values)]
        for t in range(tokens):
            for bank in banks:
                bank.append(t)
                bank.flush()
        found.append(dict(tokens=tokens, key_residual=len(banks[0].queue),
                          value_residual=len(banks[1].queue), key_bytes=banks[0].bytes(),
                          value_bytes=banks[1].bytes()))
    return found


def codebooks():
    """Positive half, scaled by sqrt(d); thresholds are midpoints; D per unit vector."""
    found = []
    for d in (32, 64, 80, 96, 128, 256):
        for bits in range(1, 6):
            centroids, distortion = codebook(d, bits)
            half = centroids[2 ** (bits - 1):] * np.sqrt(d)
            found.append(dict(d=d, bits=bits, centroids=[round(c, 10) for c in half.tolist()],
                              distortion=round(distortion, 10)))
    return found


FILES = {"int.json": integer_vectors, "llama.json": llama_vectors, "kivi_windows.json": kivi_windows,
         "lloyd_max.json": codebooks}


def encoded(make):
    rows = make()
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def write_files():
    FOLDER.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / name).write_text(encoded(make), encoding="utf-8")
        print(f"{name}: {len(make())} entries")


def gguf_differences():
    """Blocks that gguf quantizes to other bytes or reads as other numbers, or None when the package is
    not there. It can read iq4_nl but has no quantizer for it."""
    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        return None
    different = 0
    rows = np.random.default_rng(5).standard_normal((2000, LLAMA_BLOCK)).astype(np.float32)
    rows = np.concatenate([hostile_rows(LLAMA_BLOCK, 41), rows])
    for name, (_, quantize) in Llama.BLOCKS.items():
        codes, halves, decoded = quantize(rows)
        kind, ours = GGMLQuantizationType[name.upper()], all_bytes(name, codes, halves)
        if name != "iq4_nl":
            different += sum(a != b.tobytes() for a, b in zip(ours, quants.quantize(rows, kind)))
        read = quants.dequantize(np.frombuffer(b"".join(ours), np.uint8).reshape(len(rows), -1), kind)
        different += np.sum(np.any(read != decoded.astype(np.float32), axis=1))
    return different


def check_files():
    """Codes and bytes must be equal; decimals may differ in the last printed place."""
    stale = [name for name, make in FILES.items()
             if not same(json.loads((FOLDER / name).read_text(encoding="utf-8")), json.loads(encoded(make)))]
    different = gguf_differences()
    print(f"stale: {stale or 'none'}; blocks unlike gguf's: "
          f"{'package not installed' if different is None else different}")
    return bool(stale or different)


def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= 2e-9 * max(1.0, abs(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(check_files())
    write_files()
