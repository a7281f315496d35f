"""How close two independent computations must be, and why.

The program computes attention in f32. Its rounding adds to a method's error as one vector to another
that knows little of it: the squares add, and a share of the rounding lies along the error. So an
error of 1 % is known to 1e-5, and one near the floor (2^-24 times the square root of the terms of a
sum) only as far as the floor. Gradients of a trace are halves (2^-11 each); their products are
compared at 5e-3.
"""
import math

import numpy as np

EXACT = {"bits_per_element", "bits_key", "bits_value", "resident_bytes", "payload_bytes",
         "metadata_bytes", "residual_bytes", "basis_bytes", "kept_tokens", "offloaded_bytes",
         "offloaded_read_bytes_per_step"}

NORMS = ("output_error", "wo_error", "residual_error")   # lengths of difference vectors, or squares
NORM_TOLERANCE = 1e-5
ALONG = 1 / 8        # of the rounding: the projection on one direction of 64 that it could point in;
                     # fewer answers than 64 leave it one direction each
TERM = 2.5e-3        # of a product of a gradient and an error; of its square twice that

# column -> (relative, absolute)
TOLERANCES = {
    "dkl": (5e-3, 1e-12),
    "dkl_max": (5e-3, 1e-11),             # one token's: not averaged
    "dkl_p99": (5e-3, 1e-12),
    "dkl_seq": (5e-3, 1e-11),             # its sums over a window cancel as dnll1's do
    "dnll1": (5e-3, 5e-7),                # signed sum: cancels, what is left is rounding of outputs
    "ppl_est": (1e-5, 1e-5),              # of its logarithm: exp would multiply the noise of dkl
    "attention_kl": (1e-4, 1e-6),         # sum of terms of both signs, each known to f32
    "lost_mass": (1e-5, 1e-6),
    "mass_drift": (1e-4, 1e-6),
    "key_error": (1e-5, 1e-7),
    "value_error": (1e-5, 1e-7),
    "error_p50": (1e-4, 1e-6),
    "error_p95": (1e-4, 1e-6),
    "error_p99": (1e-4, 1e-6),
    "error_max": (1e-3, 5e-6),            # one query, the worst of all: rounding of 2^-24 times the
                                          # few tens by which its values cancel, averaged by nothing;
                                          # it may read a latent that f32 puts into the next code
}

# In units of rounding_floor, where logits are large: what single weights, and the worst query, are off by.
ABOVE_FLOOR = {"attention_kl": 2, "lost_mass": 2, "mass_drift": 2, "error_max": 16}

# The documents leave room in these: reported, not judged.
AUDITED = ("dkl_p99", "mass_drift", "error_p50", "error_p95", "error_p99")


def largest_logit(layer):
    """Or, where large products cancel, their length."""
    largest = 0.0
    for h, q in enumerate(layer.q):
        k = layer.k[h // layer.group]
        largest = max(largest, np.abs(q @ k.T).max(), np.sqrt((q ** 2 @ k.T ** 2).max()))
    return layer.scale * float(largest)


def feature_floor(layer, sharpness):
    """Of features that are exponentials of the sharpened entries of keys and queries, up to twice these."""
    return 2.0 ** -22 * max(1.0, sharpness) * float(max(np.abs(layer.q).max(), np.abs(layer.k).max()))


def rounding_floor(layer):
    """Of an output, relative to it: sums of d_k products for a logit, of up to T rows; a weight is
    wrong by as much as its logit is. Fewer columns than 64 that matter leave it fewer ways to miss
    the direction of an error."""
    return weight_floor(layer) * max(1.0, math.sqrt(64 / columns_that_matter(layer.v)))


def weight_floor(layer):
    if layer.floor is None:
        tokens, dim = layer.k.shape[1:]
        layer.floor = 2.0 ** -24 * math.hypot(math.sqrt(tokens + dim), largest_logit(layer))
    return layer.floor


def columns_that_matter(values):
    energy = np.sum(values ** 2, axis=(0, 1))
    return float(energy.sum() ** 2 / np.sum(energy ** 2)) if energy.any() else 64.0


def close(column, want, got, floor=0.0, signal=1.0, spread=0.0, answers=64):
    """`signal`: residual_error of an answer that is all wrong; its square root scales the floor.
    `answers`: query heads times scored steps. `spread`: of the signed sums in dnll1 and dkl_seq,
    were the signs of their terms free."""
    if column in NORMS:
        if column == "residual_error":       # a mean of squares: rounding acts on what was squared
            want, got, floor = want ** 0.5, got ** 0.5, floor * signal ** 0.5
        less = min(want, got)
        return abs(want - got) <= (NORM_TOLERANCE * want + max(ALONG, answers ** -0.5) * floor
                                    + math.hypot(less, floor) - less)
    if column == "ppl_est":
        want, got = math.log(want), math.log(got)
    relative, absolute = TOLERANCES[column]
    absolute = max(absolute, ABOVE_FLOOR.get(column, 0) * floor)
    if column in ("dnll1", "ppl_est", "dkl_seq"):
        absolute += TERM * spread
    return abs(want - got) <= absolute + relative * abs(want)
