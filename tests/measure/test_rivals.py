"""What the study times beside `bidirectional_gla` computes the same."""

import pytest
import torch
from torch.nn import functional as F

from hagvig_lib.gla import bidirectional_gla, gla
from hagvig_lib.measure.studies.rivals.plain import factorised, two_passes

pytest.importorskip("triton")
from hagvig_lib.measure.studies.rivals import token_by_token as kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(batch, tokens, heads, key, value, gate=16):
    """q, k, v and two gates, logsigmoid / gate; or, gate 0, 0 and -inf."""
    torch.manual_seed(0)
    widths = (key, key, value, key, key)
    q, k, v, *gates = (torch.randn(batch, tokens, heads, w) for w in widths)
    if gate:
        gates = [F.logsigmoid(x) / gate for x in gates]
    else:
        gates = [torch.where(x > 1, -torch.inf, 0.0) for x in gates]
    return [x.to(DEVICE) for x in (q, k, v, *gates)]


def exact(inputs):
    wide = [x.double() for x in inputs]
    return bidirectional_gla(*wide, scale=0.3, backend="reference")


def error(got, expected):
    return ((got.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("tokens", [1, 2, 13, 40, 196])
def test_two_halves_are_the_whole_with_all_gradients(tokens):
    inputs = [x.requires_grad_() for x in draw(2, tokens, 3, 32, 64)]
    got, expected = factorised(*inputs, scale=0.3), exact(inputs)
    grad = torch.randn_like(got)
    pairs = zip(
        torch.autograd.grad(got, inputs, grad),
        torch.autograd.grad(expected, inputs, grad.double()),
        strict=True,
    )
    assert error(got, expected) <= 1e-6
    if tokens == 1:  # no gate acts on a single token
        pairs = list(pairs)[:3]
    assert max(error(a, b) for a, b in pairs) <= 3e-6


def test_gates_that_are_too_strong_for_it_overflow():
    """Why it is no backend."""
    inputs = draw(1, 196, 1, 32, 64, gate=0.5)
    assert not factorised(*inputs, scale=0.3).isfinite().all()


def test_two_passes_are_both_directions():
    inputs = draw(2, 13, 2, 8, 16)
    got = two_passes(lambda *x: gla(*x, scale=0.3), *inputs)
    assert error(got, exact(inputs)) <= 1e-6


@pytest.mark.parametrize(
    ("shape", "gate"),
    [
        ((2, 5, 3, 8, 16), 16),
        ((1, 1, 1, 32, 64), 16),  # two slices
        ((2, 3, 2, 5, 40), 1),  # widths that fill no block
        ((1, 9, 2, 4, 8), 0),
    ],
)
def test_token_by_token_from_both_sides(shape, gate, monkeypatch):
    make = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor,
        "new_empty",
        lambda *x, **y: make(*x, **y).fill_(torch.nan),
    )
    inputs = draw(*shape, gate)
    got = kernel.token_by_token(*inputs, scale=0.3)
    assert error(got, exact(inputs)) <= 1e-6


def test_token_by_token_takes_views_and_keeps_their_dtype():
    inputs = draw(2, 4, 2, 8, 16)
    views = [x.mT.contiguous().mT for x in inputs]
    got = kernel.token_by_token(*views, scale=0.3)
    assert torch.equal(got, kernel.token_by_token(*inputs, scale=0.3))
    halves = [x.half() for x in inputs]
    got = kernel.token_by_token(*halves, scale=0.3)
    assert got.dtype == torch.float16
    assert error(got, exact(halves)) <= 6e-4  # one rounding
