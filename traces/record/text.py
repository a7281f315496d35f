"""Reads the text and turns its beginning into token ids."""

import hashlib
import os

from refusal import Refusal


def read_text(path):
    try:
        with open(path, "rb") as f:
            raw = f.read()
        return raw.decode("utf-8"), hashlib.sha256(raw).hexdigest()
    except OSError as e:
        raise Refusal(path, "text", "a readable file", e.strerror)
    except UnicodeDecodeError as e:
        raise Refusal(path, "text", "UTF-8", f"byte {e.object[e.start]:#04x} at offset {e.start}")


def describe_text(path, digest, note):
    """The `text` attribute: the file's name and digest, then what the user says of its origin."""
    return f"{os.path.basename(path)} sha256:{digest}; {note or 'licence not stated'}"


def first_tokens(tokenizer, text, count, path):
    """The tokenizer's own special tokens count (Gemma puts <bos> in front, SmolLM2 nothing)."""
    ids = tokenizer(text)["input_ids"]
    if len(ids) < count:
        raise Refusal(path, "text", f"at least {count} tokens", len(ids))
    return ids[:count]
