"""Removing closed gates. We add this: the paper prunes nothing.

Every gate is folded into the weights beside it, and what a closed gate
multiplied by 0 is no longer computed. In evaluation the pruned model gives
the output of the hardened one, to float round-off.
"""

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from ..measure.cost import costs
from .closing import harden
from .folding import fold
from .inspection import check_threshold, named_gates
from .sites import gate_sites


@dataclass(frozen=True, eq=False)
class PruneReport:
    """What `prune_gates` has done.

    Attributes:
        closed, total: gates below the threshold, and all of them.
        left: sites whose gate no neighbour could take up: it stays.
        costs: rows `before` (the gated model) and `after`, as
            `hagvig_lib.measure.costs` gives them.
    """

    closed: int
    total: int
    left: tuple[str, ...]
    costs: pd.DataFrame

    @property
    def speed_up(self) -> float:
        return self.costs.seconds["before"] / self.costs.seconds["after"]

    def __str__(self) -> str:
        gates = f"{self.closed:,} of {self.total:,} gates closed"
        return f"{gates}; {self.speed_up:.2f} times as fast\n{self.costs}"


def prune_gates(
    model: nn.Module, threshold: float, example: Tensor | None = None
) -> PruneReport:
    """Remove the gates, and with the closed ones their channels, in place.

    We add it. ViT, ViG: a closed channel leaves the last layer of its
    attention or MLP; a branch with all gates closed is not computed, nor is
    such a direction of a ViG's scan beside an open one. ResNet,
    EfficientNet: it leaves the end of its stage and the input of the next
    layer, so that intermediate features lack it, and lack the factors of
    the open gates. A gate that no neighbour can take up stays, hardened.

    Args:
        threshold: gates below it are closed; in (0, 1).
        example: input on which both models are timed; by default zeros
            of the size in `model.pretrained_cfg`, batch 1. Give one where
            the model was built with another `img_size` or `in_chans`.

    Raises:
        TypeError: not a VisionTransformer, ViG, ResNet or EfficientNet.
        ValueError: no gates, a threshold outside (0, 1), a CNN stage with
            all gates closed, or a model that was pruned before.
    """
    check_threshold(threshold)
    gates = named_gates(model)
    known = gate_sites(model)
    if fold.dispatch(type(model)) is fold.dispatch(object):
        raise TypeError(
            f"{type(model).__name__} cannot be pruned: give the timm "
            "VisionTransformer, ResNet or EfficientNet, or the ViG, itself"
        )
    for site, gate in gates.items():
        if gate.dim == 1 and (gate.values() < threshold).all():
            raise ValueError(
                f"{site}: all {gate.channels} gates are below {threshold}, "
                "nothing would pass; lower the threshold"
            )
    example = _blank_image(model) if example is None else example
    gated = copy.deepcopy(model)
    with torch.no_grad():
        gated.eval()(example)  # an unfit example fails here, not later

    closed = harden(model, threshold)
    for site, gate in gates.items():
        if site in known:
            fold(model, site, gate)
    stays = {*model.modules()}  # some go with the branch they are in
    left = [site for site, gate in gates.items() if gate in stays]

    total = sum(gate.channels for gate in gates.values())
    models = {"before": gated, "after": copy.deepcopy(model)}
    return PruneReport(closed, total, tuple(left), costs(models, example))


def _blank_image(model) -> Tensor:
    size = model.pretrained_cfg["input_size"]
    return next(model.parameters()).new_zeros(1, *size)
