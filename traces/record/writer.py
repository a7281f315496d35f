"""Writes a trace file (format 1) and computes its content hash.

The file is written beside its final name and renamed when it is whole: no reader ever sees half a trace.
"""

import contextlib
import os

import h5py
import numpy as np
import torch
import xxhash

from refusal import ENVIRONMENT, Refusal

TYPE_NAMES = {"<f2": "f16", "<f4": "f32", "<f8": "f64", "<i4": "i32", "<i8": "i64", "<u2": "u16"}
UNHASHED = ("@content_hash", "@recorder")


@contextlib.contextmanager
def new_trace(path):
    """The open file of a trace to be; renamed to `path` on success, removed on any failure."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with h5py.File(part, "w", libver=("earliest", "v110")) as f:
            yield f
            f.attrs["content_hash"] = content_hash(f)
        os.replace(part, path)
    except OSError as e:
        raise Refusal(path, "output", "a file that can be written", os.strerror(e.errno) if e.errno else e,
                      ENVIRONMENT)
    finally:
        with contextlib.suppress(OSError):       # renamed, or never there
            os.remove(part)


def put_tensor(f, path, x, dtype, deflate=False):
    """f16, bf16 (as raw u16 words) or f32. Contiguous, so that a head's rows can be read or mapped at once."""
    x = x.detach().float()
    if not torch.isfinite(x).all():
        raise Refusal(path, "tensor", "finite numbers", "NaN or infinity")
    if dtype == "f16" and float(x.abs().max()) > 65504:
        raise Refusal(path, "tensor", "entries within half precision (65504); take --dtype bf16 or f32",
                      f"{float(x.abs().max()):.6g}")
    data = half_words(x) if dtype == "bf16" else x.numpy().astype("<f2" if dtype == "f16" else "<f4")
    dataset = f.create_dataset(path, data=data, **storage(data, deflate))
    if dtype == "bf16":
        dataset.attrs["type"] = "bfloat16"
    return dataset


def storage(data, deflate):
    """One head (or 64 rows of a matrix) per chunk, the bytes of equal rank side by side."""
    if not deflate:
        return {}
    chunks = (1,) + data.shape[1:] if data.ndim == 3 else (min(64, data.shape[0]), data.shape[1])
    return dict(chunks=chunks, shuffle=True, compression="gzip", compression_opts=9)


def half_words(x):
    return x.to(torch.bfloat16).view(torch.int16).numpy().astype("<u2")


def content_hash(f):
    """XXH3-128 over key, type, dims and bytes of every object, in byte order of the keys."""
    objects = dict(attributes("", f))
    f.visititems(lambda path, item: objects.update(entries(path, item)))
    h = xxhash.xxh3_128()
    for key in sorted(objects, key=str.encode):
        if key not in UNHASHED:
            kind, dims, data = objects[key]()
            h.update(key.encode() + b"\0" + kind.encode() + b"\0" + dims.encode() + b"\0")
            h.update(data)
            h.update(b"\0")
    return "xxh3:" + h.hexdigest()


def entries(path, item):
    yield from attributes(path, item)
    if isinstance(item, h5py.Dataset):
        yield path, lambda: described(item[()], item.attrs.get("type"))


def attributes(path, item):
    for name in item.attrs:
        yield f"{path}@{name}", lambda name=name: described(item.attrs[name])


def described(value, marked=None):
    """(type name, dims, bytes) of an attribute's or dataset's value."""
    if isinstance(value, str):
        return "str", "", value.encode()
    value = np.asarray(value)
    kind = "bf16" if marked == "bfloat16" else TYPE_NAMES[value.dtype.str]
    return kind, "x".join(map(str, value.shape)), np.ascontiguousarray(value).tobytes()
