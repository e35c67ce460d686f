"""Folding a gate into the weights beside it, and dropping what it closes.

Gates come here hardened: a closed one is exactly 0.
"""

from functools import singledispatch
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .gate import HardAttentionGate

# Subclasses may do more than multiply (weight standardisation, experts).
LINEAR = (nn.Linear, nn.Conv2d, Conv2dSame)
# What layers call their numbers of outputs and inputs.
SIZES = (
    {"out_features", "out_channels", "num_features"},
    {"in_features", "in_channels"},
)


class Pruned(nn.Module):
    """A module that stands where channels were removed."""


class Scatter(Pruned):
    """Puts kept features back among zeros: [B, N, n] -> [B, N, C]."""

    keep: Tensor

    def __init__(self, keep: Tensor, channels: int):
        super().__init__()
        self.register_buffer("keep", keep)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(*x.shape[:-1], self.channels)
        return zeros.index_copy(-1, self.keep, x)


class Select(Pruned):
    """Keeps some channels: [B, C, H, W] -> [B, n, H, W]."""

    keep: Tensor

    def __init__(self, keep: Tensor):
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.keep)


class Zero(Pruned):
    """Stands in for a branch that would give 0 everywhere: [1]."""

    def forward(self, x: Tensor, **masks: object) -> Tensor:
        return x.new_zeros(1)


@singledispatch
def fold(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """Fold a gate into weights; register a function for a new family.

    Returns:
        Whether they could take the gate up: otherwise it stays.
    """
    raise NotImplementedError(type(model).__name__)


@fold.register(VisionTransformer)
@torch.no_grad()
def fold_into_branch(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """ViT, ViG: fold gate and LayerScale into the branch's last layer."""
    path, _, slot = site.rpartition(".")
    block = model.get_submodule(path)
    branch, last = ("attn", "proj") if slot == "ls1" else ("mlp", "fc2")
    layer = getattr(getattr(block, branch), last, None)
    if type(layer) is not nn.Linear:
        return False
    scale = gate.values() * getattr(getattr(block, slot), "gamma", 1)
    keep = scale.nonzero().flatten()
    setattr(block, slot, nn.Identity())
    if len(keep) == 0:
        setattr(block, f"norm{slot[-1]}", nn.Identity())
        setattr(block, branch, Zero())
        return True
    layer.weight.mul_(scale[:, None])
    if layer.bias is not None:
        layer.bias.mul_(scale)
    _narrow(layer, 0, keep)
    if len(keep) < gate.channels:
        setattr(block, slot, Scatter(keep, gate.channels))
    return True


@torch.no_grad()
def fold_into_scan(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """ViG: leave out a closed direction; fold the gate of one left alone.

    Where both go on the gates stay: no weight serves one direction only.
    """
    path, _, name = site.rpartition(".scans.")
    mixer: Any = model.get_submodule(path)
    values = mixer.qkv.weight[-gate.channels :]
    others = [slot for key, slot in mixer.scans.items() if key != name]
    if all(_is_closed(getattr(slot, "gate", None)) for slot in others):
        values.mul_(gate.values()[:, None])
        mixer.scans[name] = nn.Identity()
    elif _is_closed(gate):
        values.div_(2)  # the mean of the directions has one less
        log_gate, half = mixer.gate[-1], gate.channels // 2
        if log_gate.out_features > half:  # not shared
            kept = torch.arange(half, device=values.device)
            _narrow(log_gate, 0, kept + half * (name == "fwd"))
        del mixer.scans[name]
    else:
        return False
    return True


def _is_closed(gate: HardAttentionGate | None) -> bool:
    return gate is not None and not gate.values().any()


@fold.register(ResNet)
@fold.register(EfficientNet)
@torch.no_grad()
def fold_into_readers(model: Any, site: str, gate: HardAttentionGate) -> bool:
    """CNN: fold a gate into the layers that read the output of its stage."""
    readers = _readers(model, site)
    width = gate.channels  # a grouped convolution has fewer inputs
    fit = [type(r) in LINEAR and r.weight.shape[1] == width for r in readers]
    if not fit or not all(fit):
        return False
    scale = gate.values()
    keep = scale.nonzero().flatten()
    for layer in readers:
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 2)))
        _narrow(layer, 1, keep)
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
    last = {BasicBlock: 2, Bottleneck: 3}.get(type(block))
    norm = getattr(block, f"bn{last}", None)
    if not isinstance(norm, nn.BatchNorm2d) or block.se is not None:
        return False
    shortcut = [] if block.downsample is None else [*block.downsample]
    block.downsample = nn.Sequential(*shortcut, Select(keep))
    _narrow(getattr(block, f"conv{last}"), 0, keep)
    _narrow(norm, 0, keep)
    return True


def _narrow(layer: nn.Module, dim: int, keep: Tensor) -> None:
    """Keep some outputs (dim 0) or inputs (dim 1) of a layer."""
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    for name, old in tensors.items():
        if old.ndim > dim:
            new = old.index_select(dim, keep)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, old.requires_grad)
            setattr(layer, name, new)
    for size in SIZES[dim] & vars(layer).keys():
        setattr(layer, size, len(keep))
