"""torch itself, or a yardstick that skips; one thread, and drawn Q, K and V of the shape."""
import turns

try:
    import torch
except ImportError as error:
    turns.skip(error)

torch.set_num_threads(1)


def draw(shape):
    """q [kv_heads][group][tokens][dim]; k and v [kv_heads][1][tokens][dim], which a group shares."""
    torch.manual_seed(1)
    q = torch.randn(shape['kv_heads'], shape['heads'] // shape['kv_heads'], shape['tokens'], shape['dim'])
    k, v = (torch.randn(shape['kv_heads'], 1, shape['tokens'], shape['dim']) for _ in range(2))
    return q, k, v
