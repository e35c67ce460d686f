"""Folding a gate into the weights beside it, and dropping what it closes.

Gates come here hardened: a closed one is exactly 0.
"""

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models import _efficientnet_blocks as mbconv
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from hagvig_lib.gates.gate import HardAttentionGate

# Subclasses may do more than multiply (weight standardisation, experts).
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
# The layers with which the main branch of a block ends.
LAST_LAYERS = {
    BasicBlock: ("conv2", "bn2"),
    Bottleneck: ("conv3", "bn3"),
    mbconv.DepthwiseSeparableConv: ("conv_pw", "bn2"),
    mbconv.InvertedResidual: ("conv_pwl", "bn3"),
}


class Scatter(nn.Module):
    """Puts kept features back among zeros: [B, N, n] -> [B, N, C]."""

    keep: Tensor

    def __init__(self, keep: Tensor, channels: int):
        super().__init__()
        self.register_buffer("keep", keep)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(*x.shape[:-1], self.channels)
        return zeros.index_copy(-1, self.keep, x)


class Select(nn.Module):
    """Keeps some channels: [B, C, H, W] -> [B, n, H, W]."""

    keep: Tensor

    def __init__(self, keep: Tensor):
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.keep)


class Zero(nn.Module):
    """Stands in for a branch that would give 0 everywhere: [1]."""

    def forward(self, x: Tensor, **masks: object) -> Tensor:
        return x.new_zeros(1)


@torch.no_grad()
def fold_into_branch(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """ViT: fold a gate, and a LayerScale, into the last layer of its branch.

    Returns:
        Whether that layer could take the gate up.
    """
    path, _, slot = site.rpartition(".")
    block = model.get_submodule(path)
    norm, branch, last = {
        "ls1": ("norm1", "attn", "proj"),
        "ls2": ("norm2", "mlp", "fc2"),
    }[slot]
    layer = getattr(getattr(block, branch), last, None)
    if type(layer) is not nn.Linear:
        return False
    scale = gate.values() * getattr(getattr(block, slot), "gamma", 1)
    keep = scale.nonzero().flatten()
    setattr(block, slot, nn.Identity())
    if len(keep) == 0:
        setattr(block, norm, nn.Identity())
        setattr(block, branch, Zero())
        return True
    layer.weight.mul_(scale[:, None])
    if layer.bias is not None:
        layer.bias.mul_(scale)
    _narrow(layer, "out", keep)
    if len(keep) < gate.channels:
        setattr(block, slot, Scatter(keep, gate.channels))
    return True


@torch.no_grad()
def fold_into_readers(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """CNN: fold a gate into the layers that read the output of its stage.

    Returns:
        Whether all of them could take the gate up.
    """
    readers = _readers(model, site)
    if not readers or not all(
        type(layer) in (*CONVOLUTIONS, nn.Linear)
        and layer.weight.shape[1] == gate.channels  # not so if grouped
        for layer in readers
    ):
        return False
    scale = gate.values()
    keep = scale.nonzero().flatten()
    for layer in readers:
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 2)))
        _narrow(layer, "in", keep)
        if isinstance(layer, nn.Linear):
            model.num_features = model.head_hidden_size = len(keep)
    for info in model.feature_info:
        if info["module"] == site:
            info["num_chs"] = len(keep)
    stage = model.get_submodule(site)
    del stage.gate
    if len(keep) < gate.channels and not _narrow_block(stage[-1], keep):
        stage.add_module("select", Select(keep))
    return True


def _readers(model: Any, site: str) -> list[Any]:
    """The layers that read a stage's output; none if it is read otherwise."""
    if site == "layer4":  # of a ResNet
        return [model.fc]  # pooling commutes with factors >= 0
    if site.startswith("layer"):
        stage = model.get_submodule(f"layer{int(site[-1]) + 1}")
        block: Any = next(stage.children(), None)
        shortcut = getattr(block, "downsample", None) or []
        convs = [m for m in shortcut if isinstance(m, nn.Conv2d)]
        # Without one, the shortcut hands the gated features on.
        return [block.conv1, *convs] if convs else []
    index = int(site.removeprefix("blocks."))
    if index + 1 == len(model.blocks):
        return [model.conv_head]
    block = model.blocks[index + 1][0]
    return [] if block.has_skip else [next(block.children())]


def _narrow_block(block: Any, keep: Tensor) -> bool:
    """Let a block compute only the kept outputs, where that is simple."""
    if type(block) not in LAST_LAYERS:
        return False
    conv, norm = (getattr(block, name) for name in LAST_LAYERS[type(block)])
    if type(conv) not in CONVOLUTIONS or not isinstance(norm, nn.BatchNorm2d):
        return False
    if hasattr(block, "downsample"):
        if block.se is not None:
            return False  # attention over all channels follows the norm
        shortcut = [] if block.downsample is None else [*block.downsample]
        block.downsample = nn.Sequential(*shortcut, Select(keep))
    elif block.has_skip:
        return False
    _narrow(conv, "out", keep)
    for name in ("weight", "bias", "running_mean", "running_var"):
        _replace(norm, name, getattr(norm, name)[keep])
    norm.num_features = len(keep)
    return True


def _narrow(layer: Any, side: str, keep: Tensor) -> None:
    """Keep some of the "in" or "out" channels of a linear layer."""
    weight = layer.weight.index_select(("out", "in").index(side), keep)
    _replace(layer, "weight", weight)
    if side == "out" and layer.bias is not None:
        _replace(layer, "bias", layer.bias[keep])
    unit = "features" if isinstance(layer, nn.Linear) else "channels"
    setattr(layer, f"{side}_{unit}", len(keep))


def _replace(module: nn.Module, name: str, new: Tensor) -> None:
    """Set a parameter or buffer of another shape."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, old.requires_grad)
    setattr(module, name, new)
