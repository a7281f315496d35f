"""Model files that Python packages carry: one GGUF, or one cut into parts that other packages hold."""

import contextlib
import hashlib
import importlib.metadata
import os
import re

from refusal import ENVIRONMENT, Refusal

PART = re.compile(r"(.+\.gguf)\.part(\d+)$")


def gguf_of_package(name):
    """The path of the package's model; parts are joined once, in the user's cache folder."""
    files = files_of(name)
    whole = [str(f.locate()) for f in files if f.name.endswith(".gguf")]
    if len(whole) == 1:
        return whole[0]
    parts = [] if whole else parts_of(name, files)
    if not parts:
        raise Refusal(name, "package", "exactly one .gguf file, or one in numbered parts", len(whole))
    return joined(name, parts, checksums(files))


def files_of(name):
    try:
        return importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise Refusal(name, "model", "a .gguf file, a folder or an installed package", "none of them")


def parts_of(name, files):
    """[(file name, path)] in order, of the package itself and of what it requires."""
    for requirement in importlib.metadata.requires(name) or []:
        files = files + files_of(re.match(r"[\w.-]+", requirement).group())
    found = sorted((int(PART.match(f.name).group(2)), f) for f in files if PART.match(f.name))
    if [number for number, _ in found] != list(range(len(found))):
        raise Refusal(name, "package", f"parts numbered 0..{len(found) - 1}", [number for number, _ in found])
    return [f.locate() for _, f in found]


def checksums(files):
    """File name -> SHA-256, from the SHA256SUMS that the package may carry."""
    sums = {}
    for f in files:
        if f.name == "SHA256SUMS":
            sums.update((line.split()[-1].lstrip("*"), line.split()[0]) for line in f.read_text().splitlines() if line)
    return sums


def joined(name, parts, sums):
    target = PART.match(os.path.basename(parts[0])).group(1)
    folder = os.path.join(cache_folder(), "models")
    path = os.path.join(folder, target)
    if os.path.exists(path) and os.path.getsize(path) == sum(os.path.getsize(p) for p in parts):
        return path
    part = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(folder, exist_ok=True)
        digest = write_blocks(part, parts)
        if digest != sums.get(target, digest):
            raise Refusal(name, target, f"sha256 {sums[target]}", digest)
        os.replace(part, path)
    except OSError as e:
        raise Refusal(path, "model", "room for the joined parts", e.strerror, ENVIRONMENT)
    finally:
        with contextlib.suppress(OSError):       # renamed, or never there
            os.remove(part)
    return path


def write_blocks(path, parts):
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        for block in blocks(parts):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def blocks(paths):
    for path in paths:
        with open(path, "rb") as f:
            while block := f.read(1 << 22):
                yield block


def cache_folder():
    """Where the program keeps its references too."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("KVBENCH_CACHE") or os.path.join(base, "kvbench")
