"""Checkers of chapter 7, How does attention become a recurrence?"""

import math

import torch

from ..gla import bidirectional_gla, gla
from . import Wrong


def log_gate_of(answer) -> None:
    """7.1: the log gate that halves a memory in a number of tokens."""
    for half_life in (16, 1, 100):
        got = float(answer(half_life))
        if got > 0:
            raise Wrong(
                f"for half-life {half_life} you return {got:.4g}: a gate"
                " lies between 0 and 1, so what sign has its logarithm?"
            )
        left = math.exp(got * half_life)
        if not math.isclose(left, 0.5, rel_tol=1e-6):
            raise Wrong(
                f"after {half_life} tokens your gate leaves {left:.4g},"
                " not one half"
            )


def gated_scan(answer) -> None:
    """7.2: one direction of one head, token by token."""
    generator = torch.Generator().manual_seed(7)
    q, k, x = torch.randn(3, 6, 3, generator=generator).double()
    v = torch.randn(6, 4, generator=generator).double()
    log_gate = torch.nn.functional.logsigmoid(x)
    expected = _one_head(q, k, v, log_gate)
    got = answer(q, k, v, log_gate)
    if not isinstance(got, torch.Tensor) or got.shape != expected.shape:
        raise Wrong(
            "one row of V numbers per token is wanted, a tensor [T, V] ="
            f" {list(expected.shape)}"
        )
    if not torch.allclose(got[0], expected[0]):
        raise Wrong(
            "token 0 is off: the state before it is zero, its own gate"
            " dims nothing, and it reads after it wrote"
        )
    if torch.allclose(got, _one_head(q, k, v, torch.zeros_like(x))):
        raise Wrong("that is the scan without a gate")
    if not torch.allclose(got, expected):
        raise Wrong(
            "token 0 is right, later ones are not: the gate is"
            " log_gate_t.exp(), one number per row of the state, and dims"
            " what stood there before token t wrote"
        )


def wall(answer) -> None:
    """7.3: two gates that keep two pictures of one sequence apart."""
    generator = torch.Generator().manual_seed(8)
    tokens, border = 7, 3
    shape = (2, tokens, 2, 3)
    q, k, v = torch.randn(3, *shape, generator=generator).double()
    gates = [-torch.rand(shape, generator=generator).double() for _ in "fb"]
    untouched = [gate.clone() for gate in gates]
    forward, backward = answer(*gates, border)
    if not all(map(torch.equal, gates, untouched)):
        raise Wrong("the gates that you were given have changed; clone them")
    got = bidirectional_gla(q, k, v, forward, backward)
    first, second = slice(0, border), slice(border, tokens)
    for part, name in ((second, "second"), (first, "first")):
        alone = [x[:, part] for x in (q, k, v, *gates)]
        if not torch.allclose(got[:, part], bidirectional_gla(*alone)):
            raise Wrong(
                f"the {name} picture does not come out as it does alone:"
                " which token's gate decays what the other picture left?"
            )


def _one_head(q, k, v, log_gate) -> torch.Tensor:
    inputs = (x[None, :, None] for x in (q, k, v, log_gate))
    return gla(*inputs, scale=1.0)[0, :, 0]


EXERCISES = {1: log_gate_of, 2: gated_scan, 3: wall}
