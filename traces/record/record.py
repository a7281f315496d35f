#!/usr/bin/env python3
"""Records a kvbench trace (format 1, see traces/schema.md) from a real model.

    1. A few tokens run to learn which attention modules the model has.
    2. The whole text runs once through the tap (tap.py): Q, K, V, NLL; the rotation and what surrounds
       the attention are found on the way (anatomy.py).
    3. It runs again with the model's own attention. If the two disagree, the model does something that
       the trace could not say, and nothing is written.
    4. Each gradient window runs on its own (probes.py).
    5. Everything is written, hashed and renamed (writer.py).
"""

import contextlib
import os
import signal
import sys

os.environ.setdefault("TQDM_DISABLE", "1")           # transformers' own bars would garble ours
os.environ.setdefault("HF_HUB_OFFLINE", "1")         # a recording never depends on a network

import numpy as np
import torch
import transformers

import models
import needle
import options
import writer
from anatomy import Anatomy
from probes import power_of_two_unit, window_gradients, window_seed
from refusal import Refusal, usage
from tap import Tap
from text import describe_text, first_tokens, read_text

VERSION = "kvbench record.py 1.0"
CHUNK = 128              # rows of logits per log-softmax: vocabularies are large
NLL_LIMIT = 0.01         # nats between tap and the model's own attention; f32 rounding is below 1e-4


def say(message):
    if sys.stderr.isatty():
        print(f"\r\033[Krecord: {message}", end="", file=sys.stderr, flush=True)


