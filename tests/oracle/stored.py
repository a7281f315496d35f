"""Budgets that are said in bytes of a layer (`256KiB`) or bits per element (`2.5b`): the most rows a head
with which the cache is no larger at the end of the replay, rows counted as if they came in order."""
import re

import numpy as np

from cache import Bank, by_place

UNITS = {"": 1, "k": 1000, "Ki": 2 ** 10, "M": 10 ** 6, "Mi": 2 ** 20, "G": 10 ** 9, "Gi": 2 ** 30}


class Counted(Bank):
    """Rows take their place, but nobody reads them."""

    def encode(self, positions):
        pass


def head_limit(text, layer, tokens):
    """Bytes that one KV head may take, or None when the text is no such budget."""
    bits = re.fullmatch(r"([0-9.]+)b", str(text))
    if bits:
        columns = layer.k.shape[2] + (0 if layer.value_is_key_prefix else layer.v.shape[2])
        return float(bits[1]) / 8 * tokens * columns / layer.copies
    whole = re.fullmatch(r"([0-9.]+)([kKMGi]*)B", str(text))
    return float(whole[1]) * UNITS[whole[2]] / len(layer.k) if whole else None


def sizes(banks, tokens):
    """[tokens + 1] bytes of a head's banks after so many rows."""
    sums = []
    for count in range(tokens + 1):
        for bank in banks if count else []:
            bank.append(count - 1)
            bank.flush()
        sums.append(sum(sum(counts.values()) - counts["offloaded"] for counts in map(by_place, banks)))
    return np.array(sums)


def rows_within(limit, banks, policy, tokens, prompt_length):
    """0 when not a single row fits."""
    per_row = 4 * policy.state_floats + 4 * policy.cache_positions
    total = sizes(banks, tokens) + per_row * np.arange(tokens + 1) + policy.own_bytes(tokens)
    later = 0 if policy.by_step else tokens - prompt_length
    most = tokens if policy.by_step else prompt_length
    fits = [rows for rows in range(1, most + 1) if total[rows + later] <= limit + 1e-6]
    return max(fits, default=0)
