"""Scores of the pairs inside a chunk, and their gradients, in two ways.

Token i reads token j < i through the forward gates of j+1 .. i, and token
j > i through the backward gates of i .. j-1. One [C, C] matrix holds both:
forward below the diagonal, backward above it; the diagonal has no decay and
is counted once per direction.

`fast` splits the decay between j and i at the edge of the chunk: two products
for all pairs. One of the two factors exceeds 1, so it is for chunks whose
gates, all together, stay above a limit. `exact` takes the pairs level by
level: segments of 1, 2, 4, ... tokens, of which a left and a right sibling
meet at a boundary between i and j. Decays from i to the boundary and from
there to j are both products of gates, at most 1, whatever the gates are, and
one product of tiles serves both directions.
"""

import triton
import triton.language as tl

from .tiles import dot, sum_after, sum_before, sum_from, sum_through


@triton.constexpr_function
def levels(C):
    """How many times a chunk can be halved."""
    return C.bit_length() - 1


@triton.jit
def is_mild(fwd, bwd, BOTH: tl.constexpr, LIMIT: tl.constexpr):
    """Whether no channel's log gates add up to less than -LIMIT."""
    lowest = tl.min(tl.sum(fwd, 0), 0)
    if BOTH:
        lowest = tl.minimum(lowest, tl.min(tl.sum(bwd, 0), 0))
    return lowest > -LIMIT


@triton.jit
def fast_scores(
    q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """[C, C] scores from q, k and log gates [C, K]."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    decay = sum_through(fwd, C)
    score = dot(
        q * tl.exp(decay), tl.trans(k * tl.exp(-decay)), PRECISION
    )
    score = tl.where(i >= j, score, 0.0)
    if BOTH:
        decay = sum_from(bwd, C)
        other = dot(
            q * tl.exp(decay), tl.trans(k * tl.exp(-decay)), PRECISION
        )
        score += tl.where(i <= j, other, 0.0)
    return score


@triton.jit
def fast_gradients(
    grad, q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """Gradients of q, k and both gates from that of the scores [C, C]."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    twice = tl.sum(tl.where(i == j, grad, 0.0), 1)[:, None]
    if BOTH:
        twice *= 2
    decay = sum_through(fwd, C)
    below = tl.where(i > j, grad, 0.0)
    rise, fall = tl.exp(-decay), tl.exp(decay)
    dq = dot(below, k * rise, PRECISION) * fall
    dk = dot(tl.trans(below), q * fall, PRECISION) * rise
    # A pair's decay has the gates after j (from k) and up to i (from q).
    dfwd = sum_from(q * dq - k * dk, C)
    dbwd = dfwd
    if BOTH:
        decay = sum_from(bwd, C)
        above = tl.where(i < j, grad, 0.0)
        rise, fall = tl.exp(-decay), tl.exp(decay)
        more_q = dot(above, k * rise, PRECISION) * fall
        more_k = dot(tl.trans(above), q * fall, PRECISION) * rise
        dbwd = sum_through(q * more_q - k * more_k, C)
        dq += more_q
        dk += more_k
    return dq + twice * k, dk + twice * q, dfwd, dbwd


@triton.jit
def exact_scores(
    q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """As `fast_scores`, for any gates in [-inf, 0]."""
    C: tl.constexpr = q.shape[0]
    LEVELS: tl.constexpr = levels(C)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    itself = tl.sum(q * k, 1)[:, None]
    if BOTH:
        itself *= 2
    score = tl.where(i == j, itself, 0.0)
    for level in tl.static_range(LEVELS):
        to_q, to_k = _decays(fwd, bwd, 1 << level, BOTH)
        meet = dot(q * to_q, tl.trans(k * to_k), PRECISION)
        score = tl.where(_siblings(i, j, 1 << level, BOTH), meet, score)
    return score


@triton.jit
def exact_gradients(
    grad, q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """As `fast_gradients`, for any gates; 0 for a gate of -inf."""
    C: tl.constexpr = q.shape[0]
    LEVELS: tl.constexpr = levels(C)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    twice = tl.sum(tl.where(i == j, grad, 0.0), 1)[:, None]
    if BOTH:
        twice *= 2
    dq, dk = twice * k, twice * q
    dfwd = tl.zeros_like(fwd)
    dbwd = tl.zeros_like(bwd)
    for level in tl.static_range(LEVELS):
        pairs = tl.where(_siblings(i, j, 1 << level, BOTH), grad, 0.0)
        more_q, more_k, more_fwd, more_bwd = _level_gradients(
            pairs, q, k, fwd, bwd, 1 << level, BOTH, PRECISION
        )
        dq, dk = dq + more_q, dk + more_k
        dfwd, dbwd = dfwd + more_fwd, dbwd + more_bwd
    return dq, dk, dfwd, dbwd


@triton.jit
def _level_gradients(
    pairs,
    q,
    k,
    fwd,
    bwd,
    M: tl.constexpr,
    BOTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What the pairs that meet at a boundary between siblings contribute."""
    C: tl.constexpr = q.shape[0]
    right = ((tl.arange(0, C) // M) % 2 == 1)[:, None]
    to_q, to_k = _decays(fwd, bwd, M, BOTH)
    dq = dot(pairs, k * to_k, PRECISION) * to_q
    dk = dot(tl.trans(pairs), q * to_q, PRECISION) * to_k
    from_q, from_k = q * dq, k * dk
    dfwd = tl.where(right, sum_from(from_q, M), sum_before(from_k, M))
    dbwd = dfwd
    if BOTH:
        dbwd = tl.where(right, sum_after(from_k, M), sum_through(from_q, M))
    return dq, dk, dfwd, dbwd


@triton.jit
def _decays(fwd, bwd, M: tl.constexpr, BOTH: tl.constexpr):
    """Factors [C, K] from the boundary to each query and to each key."""
    C: tl.constexpr = fwd.shape[0]
    right = ((tl.arange(0, C) // M) % 2 == 1)[:, None]
    to_q, to_k = sum_through(fwd, M), sum_after(fwd, M)
    if BOTH:
        to_q = tl.where(right, to_q, sum_from(bwd, M))
        to_k = tl.where(right, sum_before(bwd, M), to_k)
    return tl.exp(to_q), tl.exp(to_k)


@triton.jit
def _siblings(i, j, M: tl.constexpr, BOTH: tl.constexpr):
    """Whether i and j lie in segments of M tokens that share a boundary."""
    meet = ((i // M) ^ 1) == (j // M)
    if not BOTH:
        meet = meet & (i > j)
    return meet
