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

from .tiles import dot, load, sum_from, sum_through

# exp(FLOOR) is 0 in float32, and unlike -inf it can be multiplied by 0.
FLOOR = tl.constexpr(-1000.0)


@triton.constexpr_function
def levels(C):
    """How many times a chunk can be halved."""
    return C.bit_length() - 1


@triton.jit
def chunk_scores(
    inputs,
    place,
    C: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BOTH: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[C, C] scores of the chunk in this place, BLOCK_K channels a time.

    `inputs` are q, k and both log gates as `load` takes them.
    """
    score = tl.zeros([C, C], tl.float32)
    for first in range(0, K, BLOCK_K):
        q, k, fwd, bwd = load_channels(inputs, place, first, K, BLOCK_K, BOTH)
        score += scores(q, k, fwd, bwd, BOTH, LIMIT, PRECISION)
    return score


@triton.jit
def load_channels(
    inputs,
    place,
    first,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BOTH: tl.constexpr,
):
    """Tiles [C, BLOCK_K] of `inputs`, from channel `first` on."""
    channel = first + tl.arange(0, BLOCK_K)
    q = load(inputs[0], place, channel, K)
    k = load(inputs[1], place, channel, K)
    fwd = load(inputs[2], place, channel, K)
    bwd = fwd
    if BOTH:
        bwd = load(inputs[3], place, channel, K)
    return q, k, fwd, bwd


@triton.jit
def scores(
    q,
    k,
    fwd,
    bwd,
    BOTH: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[C, C] scores from q, k and log gates [C, K]."""
    if is_mild(fwd, bwd, BOTH, LIMIT):
        score = fast_scores(q, k, fwd, bwd, BOTH, PRECISION)
    else:
        score = exact_scores(q, k, fwd, bwd, BOTH, PRECISION)
    return score


@triton.jit
def is_mild(fwd, bwd, BOTH: tl.constexpr, LIMIT: tl.constexpr):
    """Whether no channel's log gates add up to less than -LIMIT."""
    lowest = tl.min(tl.sum(fwd, 0), 0)
    if BOTH:
        lowest = tl.minimum(lowest, tl.min(tl.sum(bwd, 0), 0))
    return lowest > -LIMIT


@triton.jit
def fast_scores(q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr):
    """As `scores`, for mild gates."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    decay = sum_through(fwd)
    score = dot(q * tl.exp(decay), tl.trans(k * tl.exp(-decay)), PRECISION)
    score = tl.where(i >= j, score, 0.0)
    if BOTH:
        decay = sum_from(bwd)
        other = dot(q * tl.exp(decay), tl.trans(k * tl.exp(-decay)), PRECISION)
        score += tl.where(i <= j, other, 0.0)
    return score


@triton.jit
def fast_gradients(
    grad, q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """Gradients of q, k and both gates from that of the scores [C, C]."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    twice = tl.sum(tl.where(i == j, grad, 0.0), 1, keep_dims=True)
    if BOTH:
        twice *= 2
    decay = sum_through(fwd)
    below = tl.where(i > j, grad, 0.0)
    rise, fall = tl.exp(-decay), tl.exp(decay)
    dq = dot(below, k * rise, PRECISION) * fall
    dk = dot(tl.trans(below), q * fall, PRECISION) * rise
    # A pair's decay has the gates after j (from k) and up to i (from q).
    dfwd = sum_from(q * dq - k * dk)
    dbwd = dfwd
    if BOTH:
        decay = sum_from(bwd)
        above = tl.where(i < j, grad, 0.0)
        rise, fall = tl.exp(-decay), tl.exp(decay)
        more_q = dot(above, k * rise, PRECISION) * fall
        more_k = dot(tl.trans(above), q * fall, PRECISION) * rise
        dbwd = sum_through(q * more_q - k * more_k)
        dq += more_q
        dk += more_k
    return dq + twice * k, dk + twice * q, dfwd, dbwd


@triton.jit
def exact_scores(q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr):
    """As `scores`, for any gates in [-inf, 0]."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    itself = tl.sum(q * k, 1, keep_dims=True)
    if BOTH:
        itself *= 2
    score = tl.where(i == j, itself, 0.0)
    for level in range(levels(C)):
        to_q, to_k, _, _ = _decays(fwd, bwd, i, j, level, PRECISION)
        meet = dot(q * to_q, tl.trans(k * to_k), PRECISION)
        score = tl.where(_siblings(i, j, level, BOTH), meet, score)
    return score


@triton.jit
def exact_gradients(
    grad, q, k, fwd, bwd, BOTH: tl.constexpr, PRECISION: tl.constexpr
):
    """As `fast_gradients`, for any gates; 0 for a gate of -inf."""
    C: tl.constexpr = q.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    twice = tl.sum(tl.where(i == j, grad, 0.0), 1, keep_dims=True)
    if BOTH:
        twice *= 2
    dq, dk = twice * k, twice * q
    dfwd, dbwd = tl.zeros_like(fwd), tl.zeros_like(bwd)
    for level in range(levels(C)):
        to_q, to_k, near_q, near_k = _decays(fwd, bwd, i, j, level, PRECISION)
        pairs = tl.where(_siblings(i, j, level, BOTH), grad, 0.0)
        more_q = dot(pairs, k * to_k, PRECISION) * to_q
        more_k = dot(tl.trans(pairs), q * to_q, PRECISION) * to_k
        # A gate is in every decay whose sum has it: back through the sums.
        from_q = _sums(tl.trans(near_q), q * more_q, PRECISION)
        from_k = _sums(tl.trans(near_k), k * more_k, PRECISION)
        right = (i >> level) % 2 == 1
        dfwd += tl.where(right, from_q, from_k)
        dbwd += tl.where(right, from_k, from_q)
        dq, dk = dq + more_q, dk + more_k
    return dq, dk, dfwd, dbwd


@triton.jit
def _decays(fwd, bwd, i, j, level, PRECISION: tl.constexpr):
    """Factors [C, K] from the boundary to each query and to each key.

    Behind them the rows [C, C] whose gates each of them multiplies: from the
    boundary to the query, itself included, and to the key, without it.
    """
    right = (i >> level) % 2 == 1
    same = (i >> level) == (j >> level)
    near_q = same & tl.where(right, j <= i, j >= i)
    near_k = same & tl.where(right, j < i, j > i)
    near_q, near_k = near_q.to(tl.float32), near_k.to(tl.float32)
    fwd, bwd = tl.maximum(fwd, FLOOR), tl.maximum(bwd, FLOOR)
    to_q = _sums(near_q, tl.where(right, fwd, bwd), PRECISION)
    to_k = _sums(near_k, tl.where(right, bwd, fwd), PRECISION)
    return tl.exp(to_q), tl.exp(to_k), near_q, near_k


@triton.jit
def _sums(rows, x, PRECISION: tl.constexpr):
    """Sums [C, K] over the rows of x that `rows` [C, C] marks with ones.

    Rounded to tf32, an exponent would lose all but 11 bits; in two parts of
    11 bits each it keeps 22, and ones are exact.
    """
    if PRECISION == "ieee":
        return tl.dot(rows, x, input_precision="ieee")
    else:
        bits = x.to(tl.int32, bitcast=True) & -8192
        high = bits.to(tl.float32, bitcast=True)
        low = tl.dot(rows, x - high, input_precision="tf32")
        return tl.dot(rows, high, low, input_precision="tf32")


@triton.jit
def _siblings(i, j, level, BOTH: tl.constexpr):
    """Whether i and j lie in segments of 2**level that share a boundary."""
    meet = ((i >> level) ^ 1) == (j >> level)
    if not BOTH:
        meet = meet & (i > j)
    return meet
