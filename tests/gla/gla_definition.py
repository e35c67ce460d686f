"""What gated linear attention is, from the formula: sums of products.

Nothing here is shared with the library: NumPy float64, one product of gates
per pair of tokens, no running state and no logarithm.
"""

import numpy as np
import torch
from torch import Tensor


def defined(q, k, v, log_gate, *, scale, reverse=False, initial_state=None):
    """Output and final state as float64 tensors; arguments as in `gla`.

    o_i = scale sum_{j <= i} sum_c q_ic k_jc (prod_{j < m <= i} gate_mc) v_j
    """
    q, k, v, log_gate = (
        np.asarray(x.detach().double()) for x in (q, k, v, log_gate)
    )
    if reverse:
        q, k, v, log_gate = (np.flip(x, 1) for x in (q, k, v, log_gate))
    gate = np.exp(log_gate)
    batch, tokens, heads, channels = k.shape
    shape = (batch, heads, channels, v.shape[-1])
    start = np.zeros(shape)
    if initial_state is not None:
        start = np.asarray(initial_state.detach().double())

    def state_after(i):
        total = gate[:, : i + 1].prod(1)[..., None] * start
        for j in range(i + 1):
            kept = k[:, j] * gate[:, j + 1 : i + 1].prod(1)
            total = total + kept[..., None] * v[:, j][..., None, :]
        return total

    states = [state_after(i) for i in range(tokens)]
    output = scale * np.einsum("bthk,tbhkv->bthv", q, np.stack(states))
    if reverse:
        output = np.flip(output, 1)
    return torch.tensor(output.copy()), torch.tensor(states[-1])


def draw(
    batch=2,
    tokens=5,
    heads=2,
    key=3,
    value=4,
    *,
    gate="vig",
    seed=0,
    dtype=torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, log_gate and a state, normal; `gate` names a family.

    "vig" is near 1, as logsigmoid(x) / 16 makes it; "strong" is -20
    everywhere; "mixed" -20 or nearly 0; "reset" -inf in one of five.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, x = (normal(batch, tokens, heads, key) for _ in range(3))
    v = normal(batch, tokens, heads, value)
    state = normal(batch, heads, key, value)
    sharp = torch.rand(x.shape, generator=generator) < 0.2
    log_gate = {
        "vig": torch.nn.functional.logsigmoid(x) / 16,
        "plain": torch.nn.functional.logsigmoid(x),
        "strong": torch.full_like(x, -20.0),
        "mixed": torch.where(sharp, -20.0, -0.01 * x.abs()),
        "reset": torch.where(sharp, -torch.inf, -0.1 * x.abs()),
    }[gate]
    return tuple(a.to(dtype) for a in (q, k, v, log_gate, state))
