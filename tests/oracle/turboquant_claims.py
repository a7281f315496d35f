"""What must hold of TurboQuant whatever rotation is drawn (methods-quant.md section 3.6).

With raw norms the squared relative error of decoded rows is D(d, bits) in mean; the half norm adds
nothing visible. The bound is loose because a trace has few rows and a Hadamard of a structured row
is not quite a Haar rotation of it.
"""
import math

from lloyd_max import codebook
import specs

SPREAD = 0.08            # of the squared error


def expected_distortion(stage, dim):
    """D of mse; of prod, the sketch's variance, pi/2 - 1/dim of what the smaller codebook left."""
    bits = stage.params.get("bits")
    if stage.params.get("mode", "mse") == "mse":
        return codebook(dim, bits)[1]
    rest = codebook(dim, bits - 1)[1] if bits > 1 else 1.0
    return rest * (math.pi / 2 - 1 / dim)


def has_theory(stages):
    """A lone turboquant with whole bits and its default norm."""
    stage = stages[0]
    return (len(stages) == 1 and stage.name == "turboquant"
            and stage.params.get("norm", "raw") == "raw"
            and stage.params.get("sketch", "gaussian") == "gaussian"
            and stage.params["bits"] == int(stage.params["bits"]))


def distortion_claims(trace, spec, row):
    """[(column, problem or None)]"""
    stages = specs.parse(spec)
    if not has_theory(stages):
        return []
    indices = list(trace.layers) if row["layer"] == "all" else [int(row["layer"])]
    layer = trace.layers[indices[0]]
    claims = []
    for column, dim in (("key_error", layer.k.shape[2]), ("value_error", layer.v.shape[2])):
        want, got = expected_distortion(stages[0], dim), float(row[column]) ** 2
        wrong = abs(got - want) > SPREAD * want
        claims.append((column, f"squared {got:.4g}, theory {want:.4g}" if wrong else None))
    return claims
