#!/usr/bin/env python3
"""torch's own scaled_dot_product_attention, causal, float32: its CPU flash kernel where it has one."""
import turns

try:
    import torch
except ImportError as error:
    turns.skip(error)


def main():
    shape = turns.arguments(['attn', 'e2e'])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokens, dim, group = shape['tokens'], shape['dim'], shape['heads'] // shape['kv_heads']
    q = torch.randn(shape['kv_heads'], group, tokens, dim)
    k, v = (torch.randn(shape['kv_heads'], 1, tokens, dim).expand(-1, group, -1, -1) for _ in range(2))
    attend = getattr(torch.nn.functional, 'scaled_dot_product_attention', None)
    if attend is None:
        turns.skip(f'torch {torch.__version__} has no scaled_dot_product_attention')

    def work():
        with torch.no_grad():
            attend(q, k, v, is_causal=True)

    turns.serve(f'torch {torch.__version__}, scaled_dot_product_attention', work)


if __name__ == '__main__':
    main()
