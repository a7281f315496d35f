"""The command line, checked before a model is loaded."""

import argparse
import os

import rope_scaling
from refusal import ENVIRONMENT, Refusal, usage


def parse(argv=None):
    p = argparse.ArgumentParser(
        prog="record.py", description="Records the Q, K, V of a decoder-only model on a text into a kvbench trace.")
    add = p.add_argument
    add("--model", required=True, help="GGUF file, model folder, or installed Python package that holds one GGUF")
    add("--name", help="the model's name in the trace (default: from the file name)")
    add("--text", required=True, metavar="FILE", help="UTF-8 text; its first --tokens tokens are taken")
    add("--text-note", metavar="WORDS", help="where the text comes from, and its licence")
    add("--tokens", type=int, required=True, metavar="T")
    add("--prefill", type=int, required=True, metavar="P", help="tokens 0..P-1 are the prompt, the rest decode steps")
    add("--layers", type=layer_list, default=None, help="comma-separated indices, or all (default)")
    add("--windows", type=ranges, default=[], metavar="A:B,...", help="decode tokens with gradient probes")
    add("--fisher-probes", type=int, default=0, metavar="S", help="Rademacher-Fisher probes beside the label probe")
    add("--w-o", action="store_true", help="store the output projections")
    add("--x2", action="store_true", help="store the squared length of the residual stream entering each layer")
    add("--nll", action="store_true", help="store -ln p of every token")
    add("--spans", type=span, action="append", default=[], metavar="NAME=A:B,...", help="named token ranges")
    add("--needle", metavar="WORDS", help="put these words into the text and ask for them, see needle.py")
    add("--needle-depth", type=float, default=0.5, metavar="D", help="where, as a share of the prompt (default 0.5)")
    add("--question", metavar="WORDS", help="with --needle: the end of the prompt")
    add("--answer", metavar="WORDS", default="", help="with --needle: the first decode tokens")
    add("--question-start", type=int, metavar="N", help="first token of a question at the end of the prompt")
    add("--rope-scaling", type=rope_scaling.parse, metavar="TYPE:KEY=NUMBER...",
        help="other rotary positions than the model's own, e.g. yarn:factor=4")
    add("--dtype", choices=("f16", "bf16", "f32"), default="f16", help="of the tensors (default f16)")
    add("--deflate", action="store_true", help="store tensors chunked, shuffled and deflated (smaller, slower to read)")
    add("--seed", type=int, default=1, help="of the Fisher probes (default 1)")
    add("--threads", type=int, default=1, help="torch threads; more than 1 only on an idle machine (default 1)")
    add("--no-check", action="store_true", help="skip the second forward pass with the model's own attention")
    add("--out", required=True, metavar="FILE")
    args = p.parse_args(argv)
    check(args)
    return args


def layer_list(text):
    return None if text == "all" else sorted({int(part) for part in text.split(",")})


def ranges(text):
    return [tuple(int(end) for end in pair(part)) for part in text.split(",")]


def pair(text):
    a, colon, b = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"expected A:B, found {text}")
    return a, b


def span(text):
    name, equals, where = text.partition("=")
    if not equals or not name or "/" in name:
        raise argparse.ArgumentTypeError(f"expected NAME=A:B, found {text}")
    return name, ranges(where)


def check(a):
    within("--tokens", a.tokens, 2, None)
    within("--prefill", a.prefill, 1, a.tokens - 1)
    within("--threads", a.threads, 1, None)
    within("--fisher-probes", a.fisher_probes, 0, 999)
    if a.fisher_probes and not a.windows:
        raise usage("--fisher-probes", "--windows beside it", "none")
    if a.needle and not a.question:
        raise usage("--needle", "--question beside it", "none")
    if a.question and not a.needle:
        raise usage("--question", "--needle beside it", "none")
    if not 0 <= a.needle_depth <= 1:
        raise usage("--needle-depth", "0..1", a.needle_depth)
    if a.needle and a.question_start is not None:
        raise usage("--question-start", "no --needle, which sets it", a.question_start)
    if a.question_start is not None:
        within("--question-start", a.question_start, 0, a.prefill - 1)
    check_windows(a)
    for name, spans in a.spans:
        for lo, hi in spans:
            in_range(f"--spans {name}", lo, hi, 0, a.tokens)
    if not os.path.isdir(os.path.dirname(os.path.abspath(a.out))):
        raise Refusal(a.out, "output", "an existing folder", "none", ENVIRONMENT)


def check_windows(a):
    """Ascending, apart, decode tokens only, and not the last token: nothing follows it to predict."""
    end = a.prefill
    for lo, hi in a.windows:
        in_range("--windows", lo, hi, end, a.tokens - 1)
        end = hi


def within(option, value, low, high):
    if value < low or (high is not None and value > high):
        raise usage(option, f"at least {low}" if high is None else f"{low}..{high}", value)


def in_range(option, lo, hi, low, high):
    if not low <= lo < hi <= high:
        raise usage(option, f"a range within {low}:{high}", f"{lo}:{hi}")