def main(argv=None):
    try:
        record(options.parse(argv))
    except Refusal as refusal:
        say("")
        print(f"record: {refusal}", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        say("")
        return 130
    return 0


def record(args):
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    text, text_digest = read_text(args.text)
    weights = models.find_weights(args.model)
    ids = torch.tensor(token_ids(args, models.load_tokenizer(args.model, weights), text))
    say("loading the model")
    model = models.load_model(args.model, weights, args.rope_scaling)
    about = dict(model=args.name or models.display_name(weights), model_digest=models.digest(weights),
                 model_config=models.config_json(model), text=describe_text(args.text, text_digest, args.text_note))
    record_model(args, model, ids, about)


def token_ids(args, tokenizer, text):
    """What the model reads; a needle brings its span and the start of its question."""
    if not args.needle:
        return first_tokens(tokenizer, text, args.tokens, args.text)
    ids, where, args.question_start = needle.compose(tokenizer, tokenizer(text)["input_ids"], args)
    args.spans.append(("needle", [where]))
    return ids


def record_model(args, model, ids, about):
    """Everything after loading; the tests start here with small random models."""
    with torch.no_grad():
        modules = attention_modules(model, ids)
        wanted = chosen_layers(args, model, modules)
        tap, anatomy, nll = run_text(model, ids, modules, wanted)
        if not args.no_check:
            compare_with_model(model, ids, nll)
    check_shared(wanted, anatomy)
    gradients = run_windows(args, model, tap, ids, wanted)
    say("writing")
    with writer.new_trace(args.out) as f:
        write_root(f, args, ids, about, nll)
        for i in wanted:
            write_layer(f, args, i, tap.layers[i], anatomy.found[i])
        write_gradients(f, args, wanted, gradients)
    say("")


def attention_modules(model, ids):
    """Layer index -> attention module, for all layers that call the attention function."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise Refusal(type(model).__name__, "model", "a decoder-only model", "an encoder with a decoder")
    tap = Tap()
    tap.attach(model)
    forward(model, ids[:8])
    if not tap.layers:
        raise Refusal(type(model).__name__, "attention", "transformers' pluggable attention",
                      "a model that never calls it")
    return {i: layer.module for i, layer in sorted(tap.layers.items())}


def chosen_layers(args, model, modules):
    total = model.config.get_text_config().num_hidden_layers
    wanted = args.layers if args.layers is not None else sorted(modules)
    for i in wanted:
        if i not in modules:
            raise usage("--layers", f"attention layers among 0..{total - 1}", i)
    if args.windows and len(modules) < total:
        # Another kind of layer carries state that a window's own tokens cannot restore.
        raise Refusal(type(model).__name__, "--windows", f"attention in all {total} layers", len(modules))
    return wanted


def forward(model, ids):
    positions = torch.arange(len(ids))[None]
    return model(input_ids=ids[None], position_ids=positions, use_cache=False).logits[0]


def run_text(model, ids, modules, wanted):
    say("running the text")
    tap, anatomy = Tap(set(wanted)), Anatomy(model, modules, wanted)
    tap.on_layer = anatomy.on_layer
    tap.attach(model)
    try:
        nll = token_nll(forward(model, ids), ids)
    finally:
        anatomy.remove()
    tap.on_layer = None
    return tap, anatomy, nll


def token_nll(logits, ids):
    """-ln p(token t | tokens before t); nothing predicts token 0."""
    losses = [torch.nn.functional.cross_entropy(logits[a:min(a + CHUNK, len(ids) - 1)].float(),
                                                ids[a + 1:a + 1 + CHUNK], reduction="none")
              for a in range(0, len(ids) - 1, CHUNK)]
    return torch.cat([torch.tensor([float("nan")])] + losses)


def compare_with_model(model, ids, nll):
    say("comparing with the model's own attention")
    ours = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation("eager")
    own = token_nll(forward(model, ids), ids)
    model.set_attn_implementation(ours)
    worst = float((own - nll)[1:].abs().max())
    if not worst < NLL_LIMIT:
        raise Refusal(type(model).__name__, "attention", f"NLL within {NLL_LIMIT} of the model's own attention",
                      f"{worst:.3g} (a mask or a term that the trace format does not have)")


def check_shared(wanted, anatomy):
    for i in wanted:
        source = anatomy.found[i].kv_source
        if source not in wanted:
            raise usage("--layers", f"layer {source} too, whose keys and values layer {i} reads", wanted)


def run_windows(args, model, tap, ids, wanted):
    """Per loss (label, then Fisher probes) a dictionary layer -> [q_heads, W, d_v], windows side by side."""
    windows = []
    for w, window in enumerate(args.windows):
        say(f"gradients, window {w + 1} of {len(args.windows)}")
        seeds = [window_seed(args.seed, w, s) for s in range(args.fisher_probes)]
        windows.append(window_gradients(model, tap, ids, window, wanted, seeds))
    return [{i: joined_gradient(tap.layers[i], [g[i] for g in same_loss]) for i in wanted}
            for same_loss in zip(*windows)]


def joined_gradient(layer, windows):
    """With respect to what the trace calls the output: of a latent, the weighted sum of latents."""
    gradient = torch.cat(windows, dim=1)
    return layer.latent.gradient(gradient) if layer.latent else gradient


def write_root(f, args, ids, about, nll):
    f.attrs.update(format="kvbench-trace", version=np.int32(1), recorder=VERSION, **about)
    f.attrs.update(tokens=np.int64(args.tokens), prefill_length=np.int64(args.prefill))
    if args.question_start is not None:
        f.attrs["question_start"] = np.int64(args.question_start)
    f["token_ids"] = ids.numpy().astype("<i4")
    f["positions"] = np.arange(len(ids), dtype="<i4")
    if args.nll:
        f["nll"] = nll.numpy().astype("<f4")
    for name, spans in args.spans:
        f[f"spans/{name}"] = np.array(spans, dtype="<i4")


def write_layer(f, args, i, layer, around):
    group = f.create_group(f"layers/{i:03d}")
    tensors = [("q", layer.latent.q), ("k", layer.latent.k)] if layer.latent else [("q", layer.q)]
    if around.kv_source == i and not layer.latent:
        tensors += [("k", layer.k), ("v", layer.v)]
    if args.w_o:
        tensors += [("w_o", output_projection(i, layer, around))]
    for name, tensor in tensors:
        writer.put_tensor(f, f"{group.name[1:]}/{name}", tensor, args.dtype, args.deflate)
    if args.x2:
        group["x2"] = residual_stream(i, layer, around).numpy().astype("<f4")
    if layer.sinks is not None:
        group["sink_logits"] = layer.sinks.detach().float().numpy().astype("<f4")
    write_mask(group, i, layer, around)
    write_rotation(group, around.rope)


def output_projection(i, layer, around):
    where = f"layer {i} ({type(layer.module).__name__})"
    if around.w_o is None:
        raise Refusal(where, "--w-o", "a projection that receives the attention output as it is", "none")
    factor = getattr(getattr(layer.module, "config", None), "residual_multiplier", 1.0)
    if factor != 1.0:        # Granite scales what it adds to the residual stream
        raise Refusal(where, "--w-o", "residual_multiplier 1", factor)
    return layer.latent.projection(around.w_o) if layer.latent else around.w_o


def residual_stream(i, layer, around):
    if around.x2 is None:
        raise Refusal(f"layer {i} ({type(layer.module).__name__})", "--x2", "one residual stream", "several")
    return around.x2


def write_mask(group, i, layer, around):
    group.attrs["scale"] = np.float64(layer.scale)
    group.attrs["softcap"] = np.float64(layer.softcap)
    group.attrs["kind"] = "sliding" if layer.window else "full"
    group.attrs["window"] = np.int64(layer.window)
    group.attrs["kv_source"] = np.int64(around.kv_source)
    if layer.latent:
        group.attrs["v_is_k_prefix"] = np.int64(layer.latent.rank)
    if around.post_norm:
        group.attrs["attn_post_norm"] = np.int32(1)


def write_rotation(group, rope):
    group.attrs["rope_layout"] = rope.layout
    group.attrs["rope_dims"] = np.int64(0 if rope.inv_freq is None else 2 * len(rope.inv_freq))
    group.attrs["rope_scale"] = np.float64(rope.scale)
    group.attrs["qk_norm"] = np.int32(rope.normed)
    if rope.inv_freq is not None:
        group["rope_inv_freq"] = rope.inv_freq.double().numpy()


def write_gradients(f, args, wanted, gradients):
    if not gradients:
        return
    f["grad/windows"] = np.array(args.windows, dtype="<i4")
    for n, layers in enumerate(gradients):
        path = "grad/label" if n == 0 else f"grad/fisher/{n - 1}"
        for i in wanted:
            write_gradient(f, args, f"{path}/{i:03d}", layers[i])
        if n > 0:
            seeds = [window_seed(args.seed, w, n - 1) for w in range(len(args.windows))]
            f[path].attrs["seeds"] = np.array(seeds, dtype="<i8")


def write_gradient(f, args, path, gradient):
    unit = power_of_two_unit(gradient.numpy())
    dtype = "f32" if args.dtype == "f32" else "f16"      # bf16 would lose three bits for no range needed
    dataset = writer.put_tensor(f, path, gradient / unit, dtype, args.deflate)
    dataset.attrs["unit"] = np.float64(unit)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)     # a killed run tidies up like Ctrl-C
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
