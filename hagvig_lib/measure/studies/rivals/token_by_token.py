"""A kernel of the kind that ViG released: one token after the other.

A program keeps the states of both directions for one head and some columns
of v, and at each step takes a token from the left and one from the right: T
steps in a row, and no product of matrices. The directions are written apart
and added outside. As released, it has no backward pass.
"""

# It does not know what a kernel is launched with.
# pyright: reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 32  # of v in a program, which is one warp


def token_by_token(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gate_fwd: Tensor,
    log_gate_bwd: Tensor,
    *,
    scale: float,
) -> Tensor:
    """`bidirectional_gla` without gradients; sums are float32."""
    inputs = (q, k, v, log_gate_fwd, log_gate_bwd)
    inputs = [x.detach().contiguous() for x in inputs]
    batch, tokens, heads, keys = q.shape
    values = v.shape[-1]
    halves = v.new_empty((2, *v.shape), dtype=torch.float32)
    sizes = (tokens, heads, keys, values, triton.next_power_of_2(keys))
    grid = (batch * heads, triton.cdiv(values, COLUMNS))
    options = {"COLUMNS": COLUMNS, "num_warps": 1}
    with torch.cuda.device_of(q):
        both_directions[grid](*inputs, *halves, scale, *sizes, **options)
    return halves.sum(0).to(v.dtype)


@triton.jit
def both_directions(
    q,
    k,
    v,
    log_gate_fwd,
    log_gate_bwd,
    forward,
    backward,
    scale,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program (b * H + h, s): columns s * COLUMNS on of v, of one head."""
    head = tl.program_id(0).to(tl.int64)
    first = head // H * T * H + head % H  # H rows further, the next token
    row = tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    fwd = tl.zeros([ROWS, COLUMNS], tl.float32)
    bwd = tl.zeros([ROWS, COLUMNS], tl.float32)
    qkv = (q, k, v)
    for i in range(0, T):
        at = first + i * H
        fwd = step(
            fwd, qkv, log_gate_fwd, forward, at, scale, row, column, K, V
        )
        at = first + (T - 1 - i) * H
        bwd = step(
            bwd, qkv, log_gate_bwd, backward, at, scale, row, column, K, V
        )


@triton.jit
def step(
    state,
    qkv,
    log_gate,
    output,
    at,
    scale,
    row,
    column,
    K: tl.constexpr,
    V: tl.constexpr,
):
    """The state after row `at` of [B * T * H, ...], which is written."""
    q = load(qkv[0], at, row, K)
    k = load(qkv[1], at, row, K)
    v = load(qkv[2], at, column, V)
    gate = tl.exp(load(log_gate, at, row, K))
    state = state * gate[:, None] + k[:, None] * v[None, :]
    read = scale * tl.sum(q[:, None] * state, 0)
    tl.store(output + at * V + column, read, column < V)
    return state


@triton.jit
def load(x, at, channel, W: tl.constexpr):
    """Row `at` in float32, zero outside."""
    value = tl.load(x + at * W + channel, channel < W, other=0.0)
    return value.to(tl.float32)
