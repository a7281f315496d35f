"""One row per layer and the pooled one, under the column names of rows.csv."""
from copies import in_query_heads
import linear_state
import metrics
import mla
from replay import replay_layers
import rest
import structure

BYTE_COLUMNS = ("resident", "payload", "metadata", "residual", "basis", "offloaded")
HOST_READS = "offloaded_read_bytes_per_step"
UNKNOWN = "unknown"               # a value that no document settles: not compared
POOLED_BY_MEAN = ("output_error", "wo_error", "residual_error", "residual_signal", "attention_kl", "lost_mass",
                  "mass_drift", "key_error", "value_error", "error_p50", "error_p95", "error_p99")
ROW_ERRORS = ("key_error", "value_error")


def byte_row(counts, layer, tokens):
    """Bits are over the elements of K and V of all tokens seen, all-in."""
    heads, _, key_dim = layer.k.shape
    heads //= layer.copies                        # elements are the recorded ones
    value_dim = 0 if layer.value_is_key_prefix else layer.v.shape[2]
    row = {f"{name}_bytes": counts.get(name, 0) for name in BYTE_COLUMNS}
    row.update(key_bytes=counts["key"], value_bytes=counts["value"],
               key_elements=heads * tokens * key_dim, value_elements=heads * tokens * value_dim,
               joint=counts.get("joint", False))
    return row


def with_bits(row):
    elements = row["key_elements"] + row["value_elements"]
    row["bits_per_element"] = 8 * row["resident_bytes"] / elements if elements else None
    for side in ("key", "value"):
        count = row[f"{side}_elements"]
        row[f"bits_{side}"] = 8 * row[f"{side}_bytes"] / count if count and not row["joint"] else None
    return row


def stored_row(trace, replay, index):
    """A layer that reads another's keys and values stores nothing; the rows it reads are theirs, and counted there."""
    row = {f"{side}_error": replay.side_error(side) for side in ("key", "value")}
    if index != replay.owner.index:
        return {**row, **{f"{name}_bytes": 0 for name in BYTE_COLUMNS}, HOST_READS: 0}
    held = [int(cache.held.sum()) for cache in replay.heads]
    row.update(byte_row(replay.byte_counts(), replay.owner, trace.tokens))
    reads = replay.host_read_bytes()
    row[HOST_READS] = UNKNOWN if reads is None else reads
    return dict(with_bits(row), kept_tokens=sum(held) / len(held) if held else None)


def layer_rows(trace, spec):
    """layer index -> row, and layer index -> answers (for the probes' sums over layers)."""
    rows, answers = {}, {}
    trace = in_query_heads(trace, spec)
    layers = replay_layers
    for kind in (structure, mla, linear_state, rest):
        layers = (kind.replay_groups if kind.knows(spec) else layers)
    for replay, by_layer in layers(trace, spec):
        for index, answer in by_layer.items():
            rows[index] = {**metrics.layer_metrics(answer), **stored_row(trace, replay, index),
                           **metrics.probe_metrics(trace, {index: answer})}
            if isinstance(replay, linear_state.StateReplay):               # no weights are given to rows
                rows[index].update(dict.fromkeys(("attention_kl", "lost_mass", "mass_drift")))
        answers.update(by_layer)
    return rows, answers


def pooled_row(trace, rows, answers):
    """Bytes add up, errors are the mean of the layers' values, error_max the largest of all, probes
    add before the square."""
    owners = [row for row in rows.values() if "key_elements" in row]
    summed = [n for n in owners[0] if n.endswith(("_bytes", "_elements"))]
    pooled = {name: sum(row[name] for row in owners) for name in summed}
    reads = [row[HOST_READS] for row in rows.values()]
    pooled[HOST_READS] = UNKNOWN if UNKNOWN in reads else sum(reads)
    pooled["joint"] = any(row["joint"] for row in owners)
    with_bits(pooled)
    for name in POOLED_BY_MEAN:
        known = [row for row in rows.values() if row.get(name) is not None]    # nothing of nothing is no error
        pooled[name] = metrics.mean_over_layers(known if name in ROW_ERRORS and known else rows.values(), name)
    largest = [row["error_max"] for row in rows.values() if row["error_max"] is not None]
    pooled["error_max"] = max(largest, default=None)
    for name in ("worst_cancelling", "stretch"):
        pooled[name] = max(row[name] for row in rows.values())
    pooled.update(metrics.probe_metrics(trace, answers))
    kept = [row["kept_tokens"] for row in owners]                # a state beside rows is none
    pooled["kept_tokens"] = sum(filter(None, kept)) / len(kept) if any(kept) else None
    return pooled


def all_rows(trace, spec):
    """{'all': row, index: row, ...}"""
    rows, answers = layer_rows(trace, spec)
    return {"all": pooled_row(trace, rows, answers), **rows}
