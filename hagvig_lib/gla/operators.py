"""Backends as operators of torch.library, which compile and export see whole.

An operator is opaque: what a backend decides by the values or the device of
its inputs happens when it runs, not when a graph is traced.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import prod
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import chunkwise
from .arguments import choose_backend
from .reference import empty_state

# Chunkwise looks at the gates' values, which a CUDA graph cannot record.
_define = partial(
    torch.library.custom_op,
    mutates_args=(),
    tags=(torch.Tag.cudagraph_unsafe,),
)


@_define("hagvig::bidirectional_gla")
def bidirectional_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
    backend: str,
) -> Tensor:
    """Sum of both directions, [B, T, H, V]; arguments are not checked."""
    with _computing(backend, q) as module:
        return module.bidirectional(q, k, v, log_gate_fwd, log_gate_bwd, scale)


@_define("hagvig::bidirectional_gla_backward")
def bidirectional_gla_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five tensors after `grad`."""
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    with _computing(backend, q) as module:
        return module.bidirectional_backward(grad, *inputs, scale)


@_define("hagvig::gla")
def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Output [B, T, H, V] and final state; arguments are not checked."""
    inputs = (q, k, v, log_gate, initial_state)
    with _computing(backend, q) as module:
        return module.one_direction(*inputs, scale, reverse)


@_define("hagvig::gla_backward")
def gla_backward(
    grad: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, log_gate and of the state at the start."""
    inputs = (q, k, v, log_gate, initial_state, scale, reverse)
    with _computing(backend, q) as module:
        return module.one_direction_backward(grad, grad_state, *inputs)


@contextmanager
def _computing(backend: str, q: Tensor) -> Iterator[ModuleType]:
    """The backend's module; here, as a gradient may run under autocast."""
    with without_autocast(q):
        if choose_backend(backend, q) == "chunkwise":
            yield chunkwise
        else:
            from .triton import launch  # not at import: it takes its time

            yield launch


def without_autocast(q: Tensor) -> AbstractContextManager:
    """Autocast would form the products in half precision."""
    device = q.device.type
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


# What the outputs look like, for tracing ----------------------------------


def _like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in tensors)


@bidirectional_gla.register_fake
def _(q, k, v, log_gate_fwd, log_gate_bwd, scale, backend):
    return v.new_empty(v.shape)


@bidirectional_gla_backward.register_fake
def _(grad, q, k, v, log_gate_fwd, log_gate_bwd, scale, backend):
    return _like(q, k, v, log_gate_fwd, log_gate_bwd)


@gla.register_fake
def _(q, k, v, log_gate, initial_state, scale, reverse, backend):
    return v.new_empty(v.shape), empty_state(q, v)


@gla_backward.register_fake
def _(grad, grad_state, q, k, v, log_gate, state, scale, reverse, backend):
    return *_like(q, k, v, log_gate), empty_state(q, v)


# Gradients ----------------------------------------------------------------


def _remember(ctx, inputs, output):
    """Keep the tensors and, apart, the options behind them."""
    options = [x for x in inputs if isinstance(x, float | bool | str)]
    tensors = inputs[: len(inputs) - len(options)]
    ctx.save_for_backward(*tensors)
    ctx.options = options


def _bidirectional_gradients(ctx, grad):
    inputs = ctx.saved_tensors
    gradients = bidirectional_gla_backward(grad, *inputs, *ctx.options)
    return *gradients, None, None


def _gradients(ctx, *grads):
    *inputs, state = ctx.saved_tensors
    gradients = gla_backward(*grads, *inputs, state, *ctx.options)
    dstate = None if state is None else gradients[-1].to(state.dtype)
    return *gradients[:-1], dstate, None, None, None


def _twice(ctx, *gradients):
    raise NotImplementedError(
        "gated linear attention can be differentiated once: for a gradient of "
        "its gradient pass backend='reference'"
    )


for _operator, _backward in (
    (bidirectional_gla, _bidirectional_gradients),
    (gla, _gradients),
    (bidirectional_gla_backward, _twice),
    (gla_backward, _twice),
):
    _operator.register_autograd(_backward, setup_context=_remember)


# Floating-point operations -------------------------------------------------


@register_flop_formula(torch.ops.hagvig.gla)
def _flops(q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs) -> int:
    """Per token and head two products with the state, whoever forms them."""
    return 4 * prod(q_shape) * v_shape[-1]


@register_flop_formula(torch.ops.hagvig.bidirectional_gla)
def _(*shapes, **kwargs) -> int:
    return 2 * _flops(*shapes)


@register_flop_formula(torch.ops.hagvig.gla_backward)
def _(grad, grad_state, *shapes, **kwargs) -> int:
    return 2 * _flops(*shapes)


@register_flop_formula(torch.ops.hagvig.bidirectional_gla_backward)
def _(grad, *shapes, **kwargs) -> int:
    return 4 * _flops(*shapes)
