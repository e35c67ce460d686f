"""Gated linear attention twice: as a recurrence and as one weighted sum.

Both are written to be read and to be right. They never leave the dtype that
`accumulation_dtype` names, and autograd differentiates them. (`gla` switches
autocast off around them; who calls them directly does so too.)
"""

import torch
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of states and sums: float32 at least, float64 stays float64."""
    return torch.promote_types(dtype, torch.float32)


def empty_state(q: Tensor, v: Tensor) -> Tensor:
    """Room for a state of each head, [B, H, K, V], in the dtype of sums."""
    shape = (q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    return q.new_empty(shape, dtype=accumulation_dtype(q.dtype))


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    *,
    scale: float,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One token after the other; any gate in [-inf, 0] is exact.

    The state costs O(K V) memory whatever the number of tokens.

    Args:
        q, k, log_gate: [B, T, H, K].
        v: [B, T, H, V].
        scale: factor on the output.
        reverse: from the last token to the first.
        initial_state: [B, H, K, V], what the first token visited decays.

    Returns:
        Output [B, T, H, V] and the state after the last token visited
        [B, H, K, V], both in the accumulation dtype.
    """
    q, k, v, log_gate, state = _widened(q, k, v, log_gate, initial_state)
    # unbind, not [:, t]: its gradient is one stack, not T zero-padded sums.
    inputs = (x.unbind(1) for x in (q, k, v, log_gate.exp()))
    tokens = list(zip(*inputs, strict=True))
    outputs = []
    for q_t, k_t, v_t, gate_t in reversed(tokens) if reverse else tokens:
        write = k_t[..., :, None] * v_t[..., None, :]
        state = gate_t[..., :, None] * state + write
        outputs.append(scale * (q_t[..., None, :] @ state)[..., 0, :])
    if reverse:
        outputs.reverse()
    return torch.stack(outputs, 1), state


def parallel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    *,
    scale: float,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All tokens at once: weights [B, H, T, T], decay formed in log space.

    With b the running sum of the log gates, token i reads token j <= i with
    weight sum_k q_ik k_jk exp(b_ik - b_jk). The T * T exponents are taken
    for every channel: O(B T T H K) memory, meant for short sequences.

    Arguments and results are those of `recurrent`.

    Raises:
        ValueError: a log gate is -inf.
    """
    if torch.isneginf(log_gate).any():
        raise ValueError(
            "log_gate holds -inf: after it both running sums are -inf and "
            "their difference is inf - inf = NaN; use the recurrence, where "
            "-inf resets a channel exactly"
        )
    q, k, v, log_gate, state = _widened(q, k, v, log_gate, initial_state)
    if reverse:
        q, k, v, log_gate = (x.flip(1) for x in (q, k, v, log_gate))
    b = log_gate.cumsum(1)
    ones = torch.ones(2 * b.shape[1:2], dtype=torch.bool, device=b.device)
    future = ones.triu(1)[:, :, None, None]
    # Masked before exp: b_i - b_j > 0 above the diagonal may overflow, and
    # 0 * inf would then be the gradient.
    exponent = (b[:, :, None] - b[:, None]).masked_fill(future, -torch.inf)
    weight = torch.einsum("bihk,bjhk,bijhk->bhij", q, k, exponent.exp())
    output = torch.einsum("bhij,bjhv->bihv", weight, v)
    output = output + torch.einsum("bihk,bhkv->bihv", q * b.exp(), state)
    to_end = (b[:, -1:] - b).exp()
    write = torch.einsum("bjhk,bjhv->bhkv", k * to_end, v)
    state = b[:, -1, :, :, None].exp() * state + write
    return scale * (output.flip(1) if reverse else output), state


def bidirectional(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Sum of `recurrent` in both directions, [B, T, H, V]."""
    forward, _ = recurrent(q, k, v, log_gate_fwd, scale=scale)
    backward, _ = recurrent(q, k, v, log_gate_bwd, scale=scale, reverse=True)
    return forward + backward


def _widened(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
) -> tuple[Tensor, ...]:
    """The inputs in the accumulation dtype, a zero state where none came."""
    dtype = accumulation_dtype(v.dtype)
    if initial_state is None:
        initial_state = empty_state(q, v).zero_()
    inputs = (q, k, v, log_gate, initial_state)
    return tuple(x.to(dtype) for x in inputs)
