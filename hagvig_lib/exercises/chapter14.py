"""Checkers of chapter 14, Do gates help a scan?"""

import math

import torch
from torch import Tensor

from . import Wrong


def into_values(answer) -> None:
    """14.1: the larger of two gates, moved into the weights of the values."""
    generator = torch.Generator().manual_seed(14)
    weight = torch.randn(12, 6, generator=generator)  # of q, k, v
    fwd, bwd = torch.rand(2, 6, generator=generator)
    fwd[1] = bwd[2] = 0  # one direction closed
    fwd[3] = bwd[3] = 0  # both
    given = weight.clone()
    got = answer(given, fwd.clone(), bwd.clone())
    if not torch.equal(given, weight):
        raise Wrong("the weight that you were given has changed; return a new")
    shapes = [(12, 6), (6,), (6,)]
    if [tuple(part.shape) for part in got] != shapes:
        raise Wrong(f"return weight and two gates, of shapes {shapes}")
    new, *gates = got
    if not torch.isfinite(torch.cat([part.flatten() for part in got])).all():
        raise Wrong(
            "there are numbers that are not finite: channel 3 is closed in"
            " both directions, channels 1 and 2 in one"
        )
    if not torch.equal(new[:6], weight[:6]):
        raise Wrong("rows of queries or keys have changed; v's are the last")
    for gate, old, name in zip(gates, (fwd, bwd), ("fwd", "bwd"), strict=True):
        now, before = gate[:, None] * new[6:], old[:, None] * weight[6:]
        wrong = (~torch.isclose(now, before, atol=1e-6)).any(1).nonzero()
        if len(wrong):
            raise Wrong(
                f"{name} times values is another product than before, first"
                f" in channel {int(wrong[0])}: which dimension of the weight"
                " counts the value channels, and is what one gate gives to"
                " the values taken from both?"
            )
    most = torch.maximum(*gates)
    if not torch.allclose(most, torch.ones(6)):
        raise Wrong(
            "the products are right; the larger of the two gates is to be"
            f" one in every channel, and it is {_numbers(most)}"
        )


def loudest(answer) -> None:
    """14.2: gates behind which a norm stands, with a scale that says much."""
    generator = torch.Generator().manual_seed(15)
    fwd, bwd = torch.rand(2, 12, generator=generator) * 0.2
    fwd[:4] *= 3
    bwd[4:8] *= 4
    fwd[8:] = bwd[8:] = 0  # a head that is closed
    got = answer(fwd.clone(), bwd.clone(), 3)
    if [tuple(gate.shape) for gate in got] != [(12,), (12,)]:
        raise Wrong("return two gates as long as those that you were given")
    if not torch.isfinite(torch.cat(got)).all():
        raise Wrong("a head whose gates are all closed has to stay closed")
    old, new = (torch.stack([*gates]) for gates in ((fwd, bwd), got))
    heads = range(0, 8, 4)
    for first in heads:
        factor = new[:, first : first + 4] / old[:, first : first + 4]
        if not torch.allclose(factor, factor[0, 0].expand(2, 4)):
            raise Wrong(
                f"in the head of channels {first} to {first + 3}, gates are"
                f" multiplied by {_numbers(factor)}: the norm forgives one"
                " factor for all gates of a head, both directions together"
            )
    most = [new[:, first : first + 4].max().item() for first in heads]
    if not all(math.isclose(number, 1, rel_tol=1e-5) for number in most):
        raise Wrong(
            "the mixer computes the same as before; the largest gate of each"
            f" head is to be one, and they are {_numbers(torch.tensor(most))}"
        )


def blocks_needed(answer) -> None:
    """14.3: how many blocks must lose a direction to pay for the gates."""
    for depth, merged, single in (
        (12, 3.0, 2.0),
        (12, 3.0, 1.75),  # not a whole number
        (24, 2.5, 2.0),
        (3, 2.0, 2.0),  # all
        (12, 4.5, 2.0),  # merging never paid
    ):
        got = answer(depth, merged, single)
        where = f"{depth} blocks, merged {merged}, single {single}"
        if not isinstance(got, int) or not 0 <= got <= depth:
            raise Wrong(f"{where}: {got} is no number of blocks")

        def time(closed, depth=depth, single=single):
            return closed * single + (depth - closed) * 2 * single

        if time(got) > depth * merged + 1e-9:
            raise Wrong(
                f"{where}: with {got} the scans take {time(got):.4g}, and"
                f" {depth * merged:.4g} without any gate; a block whose gates"
                " are both left still takes two scans"
            )
        if got and time(got - 1) <= depth * merged:
            raise Wrong(f"{where}: fewer than {got} would do")


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.flatten().tolist())


EXERCISES = {1: into_values, 2: loudest, 3: blocks_needed}
