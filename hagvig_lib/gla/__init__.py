"""Gated linear attention (arXiv 2312.06635), one direction or both.

===========  ==========  ==============  ==========================
paper        here        shape           what it is
===========  ==========  ==============  ==========================
Q, K         `q`, `k`    [B, T, H, K]    what reads, what addresses
V            `v`         [B, T, H, V]    what is written
log alpha_t  `log_gate`  [B, T, H, K]    <= 0, natural logarithm
S_t          `state`     [B, H, K, V]    what the scan remembers
o_t          (returned)  [B, T, H, V]    what token t reads
===========  ==========  ==============  ==========================

B batch, T tokens, H heads, K and V channels of a head. Tokens stand before
heads, as linear layers leave them: no transpose on the way in or out.
"""

from typing import Literal, overload

from torch import Tensor

from . import operators, reference
from .arguments import check_arguments

__all__ = ["bidirectional_gla", "gla"]


# For type checkers alone; spread out they would hide the function.
# fmt: off
@overload
def gla(
    q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor, *,
    scale: float | None = None, reverse: bool = False,
    initial_state: Tensor | None = None, return_state: Literal[False] = False,
    backend: str = "auto", check: bool | None = None,
) -> Tensor: ...
@overload
def gla(
    q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor, *,
    scale: float | None = None, reverse: bool = False,
    initial_state: Tensor | None = None, return_state: Literal[True],
    backend: str = "auto", check: bool | None = None,
) -> tuple[Tensor, Tensor]: ...
# fmt: on
def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    *,
    scale: float | None = None,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_state: bool = False,
    backend: str = "auto",
    check: bool | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Gated linear attention, one direction (arXiv 2312.06635, section 4).

    `S_t = diag(exp(log_gate_t)) S_{t-1} + k_t^T v_t`,
    `o_t = scale * q_t S_t`

    The gate acts on the old state, so token t always reads itself in full.
    States and sums are float32 at least.

    Args:
        q, k: [B, T, H, K].
        v: [B, T, H, V]. q, k and v share a dtype; log_gate and
            initial_state have it too, or float32 beside bf16 and fp16.
        log_gate: [B, T, H, K], at most 0; -inf resets a channel.
        scale: factor on the output, `K**-0.5` if None.
        reverse: run from the last token to the first.
        initial_state: [B, H, K, V], the state before the first token visited
            (the last one if reverse), zero if None.
        return_state: also return the state after the last token visited,
            to continue with the next piece of the sequence.
        backend: "chunkwise" on any device; "triton" on CUDA devices of
            compute capability 8.0 or above (float32, bfloat16, float16; at
            most 128 channels);
            "reference", the recurrence, which alone can be differentiated
            twice; "auto" for "triton" where it runs, else "chunkwise".
        check: whether to look for positive or NaN gates. None looks in eager
            mode on the CPU only: elsewhere it costs a synchronisation or a
            graph break.

    Returns:
        [B, T, H, V], dtype of v; with return_state also [B, H, K, V] in the
        dtype of the sums.

    Raises:
        ValueError: shapes, dtypes or devices disagree, a gate is positive,
            or the backend is unknown or cannot run there; names the argument
            and both values.
        NotImplementedError: a second or a forward-mode derivative is taken,
            but not of "reference".
        RuntimeError: torch.func.grad or vjp of another backend than
            "reference"; torch.vmap over gates that are checked.
    """
    others = {"log_gate": log_gate, "initial_state": initial_state}
    check_arguments(backend, check, q, k=k, v=v, **others)
    scale = _default_scale(scale, q)
    if backend == "reference":
        with operators.without_autocast(q):
            output, state = reference.recurrent(
                q,
                k,
                v,
                log_gate,
                scale=scale,
                reverse=reverse,
                initial_state=initial_state,
            )
    else:
        output, state = operators.gla(
            q, k, v, log_gate, initial_state, scale, reverse, backend
        )
    output = output.to(v.dtype)
    return (output, state) if return_state else output


def bidirectional_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    *,
    scale: float | None = None,
    backend: str = "auto",
    check: bool | None = None,
) -> Tensor:
    """Sum of two scans with the same q, k, v and a gate for each direction.

    `o_t = scale * q_t (S_fwd_t + S_bwd_t)`. Each scan contains token t
    itself, so t reads itself twice and every other token once. ViG (arXiv
    2405.18425) averages the directions: `scale=K**-0.5 / 2`.

    Args:
        q, k: [B, T, H, K].
        v: [B, T, H, V].
        log_gate_fwd: [B, T, H, K], at most 0, as in `gla`.
        log_gate_bwd: the same from the other side: token t's gate decays
            what the tokens after t have left.
        scale, backend, check: as in `gla`.

    Returns:
        [B, T, H, V], dtype of v.

    Raises:
        ValueError, NotImplementedError, RuntimeError: as `gla`.
    """
    gates = {"log_gate_fwd": log_gate_fwd, "log_gate_bwd": log_gate_bwd}
    check_arguments(backend, check, q, k=k, v=v, **gates)
    scale = _default_scale(scale, q)
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    if backend == "reference":
        with operators.without_autocast(q):
            output = reference.bidirectional(*inputs, scale=scale)
    else:
        output = operators.bidirectional_gla(*inputs, scale, backend)
    return output.to(v.dtype)


def _default_scale(scale: float | None, q: Tensor) -> float:
    return q.shape[-1] ** -0.5 if scale is None else scale
