"""Tensors in, tensors out: what the kernels are given and how many run."""

from typing import Any

import torch
import triton
from torch import Tensor

from ..reference import empty_state
from .backward import gradients_kernel, states_kernel
from .configurations import BLOCK_K, configuration, padded
from .forward import forward_kernel

# Gates of a chunk that add up to less are multiplied level by level. Factors
# up to exp(limit) are formed otherwise, with a relative error of limit * eps:
# float32 is to be right to 1e-6, the rest only to stay in range, which at
# exp(40) = 2e17 leaves 1e21 for q, k, v and gradients that a scaler enlarged.
LIMIT = {"ieee": 8.0, "tf32": 40.0, "bf16": 40.0}


def bidirectional(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
) -> Tensor:
    """Sum of both scans.

    Args:
        q, k, log_gate_fwd, log_gate_bwd: [B, T, H, K], any strides.
        v: [B, T, H, V], any strides.
        scale: factor on the output.

    Returns:
        [B, T, H, V], dtype of v.
    """
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    return _forward(inputs, None, None, scale, reverse=False)


def one_direction(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """One scan; arguments as in `bidirectional`, states [B, H, K, V].

    Returns:
        Output [B, T, H, V], dtype of v; final state, float32.
    """
    final_state = empty_state(q, v)
    inputs, states = (q, k, v, log_gate), (initial_state, final_state)
    return _forward(inputs, *states, scale, reverse), final_state


def bidirectional_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and both gates, each in its input's dtype.

    Args:
        grad: of the output, [B, T, H, V], any strides.
    """
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    return _backward(grad, None, inputs, None, scale, reverse=False)[:-1]


def one_direction_backward(
    grad: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, the gate and the initial state.

    Args:
        grad: of the output, [B, T, H, V].
        grad_state: of the final state, [B, H, K, V].

    Returns:
        The gradients, each in its input's dtype; the state's in float32.
    """
    inputs = (q, k, v, log_gate)
    return _backward(grad, grad_state, inputs, initial_state, scale, reverse)


def _forward(
    inputs: tuple[Tensor, ...],
    initial_state: Tensor | None,
    final_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> Tensor:
    q, _, v, *gates = inputs
    plan = Plan("forward", q, v, len(gates) == 2, reverse)
    output = torch.empty_like(v, memory_format=torch.contiguous_format)
    arguments = _views(*inputs[:4], gates[-1])
    arguments += [output, *_views(initial_state), final_state]
    arguments += [plan.new_tables(len(gates) - 1), scale]
    with torch.cuda.device_of(q):
        forward_kernel[plan.grid](*arguments, **plan.score_options)
    return output


def _backward(
    grad: Tensor,
    grad_state: Tensor | None,
    inputs: tuple[Tensor, ...],
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Any, ...]:
    q, k, v, *gates = inputs
    plan = Plan("backward", q, v, len(gates) == 2, reverse)
    views = _views(grad, *inputs[:4], gates[-1])
    copies = plan.new_tables(2 * len(gates))
    dinitial = None if grad_state is None else empty_state(q, v)
    dq, dk, *dgates = parts = [plan.new_parts(x) for x in (q, k, *gates)]
    dv = torch.empty_like(v, memory_format=torch.contiguous_format)
    states = [*_views(initial_state, grad_state), dinitial, copies, scale]
    results = [dq, dk, dv, dgates[0], dgates[-1], copies, scale, len(q)]
    grid = plan.grid[0] * plan.chunks, plan.slices
    with torch.cuda.device_of(q):
        states_kernel[(*plan.grid, plan.blocks)](
            *views, *states, **plan.options
        )
        gradients_kernel[grid](*views, *results, **plan.score_options)
    pairs = zip(parts, (q, k, *gates), strict=True)
    dq, dk, *dgates = (plan.whole(part, x) for part, x in pairs)
    return dq, dk, dv, *dgates, dinitial


class Plan:
    """How programs cover the heads and columns of q and v."""

    def __init__(
        self, sweep: str, q: Tensor, v: Tensor, both: bool, reverse: bool
    ) -> None:
        batch, tokens, heads, keys = q.shape
        values = v.shape[-1]
        chosen = configuration(sweep, keys, values, q.element_size())
        self.q = q
        self.slices = triton.cdiv(values, chosen.block_v)
        self.chunks = triton.cdiv(tokens, chosen.chunk)
        width = padded(keys)
        self.blocks = triton.cdiv(width, BLOCK_K)
        self.grid = (batch * heads, self.slices)
        precision = _precision(q.dtype)
        self.options = {
            "T": tokens,
            "H": heads,
            "K": keys,
            "V": values,
            "BOTH": both,
            "REVERSE": reverse,
            "C": chosen.chunk,
            "WIDTH": width,
            "BLOCK_K": min(width, BLOCK_K),
            "BLOCK_V": chosen.block_v,
            "PRECISION": precision,
            "num_warps": chosen.warps,
        }
        self.score_options = self.options | {"LIMIT": LIMIT[precision]}

    def new_tables(self, count: int) -> Tensor:
        """Scratch for `count` [K, V] tables at every chunk.

        bfloat16 for bfloat16 inputs: products round the tables to it anyway.
        """
        table = self.options["WIDTH"], self.options["BLOCK_V"]
        shape = (*self.grid, count, self.chunks, *table)
        narrow = self.q.dtype == torch.bfloat16
        dtype = torch.bfloat16 if narrow else torch.float32
        return self.q.new_empty(shape, dtype=dtype)

    def new_parts(self, x: Tensor) -> Tensor:
        """Where each slice writes its part of a gradient of x."""
        dtype = x.dtype if self.slices == 1 else torch.float32
        shape = (self.slices * x.shape[0], *x.shape[1:])
        return x.new_empty(shape, dtype=dtype)

    def whole(self, parts: Tensor, x: Tensor) -> Tensor:
        """The gradient of x, its parts added in a fixed order."""
        if self.slices == 1:
            return parts
        return parts.view(self.slices, *x.shape).sum(0).to(x.dtype)


def _views(*tensors: Tensor | None) -> list[Any]:
    """What the kernels' `load` takes: pointer and strides."""
    return [None if x is None else (x, *x.stride()) for x in tensors]


def _precision(dtype: torch.dtype) -> str:
    """What tiles are multiplied in; sums are float32 always."""
    if dtype == torch.bfloat16:
        return "bf16"
    if dtype == torch.float16:
        return "tf32"  # its range: decayed keys exceed 65504
    # Also what torch.set_float32_matmul_precision sets; its getter raises
    # for a program that sets this one.
    allowed = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed else "ieee"
