"""Checkers of chapter 1, What does a hard-attention gate do?"""

import copy
import math

import torch
from torch import nn

from . import Wrong


def gate_gradient(answer) -> None:
    """1.1: gradient of the logits from features and incoming gradients."""
    generator = torch.Generator().manual_seed(1)
    x, delta = torch.randn(2, 3, 4, 5, generator=generator).double()
    logits = torch.randn(5, generator=generator).double().requires_grad_()
    gated = x * torch.sigmoid(logits)
    (expected,) = torch.autograd.grad(gated, logits, delta)
    got = answer(x, delta, logits.detach())
    if not isinstance(got, torch.Tensor):
        raise Wrong(f"expected a tensor, got {type(got).__name__}")
    if got.shape != logits.shape:
        raise Wrong(
            f"shape {tuple(got.shape)}: one number per channel is wanted,"
            f" {tuple(logits.shape)}"
        )
    if torch.allclose(got * len(x) * x.shape[1], expected):
        raise Wrong("that is the mean; the gate collects from every token")
    if not torch.allclose(got, expected):
        raise Wrong("right shape; is the sigmoid's slope in it, once?")


def fold_before(answer) -> None:
    """1.2: a linear layer that contains the gate before it."""
    with torch.random.fork_rng():  # the reader's own numbers stay
        torch.manual_seed(2)
        linear, gate = nn.Linear(4, 3).double(), torch.rand(4).double()
        x = torch.randn(6, 4).double()
    untouched = copy.deepcopy(linear)
    folded = answer(linear, gate)
    if not isinstance(folded, nn.Linear):
        raise Wrong(f"expected an nn.Linear, got {type(folded).__name__}")
    if not torch.equal(linear.weight, untouched.weight):
        raise Wrong("the layer that you were given has changed; copy it")
    if not torch.allclose(folded(x * 0), untouched(x * 0)):
        raise Wrong("for x = 0 only the bias is left: what should it be?")
    if not torch.allclose(folded(x), untouched(gate * x)):
        raise Wrong("the bias is right; which columns does gate i scale?")


def open_logit(answer) -> None:
    """1.3: the smallest logit whose gate is within a tolerance of one."""
    for tolerance in (0.5, 0.1, 1e-3):
        got = float(answer(tolerance))
        miss = 1 - 1 / (1 + math.exp(-got))
        if not math.isclose(miss, tolerance, rel_tol=1e-9):
            raise Wrong(
                f"for tolerance {tolerance} your gate is {miss:.12g} below 1"
            )


EXERCISES = {1: gate_gradient, 2: fold_before, 3: open_logit}
