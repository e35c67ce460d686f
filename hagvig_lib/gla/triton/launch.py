"""Tensors in, tensors out: what the kernels are given and how many run."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton import next_power_of_2
from triton.runtime import JITFunction, KernelInterface

from .backward import gradients_kernel, states_kernel
from .configurations import Configuration, configuration
from .forward import forward_kernel

# Gates of a chunk that add up to less are multiplied level by level. Decays
# up to exp(limit) are formed otherwise, with a relative error of limit * eps:
# float32 is to be right to 1e-6, the rest only to stay in range.
LIMIT = {"ieee": 16.0, "tf32": 80.0, "bf16": 80.0}


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

    Raises:
        ValueError: a dtype or a device the kernels have no answer for.
    """
    gates = (log_gate_fwd, log_gate_bwd)
    return _forward(q, k, v, gates, None, scale, reverse=False)[0]


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
    return _forward(q, k, v, (log_gate,), initial_state, scale, reverse)


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
    gates = (log_gate_fwd, log_gate_bwd)
    return _backward(grad, None, q, k, v, gates, None, scale, reverse=False)


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
        The gradients, each in its input's dtype; the initial state's in
        float32 where None was passed.
    """
    return _backward(
        grad, grad_state, q, k, v, (log_gate,), initial_state, scale, reverse
    )


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: tuple[Tensor, ...],
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Tensor, Tensor | None]:
    both = len(gates) == 2
    plan = _Plan.of("forward", q, v)
    output = torch.empty_like(v, memory_format=torch.contiguous_format)
    final = None if both else _new_state(q, v)
    forward_kernel[plan.grid](
        *_views(q, k, v, gates[0], gates[-1]),
        output,
        *_views(initial_state),
        final,
        plan.new_copies(1 if both else 0),
        scale,
        **plan.options,
    )
    return output, final


def _backward(
    grad: Tensor,
    grad_state: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: tuple[Tensor, ...],
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Tensor, ...]:
    both = len(gates) == 2
    plan = _Plan.of("backward", q, v)
    parts = [plan.new_parts(x) for x in (q, k, *gates)]
    dv = torch.empty_like(v, memory_format=torch.contiguous_format)
    dinitial = None if both else _new_state(q, v)
    inputs = (grad, q, k, v, gates[0], gates[-1], initial_state, grad_state)
    outputs = (parts[0], parts[1], dv, parts[2], parts[-1], dinitial)
    copies = plan.new_copies(q, 2 if both else 1)
    plan.run(
        backward_kernel, inputs + outputs, copies, q, v, scale, both, reverse
    )
    dq, dk, *dgates = (
        plan.whole(part, x)
        for part, x in zip(parts, (q, k, *gates), strict=True)
    )
    if both:
        return dq, dk, dv, *dgates
    if initial_state is not None:
        dinitial = dinitial.to(initial_state.dtype)
    return dq, dk, dv, *dgates, dinitial


class _Plan(NamedTuple):
    """How a kernel covers q and v."""

    configuration: Configuration
    block_k: int
    chunks: int
    slices: int

    @classmethod
    def of(cls, kernel: str, q: Tensor, v: Tensor) -> "_Plan":
        _check(q)
        widths = (max(16, next_power_of_2(x.shape[-1])) for x in (q, v))
        block_k, block_v = widths
        chosen = configuration(kernel, block_k, block_v, q.element_size())
        slices = triton.cdiv(v.shape[-1], chosen.block_v)
        return cls(
            chosen, block_k, triton.cdiv(q.shape[1], chosen.chunk), slices
        )

    def new_copies(self, q: Tensor, count: int) -> Tensor:
        """Scratch for `count` states of every chunk."""
        block_v = self.configuration.block_v
        shape = (q.shape[0] * q.shape[2], self.slices, count, self.chunks)
        return q.new_empty(
            (*shape, self.block_k, block_v), dtype=torch.float32
        )

    def new_parts(self, x: Tensor) -> Tensor:
        """Where each slice writes its part of a gradient of x."""
        dtype = x.dtype if self.slices == 1 else torch.float32
        return x.new_empty(
            (self.slices * x.shape[0], *x.shape[1:]), dtype=dtype
        )

    def whole(self, parts: Tensor, x: Tensor) -> Tensor:
        """The gradient of x, its parts added in a fixed order."""
        if self.slices == 1:
            return parts
        return parts.view(self.slices, *x.shape).sum(0).to(x.dtype)

    def run(
        self,
        kernel: KernelInterface,
        tensors: tuple[Tensor | None, ...],
        copies: Tensor,
        q: Tensor,
        v: Tensor,
        scale: float,
        both: bool,
        reverse: bool,
    ) -> None:
        batch, tokens, heads, keys = q.shape
        precision = _precision(q.dtype)
        with torch.cuda.device_of(q):
            kernel[(batch * heads, self.slices)](
                *(x if x is None else (x, *x.stride()) for x in tensors),
                copies,
                scale,
                batch,
                tokens,
                heads,
                K=keys,
                V=v.shape[-1],
                BOTH=both,
                REVERSE=reverse,
                C=self.configuration.chunk,
                BLOCK_K=self.block_k,
                BLOCK_V=self.configuration.block_v,
                LIMIT=LIMIT[precision],
                PRECISION=precision,
                num_warps=self.configuration.warps,
                num_stages=self.configuration.stages,
            )


def _new_state(q: Tensor, v: Tensor) -> Tensor:
    batch, _, heads, keys = q.shape
    return q.new_empty(
        (batch, heads, keys, v.shape[-1]), dtype=torch.float32
    )


def _precision(dtype: torch.dtype) -> str:
    """What tiles are multiplied in; sums are float32 always."""
    if dtype == torch.bfloat16:
        return "bf16"
    if dtype == torch.float16:
        return "tf32"  # its range: decayed keys exceed 65504
    highest = torch.get_float32_matmul_precision() == "highest"
    return "ieee" if highest else "tf32"


def _check(q: Tensor) -> None:
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"q has dtype {q.dtype}: the backend 'triton' computes in "
            "float32, bfloat16 and float16; choose 'chunkwise' or 'reference'"
        )
    if q.shape[-1] > 128:
        raise ValueError(
            f"q has shape {list(q.shape)}: the backend 'triton' takes at most "
            "128 channels (K); choose 'chunkwise' or 'reference'"
        )
    if q.device.type != "cuda" and isinstance(forward_kernel, JITFunction):
        raise ValueError(
            f"q is on {q.device}: the backend 'triton' needs a CUDA device, "
            "or the interpreter (TRITON_INTERPRET=1 in the environment before "
            "triton is imported); choose 'chunkwise'"
        )
