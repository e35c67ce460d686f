"""Checkers of chapter 13, When is ViG faster?"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from . import Wrong

SIZES = ((192, 3, 512), (384, 6, 1024), (64, 2, 256), (96, 1, 300))


def vig_block(answer) -> None:
    """13.1: multiply-adds of a block of ViG."""
    for dim, heads, inner in SIZES:
        for tokens in (14, 196):
            got = answer(dim, heads, inner, tokens)
            layers, mlp, scan = _parts(dim, heads, inner)
            right = tokens * (layers + mlp + scan)
            # What a token's share may lack, or have too much of.
            parts = (
                (-scan / 2, "two directions, and a state is written and read"),
                (-scan, "the scans are missing"),
                ((heads - 1) * scan, "K and V are a head's"),
                (-dim * inner, "the MLP has three matrices"),
                (-9 * dim, "the convolution is missing"),
                (-8 * dim, "the convolution has nine weights a channel"),
                (-32 * dim, "the thin layers to the gates are missing"),
                (-16 * dim, "two thin layers lead to the gates"),
                (dim**2, "q and k have half of the channels each"),
                (-(dim**2), "D² for q and k, for v, the gate, the output"),
                (-2 * dim**2, "D² for q and k, for v, the gate, the output"),
            )
            wrong = [(right + tokens * part, hint) for part, hint in parts]
            wrong += [
                (2 * right, "multiply-adds, not two FLOPs for each"),
                (right / tokens, "all tokens, not one"),
            ]
            sizes = (
                f"for {dim} channels, {heads} heads, {inner} inner ones and"
                f" {tokens} tokens"
            )
            for value, hint in wrong:
                if math.isclose(got, value) and not math.isclose(got, right):
                    raise Wrong(f"{sizes}: {hint}")
            if not math.isclose(got, right, rel_tol=1e-9):
                amount = "few" if got < right else "many"
                raise Wrong(
                    f"{sizes} you return {got:,}, by"
                    f" {abs(got / right - 1):.1%} too {amount}"
                )


def crossing(answer) -> None:
    """13.2: the tokens at which two blocks compute the same."""
    for dim, heads, inner in SIZES:
        got = float(answer(dim, heads, inner))
        vig = sum(_parts(dim, heads, inner))
        right = (vig - 12 * dim**2) / (2 * dim)
        if math.isclose(got, 2 * right, rel_tol=1e-6):
            raise Wrong("attention has two products, with keys and values")
        if not math.isclose(got, right, rel_tol=1e-6):
            other = 12 * dim**2 + 2 * got * dim
            raise Wrong(
                f"for {dim} channels, {heads} heads and {inner} inner ones,"
                f" with {got:.4g} tokens, a ViG block computes {vig:,} a"
                f" token and a transformer's {other:,.0f}"
            )


def unseen(answer) -> None:
    """13.3: modules whose parameters are used without calling them."""
    x = torch.ones(2, 4)
    cases = (
        (_Plain(), set(), "each of its layers is called"),
        (_Borrowed(), {"b"}, "the weight of 'b' is used, 'b' never called"),
        (_Idle(), set(), "'b' has no influence on the output"),
        (
            nn.Sequential(_Borrowed(), _Plain()),
            {"0.b"},
            "only '0.b' is used and not called; it is not at the top",
        ),
    )
    for model, right, hint in cases:
        for p in model.parameters():  # as after a step that used everything
            p.grad = torch.ones_like(p)
        before = _hooks(model)
        got = answer(model, x)
        if set(got) != right:
            raise Wrong(f"{hint}; you return {set(got) or 'nothing'}")
        if _hooks(model) != before:
            raise Wrong("your hooks are still there: remove them")


def _parts(dim: int, heads: int, inner: int) -> tuple[int, int, int]:
    """Layers, MLP and scans of a block, for a token."""
    keys, values = dim // (2 * heads), dim // heads
    layers = 4 * dim**2 + 41 * dim
    return layers, 3 * dim * inner, 4 * heads * keys * values


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in model.modules())


class _Plain(nn.Module):
    """Calls both of its layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(x))


class _Borrowed(_Plain):
    """Uses the weight of `b`, for a faster function of its own."""

    def forward(self, x):
        return F.linear(self.a(x), self.b.weight)


class _Idle(_Plain):
    """Does not need `b`."""

    def forward(self, x):
        return self.a(x)


EXERCISES = {1: vig_block, 2: crossing, 3: unseen}
