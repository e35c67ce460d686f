"""The backward kernels: they keep the inputs alone and compute the rest again.

Gradients of a state flow against it. So two of four [K, V] tables run from
left to right, the forward state and the gradient of the backward state, and
the other two from right to left. `states_kernel` does both sweeps for a head
and leaves a copy of each table at every chunk; then nothing ties the chunks
together, and `gradients_kernel` takes each on a program of its own.
"""

import triton
import triton.language as tl

from .scores import (
    chunk_scores,
    exact_gradients,
    fast_gradients,
    is_mild,
    load_channels,
)
from .tiles import (
    advance,
    dot,
    load,
    load_state,
    store,
    store_state,
    sum_after,
    sum_before,
    sum_from,
    sum_through,
    tokens_of,
)


@triton.jit
def states_kernel(
    grad,
    q,
    k,
    v,
    log_gate_fwd,
    log_gate_bwd,
    initial_state,
    grad_final,
    grad_initial,
    copies,
    scale,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    BOTH: tl.constexpr,
    REVERSE: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Program (b * H + h, s, t), arguments as in `forward_kernel`.

    It has rows t * BLOCK_K on of the tables. `copies` is
    [B * H, slices, tables, chunks, WIDTH, BLOCK_V]: the forward
    state before each chunk and its gradient after it; if BOTH, the backward
    state right of each chunk and its gradient left of it.
    """
    head = tl.program_id(0).to(tl.int64)
    chunks = tl.cdiv(T, C)
    one = tl.full([], WIDTH * BLOCK_V, tl.int64)
    program = head * tl.num_programs(1) + tl.program_id(1)
    copies += program * (4 if BOTH else 2) * chunks * one
    batch, head = head // H, head % H
    row = tl.program_id(2) * BLOCK_K + tl.arange(0, BLOCK_K)
    column = tl.arange(0, BLOCK_V)
    copies += row[:, None] * BLOCK_V + column[None, :]
    column += tl.program_id(1) * BLOCK_V

    state = load_state(initial_state, batch, head, row, column, K, V)
    dstate = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    for n in range(0, chunks):
        token = tokens_of(n, C, T, REVERSE)
        tl.store(copies + n * one, state)
        x = load(k, batch, head, token, row, T, K)
        y = load(v, batch, head, token, column, T, V)
        gate = load(log_gate_fwd, batch, head, token, row, T, K)
        state = advance(state, x, y, sum_after(gate), gate, PRECISION)
        if BOTH:
            tl.store(copies + (3 * chunks + n) * one, dstate)
            x = load(q, batch, head, token, row, T, K)
            y = load(grad, batch, head, token, column, T, V) * scale
            gate = load(log_gate_bwd, batch, head, token, row, T, K)
            dstate = advance(dstate, x, y, sum_from(gate), gate, PRECISION)

    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    dstate = load_state(grad_final, batch, head, row, column, K, V)
    for n in range(chunks - 1, -1, -1):
        token = tokens_of(n, C, T, REVERSE)
        tl.store(copies + (chunks + n) * one, dstate)
        x = load(q, batch, head, token, row, T, K)
        y = load(grad, batch, head, token, column, T, V) * scale
        gate = load(log_gate_fwd, batch, head, token, row, T, K)
        dstate = advance(dstate, x, y, sum_through(gate), gate, PRECISION)
        if BOTH:
            tl.store(copies + (2 * chunks + n) * one, state)
            x = load(k, batch, head, token, row, T, K)
            y = load(v, batch, head, token, column, T, V)
            gate = load(log_gate_bwd, batch, head, token, row, T, K)
            state = advance(state, x, y, sum_before(gate), gate, PRECISION)
    store_state(grad_initial, dstate, batch, head, row, column, H, K, V)


@triton.jit
def gradients_kernel(
    grad,
    q,
    k,
    v,
    log_gate_fwd,
    log_gate_bwd,
    dq,
    dk,
    dv,
    dlog_gate_fwd,
    dlog_gate_bwd,
    copies,
    scale,
    B,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    BOTH: tl.constexpr,
    REVERSE: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Program (b * H + h, s, n): chunk n and its copies from `states_kernel`.

    A slice s has its part of the gradients of q, k and the gates; they are
    contiguous, [slices * B, T, H, K], and the caller adds the parts.
    """
    head = tl.program_id(0).to(tl.int64)
    n, chunks = tl.program_id(2), tl.num_programs(2)
    one = tl.full([], WIDTH * BLOCK_V, tl.int64)
    program = head * tl.num_programs(1) + tl.program_id(1)
    copies += (program * (4 if BOTH else 2) * chunks + n) * one
    batch, head = head // H, head % H
    part = tl.program_id(1) * B + batch
    column = tl.arange(0, BLOCK_V)
    copies += tl.arange(0, BLOCK_K)[:, None] * BLOCK_V + column[None, :]
    column += tl.program_id(1) * BLOCK_V
    token = tokens_of(n, C, T, REVERSE)
    inputs = (q, k, log_gate_fwd, log_gate_bwd)

    score = chunk_scores(
        inputs, batch, head, token, T, K, BLOCK_K, BOTH, LIMIT, PRECISION
    )
    v_n = load(v, batch, head, token, column, T, V)
    do_n = load(grad, batch, head, token, column, T, V) * scale
    dv_n = dot(tl.trans(score), do_n, PRECISION)
    dscore = dot(do_n, tl.trans(v_n), PRECISION)
    for first in range(0, K, BLOCK_K):
        q_n, k_n, fwd, bwd = load_channels(
            inputs, batch, head, token, first, T, K, BLOCK_K, BOTH
        )
        if is_mild(fwd, bwd, BOTH, LIMIT):
            dq_n, dk_n, dfwd, dbwd = fast_gradients(
                dscore, q_n, k_n, fwd, bwd, BOTH, PRECISION
            )
        else:
            dq_n, dk_n, dfwd, dbwd = exact_gradients(
                dscore, q_n, k_n, fwd, bwd, BOTH, PRECISION
            )

        # Read again what registers cannot hold meanwhile; it is in a cache.
        tl.debug_barrier()
        v_n = load(v, batch, head, token, column, T, V)
        do_n = load(grad, batch, head, token, column, T, V) * scale
        table = copies + first * BLOCK_V
        read, write = sum_through(fwd), sum_after(fwd)
        to_q, to_k, to_v, passed = _through_state(
            k_n, v_n, do_n, read, write, fwd, table, chunks * one, PRECISION
        )
        dfwd += sum_from(q_n * to_q) + sum_before(k_n * to_k) + passed
        dq_n, dk_n, dv_n = dq_n + to_q, dk_n + to_k, dv_n + to_v
        channel = first + tl.arange(0, BLOCK_K)
        store(dlog_gate_fwd, dfwd, part, head, token, channel, T, H, K)
        if BOTH:
            table += 2 * chunks * one
            read, write = sum_from(bwd), sum_before(bwd)
            to_q, to_k, to_v, passed = _through_state(
                k_n,
                v_n,
                do_n,
                read,
                write,
                bwd,
                table,
                chunks * one,
                PRECISION,
            )
            dbwd += sum_through(q_n * to_q) + sum_after(k_n * to_k) + passed
            dq_n, dk_n, dv_n = dq_n + to_q, dk_n + to_k, dv_n + to_v
            store(dlog_gate_bwd, dbwd, part, head, token, channel, T, H, K)
        store(dq, dq_n, part, head, token, channel, T, H, K)
        store(dk, dk_n, part, head, token, channel, T, H, K)
    store(dv, dv_n, batch, head, token, column, T, H, V)


@triton.jit
def _through_state(
    k, v, do, read, write, gate, copies, next, PRECISION: tl.constexpr
):
    """Gradients of q, k, v and a gate by way of the state around a chunk.

    `read` and `write` [C, K] are the log gates from the state to each query
    and from each key to the state. The state lies at `copies`, its gradient
    `next` behind it. A gate dims the whole state, so its part is a row.
    """
    state, dstate = tl.load(copies), tl.load(copies + next)
    write = tl.exp(write)
    dq = dot(do, tl.trans(state), PRECISION) * tl.exp(read)
    dk = dot(v, tl.trans(dstate), PRECISION) * write
    dv = dot(k * write, dstate, PRECISION)
    passed = tl.exp(tl.sum(gate, 0)) * tl.sum(state * dstate, 1)
    return dq, dk, dv, passed[None, :]
