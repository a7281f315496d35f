#!/usr/bin/env python3
"""Plain attention in torch: softmax(Q K^T + mask) V in float32, keys and values shared by the group."""
import turns
from torch_rows import draw, torch


def main():
    shape = turns.arguments(['attn', 'e2e'])
    q, k, v = draw(shape)
    mask = torch.full((shape['tokens'], shape['tokens']), float('-inf')).triu(1)

    def work():
        with torch.no_grad():
            torch.softmax(q @ k.transpose(-1, -2) * shape['dim'] ** -0.5 + mask, dim=-1) @ v

    turns.serve(f'torch {torch.__version__}, softmax(QK^T)V', work)


if __name__ == '__main__':
    main()
