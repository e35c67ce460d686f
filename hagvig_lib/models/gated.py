"""timm models and ViGs with gates, under timm's names with `hag_` in front.

::

    timm.create_model("hag_resnet18", pretrained=True, gate_init="open")

Every keyword of the plain model goes on working, tags of pretrained weights
too (`hag_resnet18.a1_in1k`). Pretrained weights are those that timm
publishes for the plain model: the gates start as `gate_init` says. Load a
checkpoint of a gated model by `checkpoint_path`.

A ViG takes gates in the slots `ls1` and `ls2` of its blocks, as a ViT does,
and on request in those of the two directions of a scan.
"""

from collections.abc import Callable, Sequence
from typing import Any

import timm
from timm.models import (
    generate_default_cfgs,
    get_arch_pretrained_cfgs,
    register_model,
)
from torch import nn

from ..gates import HardAttentionGate, add_gates
from ..gates.folding import fold, fold_into_branch, fold_into_scan
from ..gates.sites import find_sites
from . import vig, vig_hierarchical  # noqa: F401  registers their names
from .vig_backbone import Backbone
from .vig_block import Block

PLAIN = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_tiny_patch16_384",
    "vit_small_patch16_384",
    "vit_base_patch16_384",
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "vig_tiny_patch16_224",
    "vig_small_patch16_224",
    "vig_base_patch16_224",
    "vig_h_tiny",
    "vig_h_small",
    "vig_h_base",
)

# register_model looks here for the weights of each name.
default_cfgs = generate_default_cfgs(
    {
        f"hag_{tagged}": config
        for name in PLAIN
        for tagged, config in get_arch_pretrained_cfgs(name).items()
    }
)


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    plain = timm.model_entrypoint(name)

    def create(
        pretrained: bool = False,
        gate_sites: str | Sequence[str] = "auto",
        gate_init: str | float = "paper",
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        **options: Any,
    ) -> nn.Module:
        """The plain model with its gates; see `hagvig_lib.gates.add_gates`."""
        # What timm saves with a checkpoint must name the gated model.
        overlay = {"architecture": create.__name__}
        overlay |= pretrained_cfg_overlay or {}
        model = plain(pretrained, pretrained_cfg_overlay=overlay, **options)
        return add_gates(model, gate_sites, gate_init)

    create.__name__ = create.__qualname__ = f"hag_{name}"
    return create


for _name in PLAIN:
    globals()[f"hag_{_name}"] = register_model(_entrypoint(_name))


@find_sites.register
def _(model: Backbone):
    sites = {}
    for name, block in model.named_modules():
        if isinstance(block, Block):
            mixer: Any = block.attn
            slots = [f"attn.scans.{scan}" for scan in mixer.scans]
            slots += ["ls1", "ls2"]
            sites |= {f"{name}.{s}": mixer.proj.out_features for s in slots}
    return sites


@fold.register
def _(model: Backbone, site: str, gate: HardAttentionGate):
    in_scan = ".scans." in site
    return (fold_into_scan if in_scan else fold_into_branch)(model, site, gate)
