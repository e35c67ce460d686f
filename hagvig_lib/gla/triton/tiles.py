"""What the kernels are made of: tiles, products, and four running sums.

A tile is [C, W]: the C tokens of a chunk by W channels, padded with zeros to
powers of two. An input comes as a tuple, its pointer and its four strides, so
that any view is read where it lies; an output is contiguous. Where a tile of
them lies is another tuple, (batch, head, token, T, H). Offsets have 64 bits.

Every decay is exp of a sum of log gates over a row of neighbouring tokens.
`sum_through`, `sum_from`, `sum_before` and `sum_after` form these sums by
adding alone: no sum is the difference of two others, so none cancels and
none meets -inf - -inf. The gradient flows through the mirrored sum: from a
decay made by `sum_through` back through `sum_from`, and so on.
"""

import triton
import triton.language as tl


@triton.jit
def tokens_of(n, C: tl.constexpr, T, REVERSE: tl.constexpr):
    """The C tokens of chunk n, in 64 bits; outside 0 .. T-1 there is none."""
    token = n * C + tl.arange(0, C).to(tl.int64)
    if REVERSE:
        token = T - 1 - token
    return token


@triton.jit
def load(x, place, channel, W: tl.constexpr):
    """A float32 tile of [B, T, H, W], zero outside."""
    batch, head, token, T, _ = place
    inside = ((token >= 0) & (token < T))[:, None] & (channel < W)[None, :]
    first = x[0] + batch * x[1] + head * x[3]
    column = channel.to(tl.int64) * x[4]
    at = first + (token * x[2])[:, None] + column[None, :]
    return tl.load(at, inside, other=0.0).to(tl.float32)


@triton.jit
def store(x, tile, place, channel, W: tl.constexpr):
    """The way back, into contiguous x and its dtype; nothing outside."""
    batch, head, token, T, H = place
    inside = ((token >= 0) & (token < T))[:, None] & (channel < W)[None, :]
    at = ((batch * T + token) * H + head) * W
    value = tile.to(x.dtype.element_ty)
    tl.store(x + at[:, None] + channel[None, :], value, inside)


@triton.jit
def load_state(x, batch, head, row, column, K: tl.constexpr, V: tl.constexpr):
    """[K, V] of a [B, H, K, V] tensor as float32, zero outside or for None."""
    if x is None:
        return tl.zeros([row.shape[0], column.shape[0]], tl.float32)
    else:
        inside = (row < K)[:, None] & (column < V)[None, :]
        first = x[0] + batch * x[1] + head * x[2]
        row, column = row.to(tl.int64) * x[3], column.to(tl.int64) * x[4]
        at = first + row[:, None] + column[None, :]
        return tl.load(at, inside, other=0.0).to(tl.float32)


@triton.jit
def store_state(
    x, state, batch, head, row, column, H, K: tl.constexpr, V: tl.constexpr
):
    """The way back, into contiguous x; nowhere for None."""
    if x is not None:
        inside = (row < K)[:, None] & (column < V)[None, :]
        at = ((batch * H + head) * K + row) * V
        tl.store(x + at[:, None] + column[None, :], state, inside)


@triton.jit
def advance(state, x, y, decay, gate, PRECISION: tl.constexpr):
    """A [K, V] table past a chunk: it decays, and x^T y is added.

    `decay` [C, K] holds the log gates between each token and the far side of
    the chunk, `gate` those of its tokens.
    """
    kept = state * tl.exp(tl.sum(gate, 0))[:, None]
    return kept + dot(tl.trans(x * tl.exp(decay)), y, PRECISION)


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """Product of two tiles, summed in float32."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    else:
        return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def sum_through(x):
    """Row i: the rows up to i, itself included."""
    return tl.cumsum(x, 0)


@triton.jit
def sum_from(x):
    """Row i: the rows from i on."""
    return tl.cumsum(x, 0, reverse=True)


@triton.jit
def sum_before(x):
    """Row i: the rows before i, without i."""
    row = tl.arange(0, x.shape[0])[:, None]
    above = tl.broadcast_to(tl.maximum(row - 1, 0), x.shape)
    shifted = tl.where(row > 0, tl.gather(x, above, 0), 0.0)
    return tl.cumsum(shifted, 0)


@triton.jit
def sum_after(x):
    """Row i: the rows after i, without i."""
    row = tl.arange(0, x.shape[0])[:, None]
    last = x.shape[0] - 1
    below = tl.broadcast_to(tl.minimum(row + 1, last), x.shape)
    shifted = tl.where(row < last, tl.gather(x, below, 0), 0.0)
    return tl.cumsum(shifted, 0, reverse=True)
