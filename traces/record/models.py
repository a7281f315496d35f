"""Loads a model with its tokenizer: a GGUF file, a folder, or an installed Python package."""

import glob
import hashlib
import json
import os

import torch
import transformers

import rope_scaling
from packages import gguf_of_package
from refusal import Refusal

# Paths, versions and registry names would make a trace depend on the machine that recorded it.
PRIVATE_CONFIG = ("_name_or_path", "_model_name_or_path", "transformers_version",
                  "quantization_config", "dtype", "torch_dtype", "auto_map", "id2label", "label2id")


def find_weights(where):
    """The weight files that `--model` means: one GGUF, or a folder's *.safetensors."""
    if os.path.isfile(where):
        return [where]
    if os.path.isdir(where):
        return weights_in_folder(where)
    return [gguf_of_package(where)]


def weights_in_folder(folder):
    for pattern in ("*.gguf", "*.safetensors", "pytorch_model*.bin"):
        found = sorted(glob.glob(os.path.join(folder, pattern)))
        if found and (pattern != "*.gguf" or len(found) == 1):
            return found
    raise Refusal(folder, "model", "one .gguf file, or *.safetensors", "neither")


def load_tokenizer(where, weights):
    """Comes first: whether a text is long enough is known in a second, a model takes half a minute."""
    return from_pretrained(transformers.AutoTokenizer, where, weights)


def load_model(where, weights, scaling=None):
    """Weights become f32: rounding belongs to the compression methods."""
    config = from_pretrained(transformers.AutoConfig, where, weights)
    if scaling:
        rope_scaling.apply(config, scaling)
    model = from_pretrained(transformers.AutoModelForCausalLM, where, weights, config=config, dtype=torch.float32,
                            attn_implementation="eager")
    return model.eval().requires_grad_(False)


def from_pretrained(kind, where, weights, **how):
    """One of transformers' Auto classes, from local files alone; `where` is what the user called the model."""
    folder = os.path.dirname(os.path.abspath(weights[0]))
    if weights[0].endswith(".gguf"):
        how["gguf_file"] = os.path.basename(weights[0])
    try:
        return kind.from_pretrained(folder, local_files_only=True, **how)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError, AttributeError, IndexError) as e:
        raise Refusal(where, "model", "a causal language model that transformers loads", first_line(e))


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def digest(weights):
    """SHA-256 of the weights; of a model in several files, of their bytes one after the other."""
    h = hashlib.sha256()
    for path in weights:
        with open(path, "rb") as f:
            while block := f.read(1 << 22):
                h.update(block)
    return "sha256:" + h.hexdigest()


def display_name(weights):
    """`SmolLM2-135M-Instruct.Q4_1.gguf` reads `SmolLM2-135M-Instruct Q4_1`; a folder keeps its name."""
    stem, ext = os.path.splitext(os.path.basename(weights[0]))
    if ext != ".gguf":
        return os.path.basename(os.path.dirname(os.path.abspath(weights[0])))
    name, dot, quant = stem.rpartition(".")
    return f"{name} {quant}" if dot else stem


def config_json(model):
    """The architecture's numbers, without anything that tells where the model lay."""
    config = model.config.get_text_config().to_dict()
    kept = {k: v for k, v in config.items() if k not in PRIVATE_CONFIG and not looks_like_path(v)}
    return json.dumps(kept, sort_keys=True, default=str)


def looks_like_path(value):
    return isinstance(value, str) and ("/" in value or "\\" in value)
