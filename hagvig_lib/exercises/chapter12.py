"""Checkers of chapter 12, What is inside ViG?"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.vig_block import Block, VisionGLA
from . import Wrong


def positions(answer) -> None:
    """12.1: the table of positions for a picture of another shape."""
    generator = torch.Generator().manual_seed(12)
    for side, height, width in ((14, 14, 14), (14, 20, 16), (6, 4, 9)):
        table = torch.randn(1, side**2, 5, generator=generator)
        got = answer(table.clone(), height, width)
        shape = [1, height, width, 5]
        if not isinstance(got, Tensor) or list(got.shape) != shape:
            raise Wrong(
                f"for {height} rows of {width} tokens a tensor {shape} is"
                f" wanted, not {list(getattr(got, 'shape', []))}"
            )
        if torch.allclose(got, _resized(table, height, width), atol=1e-5):
            continue
        if (height, width) == (side, side):
            raise Wrong(
                "a picture of the table's own shape must get the table back:"
                " which axis of it counts places, and which one channels?"
            )
        options: list[dict[str, Any]] = [
            {"align_corners": True},
            {"mode": "bilinear"},
            {"mode": "nearest", "align_corners": None},
            {"antialias": True},
        ]
        for option in options:
            other = _resized(table, height, width, **option)
            if torch.allclose(got, other, atol=1e-5):
                raise Wrong(
                    f"that is {option}; bicubic is wanted, with align_corners"
                    " and antialias off"
                )
        raise Wrong(
            f"right for {side} rows of {side}, but not for {height} rows of"
            f" {width}"
        )


def merge(answer) -> None:
    """12.2: the merge of scan and local branch, repaired."""
    generator = torch.Generator().manual_seed(12)
    loudness = torch.tensor([1.0, 10.0, 100.0])[:, None]  # of three heads
    o, x = loudness * torch.randn(2, 1, 5, 3, 4, generator=generator)
    logits = torch.randn(1, 5, 12, generator=generator)
    near = F.rms_norm(x, [4], eps=1e-6)
    far = F.rms_norm(o, [4], eps=1e-6)
    opened = torch.full_like(logits, 40)
    only = answer(o.clone(), x.clone(), opened)
    if not isinstance(only, Tensor) or only.shape != o.shape:
        raise Wrong(f"a tensor [B, T, H, V] = {list(o.shape)} is wanted")
    if torch.allclose(only, near, atol=1e-5):
        raise Wrong("where G is one, nothing of the scan is left")
    local = answer(o.clone(), x.clone(), -opened)
    for got, wanted, name in ((only, far, "scan"), (local, near, "local x")):
        if not torch.allclose(got, wanted, atol=1e-5):
            raise Wrong(
                f"the {name} alone should come out with every head of equal"
                f" size, and heads differ by up to"
                f" {_spread(got):.3g} times: over what does its norm run?"
            )
    G = logits.sigmoid().unflatten(-1, (3, 4))
    if not torch.allclose(
        answer(o.clone(), x.clone(), logits), far * G + near * (1 - G)
    ):
        raise Wrong(
            "with G of one or zero everywhere it is right, and wrong in"
            " between: which head does channel c of the logits belong to?"
        )


def block_parameters(answer) -> None:
    """12.3: the parameters of a block of ViG-H."""
    for C in (96, 128, 1024):
        with torch.device("meta"):
            block = Block(C, VisionGLA(C, C // 32), nn.LayerNorm, 32)
        count = sum(p.numel() for p in block.parameters())
        more = answer(C) - count
        if more == 0:
            continue
        hint = "go through the pieces one by one"
        if more == -2 * C:
            hint = "a LayerNorm has a weight and a bias for each channel"
        elif more == 64:
            hint = "how many value channels has a head of ViG-H?"
        elif more % (3 * C) == 0:
            hint = "to a multiple of what is the SwiGLU's inner width rounded?"
        raise Wrong(f"for C = {C} you are off by {more:+,}: {hint}")


def _resized(
    table: Tensor,
    height: int,
    width: int,
    mode: str = "bicubic",
    align_corners: bool | None = False,
    antialias: bool = False,
) -> Tensor:
    side = round(table.shape[1] ** 0.5)
    grid = F.interpolate(
        table.mT.unflatten(2, (side, side)),
        (height, width),
        mode=mode,
        align_corners=align_corners,
        antialias=antialias,
    )
    return grid.permute(0, 2, 3, 1)


def _spread(heads: Tensor) -> float:
    size = heads.square().mean((0, 1, 3)).sqrt()
    return (size.max() / size.min()).item()


EXERCISES = {1: positions, 2: merge, 3: block_parameters}
