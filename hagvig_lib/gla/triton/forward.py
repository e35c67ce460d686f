"""The forward kernel: one program reads a head from right to left and back.

The sweep from right to left carries the state of the backward direction and
leaves a copy at every chunk. The sweep from left to right carries the forward
state, picks the copies up, forms the one score matrix of each chunk and
writes the sum of both directions. One direction is the second sweep alone.
"""

import triton
import triton.language as tl

from .scores import chunk_scores, load_channels, scores
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
def forward_kernel(
    q,
    k,
    v,
    log_gate_fwd,
    log_gate_bwd,
    output,
    initial_state,
    final_state,
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
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Program (b * H + h, s): columns s * BLOCK_V on of v, of one head.

    q, k, v and the gates are tuples of a pointer and the strides of
    [B, T, H, width], the initial state that of [B, H, K, V]; a state may be
    None. `copies` is scratch, [B * H, slices, chunks, WIDTH, BLOCK_V]; WIDTH
    is K padded. REVERSE numbers the tokens from the last one.

    Scores of more than BLOCK_K channels overflow the registers: a wider head
    sums them block by block before it loads its tiles whole for the state. A
    head of BLOCK_K channels or less loads them once, for both.
    """
    head = tl.program_id(0).to(tl.int64)
    chunks = tl.cdiv(T, C)
    one = tl.full([], WIDTH * BLOCK_V, tl.int64)
    copies += (head * tl.num_programs(1) + tl.program_id(1)) * chunks * one
    batch, head = head // H, head % H
    row, column = tl.arange(0, WIDTH), tl.arange(0, BLOCK_V)
    copies += row[:, None] * BLOCK_V + column[None, :]
    column += tl.program_id(1) * BLOCK_V

    if BOTH:
        state = tl.zeros([WIDTH, BLOCK_V], tl.float32)
        for n in range(chunks - 1, -1, -1):
            tl.store(copies + n * one, state)
            place = batch, head, tokens_of(n, C, T, REVERSE), T, H
            k_n = load(k, place, row, K)
            v_n = load(v, place, column, V)
            bwd = load(log_gate_bwd, place, row, K)
            decay = sum_before(bwd)
            state = advance(state, k_n, v_n, decay, bwd, PRECISION)
        tl.debug_barrier()  # another thread may read what one has written

    inputs = (q, k, log_gate_fwd, log_gate_bwd)
    state = load_state(initial_state, batch, head, row, column, K, V)
    for n in range(0, chunks):
        place = batch, head, tokens_of(n, C, T, REVERSE), T, H
        if BLOCK_K < WIDTH:
            score = chunk_scores(
                inputs, place, C, K, BLOCK_K, BOTH, LIMIT, PRECISION
            )
        q_n, k_n, fwd, bwd = load_channels(inputs, place, 0, K, WIDTH, BOTH)
        if BLOCK_K == WIDTH:
            score = scores(q_n, k_n, fwd, bwd, BOTH, LIMIT, PRECISION)
        v_n = load(v, place, column, V)
        result = dot(score, v_n, PRECISION)
        result += dot(q_n * tl.exp(sum_through(fwd)), state, PRECISION)
        if BOTH:
            copy = tl.load(copies + n * one).to(tl.float32)
            result += dot(q_n * tl.exp(sum_from(bwd)), copy, PRECISION)
        store(output, result * scale, place, column, V)
        decay = sum_after(fwd)
        state = advance(state, k_n, v_n, decay, fwd, PRECISION)
    store_state(final_state, state, batch, head, row, column, H, K, V)
