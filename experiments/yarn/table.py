#!/usr/bin/env python3
"""table.py FOLDER: replays the recordings of record.sh and prints README.md's table (markdown)."""

import csv
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
KVBENCH = os.environ.get("KVBENCH", os.path.join(HERE, "..", "..", "build", "harness", "kvbench"))
FACTORS = (1, 4, 16, 32)
SPECS = ["fp8:scale=tensor", "int:bits=4", "int:bits=4:keys=unrotated", "kivi:bits=2", "kivi:bits=2:keys=unrotated",
         "turboquant:bits=4", "kvquant:bits=3:weights=none"]
STATIC = "fp8:scale=tensor"        # also with the scales of the recording without scaling


def rows(folder, factors, specs, *more):
    """[spec][factor] -> row of rows.csv."""
    traces = [word for f in factors for word in ("--trace", os.path.join(folder, f"yarn{f}.h5"))]
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([KVBENCH, "run", *traces, "--methods", ",".join(specs), "--no-plots", "--quiet", *more,
                        "--out", os.path.join(out, "run")], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(out, "run", "rows.csv"), newline="", encoding="utf-8") as f:
            found = list(csv.DictReader(f))
    return [[found[f * len(specs) + s] for f in range(len(factors))] for s in range(len(specs))]


def print_row(name, cells):
    values = [f"{float(row['key_error']):.4f} / {float(row['attention_kl']):.4f}" if row else "" for row in cells]
    print(f"| `{name}` | " + " | ".join(values) + " |")


def main(folder):
    print("| method | " + " | ".join(f"factor {f}" for f in FACTORS) + " |")
    print("|---" * (len(FACTORS) + 1) + "|")
    for name, cells in zip(SPECS, rows(folder, FACTORS, SPECS)):
        print_row(name, cells)
    own = os.path.join(folder, f"yarn{FACTORS[0]}.h5")
    print_row(f"{STATIC} --calibrate yarn1.h5",
              [None, *rows(folder, FACTORS[1:], [STATIC], "--calibrate", own)[0]])


if __name__ == "__main__":
    main(sys.argv[1])
