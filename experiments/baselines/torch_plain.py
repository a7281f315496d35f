#!/usr/bin/env python3
"""Plain attention in torch: softmax(Q K^T + mask) V in float32, keys and values shared by the group."""
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
    k, v = (torch.randn(shape['kv_heads'], 1, tokens, dim) for _ in range(2))
    mask = torch.full((tokens, tokens), float('-inf')).triu(1)

    def work():
        with torch.no_grad():
            torch.softmax(q @ k.transpose(-1, -2) * dim ** -0.5 + mask, dim=-1) @ v

    turns.serve(f'torch {torch.__version__}, softmax(QK^T)V', work)


if __name__ == '__main__':
    main()
