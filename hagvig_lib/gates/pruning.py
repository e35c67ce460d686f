"""Removing closed gates. We add this: the paper prunes nothing.

Every gate is folded into the weights beside it, and what a closed gate
multiplied by 0 is no longer computed. In evaluation the pruned model gives
the output of the hardened one, to float round-off.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hagvig_lib.gates.closing import harden
from hagvig_lib.gates.folding import fold_into_branch, fold_into_readers
from hagvig_lib.gates.inspection import check_threshold, named_gates
from hagvig_lib.gates.sites import gate_sites
from hagvig_lib.measure.timing import interleaved


@dataclass(frozen=True)
class Cost:
    """Of a model and one forward pass.

    Attributes:
        parameters: how many, gates included.
        multiply_adds: in matrix products and convolutions.
        seconds: median wall time.
    """

    parameters: int
    multiply_adds: int
    seconds: float


@dataclass(frozen=True)
class PruneReport:
    """What `prune_gates` closed, and the cost before and after.

    Attributes:
        closed, total: gates below the threshold, and all of them.
        left: sites whose gate no neighbour could take up; hardened.
        before, after: the gated and the pruned model.
    """

    closed: int
    total: int
    left: tuple[str, ...]
    before: Cost
    after: Cost

    @property
    def speed_up(self) -> float:
        return self.before.seconds / self.after.seconds

    def __str__(self) -> str:
        before, after = self.before, self.after
        lines = [
            f"gates closed   {self.closed:,} of {self.total:,}",
            f"parameters     {before.parameters:,} -> {after.parameters:,}",
            f"multiply-adds  {before.multiply_adds:,} -> "
            f"{after.multiply_adds:,}",
            f"milliseconds   {1e3 * before.seconds:.1f} -> "
            f"{1e3 * after.seconds:.1f}, speed-up {self.speed_up:.2f}",
        ]
        if self.left:
            lines.append(f"gates left     {', '.join(self.left)}")
        return "\n".join(lines)


def prune_gates(
    model: nn.Module, threshold: float, example: Tensor | None = None
) -> PruneReport:
    """Remove the gates, and with the closed ones their channels, in place.

    ViT: a closed channel leaves the last layer of its attention or MLP; a
    branch with all gates closed is not computed. ResNet, EfficientNet: it
    leaves the end of its stage and the input of the next layer, so that
    intermediate features lack it, and lack the factors of the open gates.
    A gate that no neighbour can take up stays, hardened.

    Args:
        threshold: gates below it are closed; in (0, 1).
        example: input on which both models are timed; by default zeros
            of the size in `model.pretrained_cfg`, batch 1.

    Raises:
        TypeError: not a VisionTransformer, ResNet or EfficientNet.
        ValueError: no gates, a threshold outside (0, 1), or a CNN stage
            with all gates closed.
        Either way the model is left as it was.
    """
    check_threshold(threshold)
    gates = named_gates(model)
    if not isinstance(model, VisionTransformer | ResNet | EfficientNet):
        raise TypeError(
            f"{type(model).__name__} cannot be pruned: give the timm "
            "VisionTransformer, ResNet or EfficientNet itself"
        )
    for site, gate in gates.items():
        if gate.dim == 1 and (gate.values() < threshold).all():
            raise ValueError(
                f"{site}: all {gate.channels} gates are below {threshold}, "
                "nothing would pass; lower the threshold"
            )
    gated = copy.deepcopy(model).eval()
    if example is None:
        example = _blank_image(model)
    with torch.no_grad():
        gated(example)  # a wrong example fails before anything changes

    closed = harden(model, threshold)
    is_vit = isinstance(model, VisionTransformer)
    fold = fold_into_branch if is_vit else fold_into_readers
    known = gate_sites(model)
    left = [
        site
        for site, gate in gates.items()
        if site not in known or not fold(model, site, gate)
    ]

    before, after = _costs(gated, copy.deepcopy(model).eval(), example)
    total = sum(gate.channels for gate in gates.values())
    return PruneReport(closed, total, tuple(left), before, after)


def _blank_image(model) -> Tensor:
    size = model.pretrained_cfg["input_size"]
    return next(model.parameters()).new_zeros(1, *size)


@torch.no_grad()
def _costs(
    before: nn.Module, after: nn.Module, example: Tensor
) -> tuple[Cost, Cost]:
    """What two models cost on the same input, timed in turns."""

    def forward(model: nn.Module) -> None:
        model(example)
        if example.is_cuda:
            torch.cuda.synchronize(example.device)

    def cost(model: nn.Module, seconds: float) -> Cost:
        with FlopCounterMode(display=False) as counter:
            model(example)
        parameters = sum(p.numel() for p in model.parameters())
        return Cost(parameters, counter.get_total_flops() // 2, seconds)

    forwards = {
        "before": partial(forward, before),
        "after": partial(forward, after),
    }
    seconds = interleaved(forwards, rounds=10)["median"].to_dict()
    return cost(before, seconds["before"]), cost(after, seconds["after"])
