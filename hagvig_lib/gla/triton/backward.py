"""The backward kernels: they keep the inputs alone and compute the rest again.

Gradients of a state flow against it. So two of four [K, V] tables run from
left to right, the forward state and the gradient of the backward state, and
the other two from right to left. `states_kernel` does both sweeps for a head
and leaves a copy of each table at every chunk; then nothing ties the chunks
together, and `gradients_kernel` takes each on a program of its own.

The copies are most of what is moved: written and read once, 8 K V / C numbers
for a token of a head, where inputs and gradients are 8 K + 3 V. Fewer copies
would need the states between them again, so again a loop over chunks.
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
    [B * H, slices, tables, chunks, WIDTH, BLOCK_V]: the forward state before
    each chunk and its gradient after it; if BOTH, the backward state right of
    each chunk and its gradient left of it.
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
        place = batch, head, tokens_of(n, C, T, REVERSE), T, H
        tl.store(copies + n * one, state)
        x = load(k, place, row, K)
        y = load(v, place, column, V)
        gate = load(log_gate_fwd, place, row, K)
        state = advance(state, x, y, sum_after(gate), gate, PRECISION)
        if BOTH:
            tl.store(copies + (3 * chunks + n) * one, dstate)
            x = load(q, place, row, K)
            y = load(grad, place, column, V) * scale
            gate = load(log_gate_bwd, place, row, K)
            dstate = advance(dstate, x, y, sum_from(gate), gate, PRECISION)

    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    dstate = load_state(grad_final, batch, head, row, column, K, V)
    for n in range(chunks - 1, -1, -1):
        place = batch, head, tokens_of(n, C, T, REVERSE), T, H
        tl.store(copies + (chunks + n) * one, dstate)
        x = load(q, place, row, K)
        y = load(grad, place, column, V) * scale
        gate = load(log_gate_fwd, place, row, K)
        dstate = advance(dstate, x, y, sum_through(gate), gate, PRECISION)
        if BOTH:
            tl.store(copies + (2 * chunks + n) * one, state)
            x = load(k, place, row, K)
            y = load(v, place, column, V)
            gate = load(log_gate_bwd, place, row, K)
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
    """Program ((b * H + h) * chunks + n, s): chunk n, from the copies there.

    Heads and chunks share the one axis of a grid that may exceed 65,535. A
    slice s has its part of the gradients of q, k and the gates; they are
    contiguous, [slices * B, T, H, K], and the caller adds the parts.
    """
    chunks = tl.cdiv(T, C)
    n = tl.program_id(0) % chunks
    head = (tl.program_id(0) // chunks).to(tl.int64)
    one = tl.full([], WIDTH * BLOCK_V, tl.int64)
    program = head * tl.num_programs(1) + tl.program_id(1)
    copies += (program * (4 if BOTH else 2) * chunks + n) * one
    batch, head = head // H, head % H
    behind = chunks * one
    column = tl.arange(0, BLOCK_V)
    copies += tl.arange(0, BLOCK_K)[:, None] * BLOCK_V + column[None, :]
    column += tl.program_id(1) * BLOCK_V
    token = tokens_of(n, C, T, REVERSE)
    place = batch, head, token, T, H
    part = tl.program_id(1) * B + batch, head, token, T, H
    inputs = (q, k, log_gate_fwd, log_gate_bwd)

    score = chunk_scores(inputs, place, C, K, BLOCK_K, BOTH, LIMIT, PRECISION)
    v_n = load(v, place, column, V)
    do_n = load(grad, place, column, V) * scale
    dv_n = dot(tl.trans(score), do_n, PRECISION)
    dscore = dot(do_n, tl.trans(v_n), PRECISION)
    for first in range(0, K, BLOCK_K):
        q_n, k_n, fwd, bwd = load_channels(
            inputs, place, first, K, BLOCK_K, BOTH
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
        v_n = load(v, place, column, V)
        do_n = load(grad, place, column, V) * scale
        table = copies + first * BLOCK_V
        read, write = sum_through(fwd), sum_after(fwd)
        to_q, to_k, to_v, passed = _through_state(
            k_n, v_n, do_n, read, write, fwd, table, behind, PRECISION
        )
        dfwd += sum_from(q_n * to_q) + sum_before(k_n * to_k) + passed
        dq_n, dk_n, dv_n = dq_n + to_q, dk_n + to_k, dv_n + to_v
        channel = first + tl.arange(0, BLOCK_K)
        store(dlog_gate_fwd, dfwd, part, channel, K)
        if BOTH:
            table += 2 * behind
            read, write = sum_from(bwd), sum_before(bwd)
            to_q, to_k, to_v, passed = _through_state(
                k_n, v_n, do_n, read, write, bwd, table, behind, PRECISION
            )
            dbwd += sum_through(q_n * to_q) + sum_after(k_n * to_k) + passed
            dq_n, dk_n, dv_n = dq_n + to_q, dk_n + to_k, dv_n + to_v
            store(dlog_gate_bwd, dbwd, part, channel, K)
        store(dq, dq_n, part, channel, K)
        store(dk, dk_n, part, channel, K)
    store(dv, dv_n, place, column, V)


@triton.jit
def _through_state(
    k, v, do, read, write, gate, copies, behind, PRECISION: tl.constexpr
):
    """Gradients of q, k, v and a gate by way of the state around a chunk.

    `read` and `write` [C, K] are the log gates from the state to each query
    and from each key to the state. The state lies at `copies`, its gradient
    so much `behind`. A gate dims the whole state, so its part is a row.
    """
    state = tl.load(copies).to(tl.float32)
    dstate = tl.load(copies + behind).to(tl.float32)
    write = tl.exp(write)
    dq = dot(do, tl.trans(state), PRECISION) * tl.exp(read)
    dk = dot(v, tl.trans(dstate), PRECISION) * write
    dv = dot(k * write, dstate, PRECISION)
    passed = tl.exp(tl.sum(gate, 0)) * tl.sum(state * dstate, 1)
    return dq, dk, dv, passed[None, :]
