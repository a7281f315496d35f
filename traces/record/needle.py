"""A needle in a haystack: one sentence put into the text, a question at the prompt's end, its answer as
the first decode tokens.

    prompt (exactly --prefill tokens) = text with the needle at --needle-depth, then the question
    decode                            = the answer, then the text where the prompt left it

Pieces are tokenized apart, so the ranges are exact. The needle becomes the span `needle` (the question is
no span: it would hide a lost needle in span_retention), and `question_start` is set: a method scored
query-agnostic must not see past it.
"""

from refusal import usage


def compose(tokenizer, hay, args):
    """(ids, (first, end) of the needle, start of the question). hay: ids of the text, special tokens included."""
    needle, question, answer = (pieces(tokenizer, words) for words in (args.needle, args.question, args.answer))
    room = args.prefill - len(needle) - len(question)
    rest = args.tokens - args.prefill - len(answer)
    if room < 2 or rest < 0:
        raise usage("--needle", f"--prefill above {len(needle) + len(question) + 1} and --tokens at least"
                                f" {args.prefill + len(answer)} for these words", f"{args.prefill} and {args.tokens}")
    if len(hay) < room + rest:
        raise usage("--text", f"at least {room + rest} tokens", len(hay))
    at = sentence_end(tokenizer, hay[:room], round(args.needle_depth * room))
    ids = hay[:at] + needle + hay[at:room] + question + answer + hay[room:room + rest]
    return ids, (at, at + len(needle)), args.prefill - len(question)


def pieces(tokenizer, words):
    return tokenizer(" " + words.strip(), add_special_tokens=False)["input_ids"] if words else []


def sentence_end(tokenizer, hay, wanted):
    """The place nearest to `wanted` that follows a full stop; `wanted` itself where there is none."""
    ends = [i + 1 for i, token in enumerate(hay) if tokenizer.decode([token]).rstrip().endswith(".")]
    return min(ends, key=lambda end: abs(end - wanted)) if ends else max(1, wanted)
