"""The content digest of trace.md: XXH3-128 over every object that counts, in order of its key."""
import h5py
import numpy as np
import xxhash

TYPE_NAMES = {"float16": "f16", "float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64",
              "uint16": "u16"}
NOT_COUNTED = {"@content_hash", "@recorder"}


def entry(key, value, is_bfloat16=False):
    """key 0 type 0 dims 0 data 0"""
    if isinstance(value, (str, bytes)):
        name, shape = "str", ()
        data = value.encode() if isinstance(value, str) else value
    else:
        array = np.asarray(value)
        name = "bf16" if is_bfloat16 else TYPE_NAMES[array.dtype.name]
        shape, data = array.shape, np.ascontiguousarray(array).tobytes()
    dims = "x".join(str(n) for n in shape)
    return b"\0".join([key.encode(), name.encode(), dims.encode(), data, b""])


def is_extra(name):
    """Groups and attributes that start with x_ are legal and ignored."""
    return any(part.startswith("x_") for part in name.replace("@", "/").split("/"))


def objects(file):
    """(key, value, is_bfloat16) of everything in the file that counts."""
    found = [("@" + name, value, False) for name, value in file.attrs.items()]

    def visit(path, item):
        bfloat16 = item.attrs.get("type") == "bfloat16"
        found.extend((f"{path}@{name}", value, False) for name, value in item.attrs.items())
        if isinstance(item, h5py.Dataset):
            found.append((path, item[()], bfloat16))

    file.visititems(visit)
    return [o for o in found if o[0] not in NOT_COUNTED and not is_extra(o[0])]


def content_hash(file):
    digest = xxhash.xxh3_128()
    for key, value, bfloat16 in sorted(objects(file), key=lambda o: o[0].encode()):
        digest.update(entry(key, value, bfloat16))
    return "xxh3:" + digest.hexdigest()
