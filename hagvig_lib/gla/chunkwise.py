"""Chunkwise gated linear attention: matrix products instead of T steps.

Tokens are cut into chunks. Inside a chunk one matrix of scores says what
every token reads of every other: lower triangle forward, upper triangle
backward, the diagonal in both. From chunk to chunk only states are carried.
Backward keeps the inputs and computes scores and states once more.

Any device, float64 to bfloat16; sums are float32 at least. Heads are
computed a few at a time, so memory beyond inputs and outputs is that of a few
heads, and linear in T. The gates are looked at for each group, which makes a
GPU wait.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import torch
from torch import Tensor

from .group import Group
from .reference import empty_state

# Tokens (of all heads) computed at a time: what they need stays in the cache
# of a CPU, and keeps a GPU busy.
TOKENS_ON_CPU, TOKENS_ELSEWHERE = 2**13, 2**18


def bidirectional(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
) -> Tensor:
    """Sum of both directions; see `hagvig_lib.gla.bidirectional_gla`."""
    output = v.new_empty(v.shape)
    log_gates = {False: log_gate_fwd, True: log_gate_bwd}
    for group in _groups(q, k, v, log_gates, None):
        group.put(group.output(), output, scale)
    return output


def bidirectional_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    scale: float,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and both gates, each in its input's dtype."""
    gradients = [
        x.new_empty(x.shape) for x in (q, k, v, log_gate_fwd, log_gate_bwd)
    ]
    log_gates = {False: log_gate_fwd, True: log_gate_bwd}
    for group in _groups(q, k, v, log_gates, None):
        parts, _ = group.gradients(grad, None, scale)
        for part, gradient in zip(parts, gradients, strict=True):
            group.put(part, gradient)
    return tuple(gradients)


def one_direction(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate: Tensor,
    initial_state: Tensor | None,
    scale: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Output and final state; see `hagvig_lib.gla.gla`."""
    output, state = v.new_empty(v.shape), empty_state(q, v)
    for group in _groups(q, k, v, {reverse: log_gate}, initial_state):
        group.put(group.output(), output, scale)
        group.put_state(group.final[reverse], state)
    return output, state


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
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, log_gate and the initial state."""
    gradients = [x.new_empty(x.shape) for x in (q, k, v, log_gate)]
    dstate = empty_state(q, v)
    for group in _groups(q, k, v, {reverse: log_gate}, initial_state):
        parts, dstarts = group.gradients(grad, grad_state, scale)
        for part, gradient in zip(parts, gradients, strict=True):
            group.put(part, gradient)
        group.put_state(dstarts[reverse], dstate)
    return *gradients, dstate


def _groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gates: Mapping[bool, Tensor],
    initial_state: Tensor | None,
) -> Iterator[Group]:
    """All heads of all examples, a few at a time."""
    batch, tokens, heads, _ = q.shape
    if not batch * heads:
        return
    if q.device.type == "cpu":
        _keep_freed_memory()
        budget = TOKENS_ON_CPU
    else:
        budget = TOKENS_ELSEWHERE
    sequences = max(1, budget // tokens)
    few_heads, few_examples = min(heads, sequences), max(1, sequences // heads)
    for b in range(0, batch, few_examples):
        for h in range(0, heads, few_heads):
            where = slice(b, b + few_examples), slice(h, h + few_heads)
            yield Group(where, q, k, v, log_gates, initial_state)


@cache
def _keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of giving it back, from now on.

    It keeps up to twice the largest block it has seen freed, of 32 MB at
    most: here it sees one, untouched. Memory given back has to be mapped and
    cleared again, which can take longer than the scan.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
