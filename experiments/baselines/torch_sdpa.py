#!/usr/bin/env python3
"""torch's own scaled_dot_product_attention, causal, float32: its CPU flash kernel where it has one."""
import turns
from torch_rows import draw, torch


def main():
    shape = turns.arguments(['attn', 'e2e'])
    attend = getattr(torch.nn.functional, 'scaled_dot_product_attention', None)
    if attend is None:
        turns.skip(f'torch {torch.__version__} has no scaled_dot_product_attention')
    q, k, v = draw(shape)
    k, v = (x.expand(-1, q.shape[1], -1, -1) for x in (k, v))

    def work():
        with torch.no_grad():
            attend(q, k, v, is_causal=True)

    turns.serve(f'torch {torch.__version__}, scaled_dot_product_attention', work)


if __name__ == '__main__':
    main()
