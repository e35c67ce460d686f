"""Checkers of chapter 9, How can a scan see both sides, two dimensions?"""

import math

import torch

from ..gla import bidirectional_gla, gla
from . import Wrong


def once(answer) -> None:
    """9.1: take one of a token's two readings of itself away."""
    generator = torch.Generator().manual_seed(9)
    shape = (2, 6, 2, 3)
    q, k = torch.randn(2, *shape, generator=generator).double()
    v = torch.randn(2, 6, 2, 4, generator=generator).double()
    fwd, bwd = -torch.rand(2, *shape, generator=generator).double()
    scale = 0.3
    both = bidirectional_gla(q, k, v, fwd, bwd, scale=scale)
    given = both.clone()
    got = answer(both, q, k, v, scale)
    if not torch.equal(both, given):
        raise Wrong("the output that you were given has changed; copy it")
    if not isinstance(got, torch.Tensor) or got.shape != v.shape:
        raise Wrong(f"a tensor [B, T, H, V] = {list(v.shape)} is wanted")
    itself = scale * (q * k).sum(-1, keepdim=True) * v
    wrong = (
        (both, "each token still counts itself twice"),
        (both - 2 * itself, "now no token sees itself at all"),
        (both / 2, "halving also halves what comes from the others"),
        (both - itself / scale, "what does the scale act on?"),
        (both - v, "a token weighs its own value with q k^T and the scale"),
    )
    for output, hint in wrong:
        if torch.allclose(got, output):
            raise Wrong(hint)
    if not torch.allclose(got, both - itself):
        raise Wrong(
            "not the sum with each token once: what one scan adds of the"
            " token itself is scale times q k^T, one number per token and"
            " head, times v"
        )


def half_life_for(answer) -> None:
    """9.2: the half-life that sees a given number of rows up."""
    cases = ((14, 1, 0.5), (14, 1, 0.9), (64, 3, 0.5), (40, 2, 0.25))
    for width, rows, weight in cases:
        half_life = float(answer(width, rows, weight))
        if half_life <= 0:
            raise Wrong(
                f"for {rows} rows of {width} patches you return"
                f" {half_life:.4g}: the logarithm of a weight below one is"
                " negative, a half-life is not"
            )
        left = 2 ** (-rows * width / half_life)
        above = "1 row" if rows == 1 else f"{rows} rows"
        if not math.isclose(left, weight, rel_tol=1e-6):
            raise Wrong(
                f"with a half-life of {half_life:.4g} tokens the patch"
                f" {above} above weighs {left:.3g} in a picture {width}"
                f" patches wide, not {weight}"
            )


def see_down(answer) -> None:
    """9.3: a scan along the rows that is a scan down the columns."""
    height, width, half_life = 4, 5, 2
    got = answer(height, width, half_life)
    tokens = height * width
    shape = (1, tokens, 1, width)
    for name, x in zip(("q", "k", "log_gate"), got, strict=True):
        if x.shape != shape:
            raise Wrong(f"{name} has shape {list(x.shape)}, not {list(shape)}")
    q, k, log_gate = (x.double() for x in got)
    if (log_gate > 0).any():
        raise Wrong("log_gate is above 0 somewhere: that gate would amplify")
    units = torch.eye(tokens).double().reshape(1, tokens, 1, tokens)
    seen = gla(q, k, units, log_gate, scale=1)[0, :, 0]
    row = torch.arange(tokens) // width
    column = torch.arange(tokens) % width
    other = column[:, None] != column
    if seen[other].abs().max() > 1e-12:
        raise Wrong(
            "a token sees patches of other columns: which row of the state"
            " does each column write to?"
        )
    rows = row[:, None] - row
    expected = torch.where(other | (rows < 0), 0, 0.5 ** (rows / half_life))
    if torch.allclose(seen, expected.double()):
        return
    up, wanted = seen[2 * width, width].item(), 0.5 ** (1 / half_life)
    hint = (
        "which of the tokens in between may dim its row of the state?"
        if up < wanted
        else "one row further is one dimming, and half_life counts rows"
    )
    raise Wrong(
        f"the patch one row above weighs {up:.3g}, not {wanted:.3g}: {hint}"
    )


EXERCISES = {1: once, 2: half_life_for, 3: see_down}
