"""In PyTorch: two scans with flips, one factorised form, and attention.

q, k and the log gates are [B, T, H, K], v is [B, T, H, V], and so is what
they return, in v's dtype.
"""

# It takes *three for all arguments that attention has.
# pyright: reportArgumentType=false

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def two_passes(
    scan: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
) -> Tensor:
    """One direction over a batch and its mirror image, as ViG trains.

    Args:
        scan: takes q, k, v and one log gate, from the first token on.
    """
    q, k, v = (torch.cat((x, x.flip(1))) for x in (q, k, v))
    output = scan(q, k, v, torch.cat((log_gate_fwd, log_gate_bwd.flip(1))))
    forward, backward = output.chunk(2)
    return forward + backward.flip(1)


def factorised(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Score matrices of both halves of the tokens, two states between them.

    Each decay is a quotient of decays to the middle. Weak gates and few
    tokens are assumed: where those between a token and the middle add up to
    less than -88, float32 overflows.
    """
    middle = q.shape[1] // 2
    fwd, bwd = log_gate_fwd.float(), log_gate_bwd.float()
    # i reads j with exp(sum_i - sum_j): j's write has met the gates after j
    # up to i, and on the way back those from i up to the one before j.
    sums = [fwd.cumsum(1), bwd - bwd.cumsum(1)]
    sums = [(x - x[:, middle, None]).transpose(1, 2) for x in sums]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    queries = [(scale * x.exp() * q).to(q.dtype) for x in sums]
    keys = [((-x).exp() * k).to(k.dtype) for x in sums]
    left, right = slice(middle), slice(middle, None)
    halves = []
    for here, there, way in ((left, right, 1), (right, left, 0)):
        ahead, back = (
            a[:, :, here] @ b[:, :, here].mT
            for a, b in zip(queries, keys, strict=True)
        )
        state = keys[way][:, :, there].mT @ v[:, :, there]
        halves.append(
            (ahead.tril() + back.triu()) @ v[:, :, here]
            + queries[way][:, :, here] @ state
        )
    return torch.cat(halves, 2).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by the device's best kernel."""
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)
