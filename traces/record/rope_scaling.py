"""--rope-scaling TYPE[:KEY=NUMBER...]: another scaling of the rotary positions than the model's own.

Every key lands in transformers' rope_parameters under its own name (factor,
original_max_position_embeddings, beta_fast, beta_slow, attention_factor, ...), for every kind of layer
that rotates. What the numbers do is found in the tensors afterwards, as for any model (anatomy.py).
"""

import argparse

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from refusal import Refusal


def parse(text):
    """`yarn:factor=4` -> {"rope_type": "yarn", "factor": 4.0}"""
    kind, *settings = text.split(":")
    known = sorted(["default", *ROPE_INIT_FUNCTIONS])
    if kind not in known:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)}, found {kind}")
    return {"rope_type": kind, **dict(number(setting) for setting in settings)}


def number(setting):
    key, equals, value = setting.partition("=")
    try:
        return key, float(value) if "." in value or "e" in value or key == "factor" else int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected KEY=NUMBER, found {setting}")


def apply(config, scaling):
    """Puts the scaling into a loaded configuration, before the model is made."""
    config = config.get_text_config()
    own = getattr(config, "rope_parameters", None)
    if not own:
        raise Refusal(type(config).__name__, "--rope-scaling", "a model with rotary positions", "none")
    if "rope_theta" in own:
        config.rope_parameters = scaled(own, scaling, config)
    else:                                 # one set a kind of layer: Gemma 3
        config.rope_parameters = {kind: scaled(of_kind, scaling, config) for kind, of_kind in own.items()}


def scaled(own, scaling, config):
    trained = {"original_max_position_embeddings": config.max_position_embeddings}
    return {**({} if scaling["rope_type"] == "default" else trained),
            **{k: v for k, v in own.items() if k in ("rope_theta", "partial_rotary_factor")}, **scaling}
