"""Where gates go: a site is a place in a timm model that can hold a gate.

ViT, DeiT, DeiT-III: the slots `ls1` and `ls2` of every block, after the
attention and after the MLP, before the residual sum. ViG: the same slots,
and one for each direction of a scan, `attn.scans.fwd` and `attn.scans.bwd`,
on its output, the value channels of all heads. Those are filled on request
only: they cost the kernel that computes both directions at once.
ResNet, EfficientNet: the end of every stage.

Differs: the released transformer has its gates instead of LayerScale and
DropPath; here both stay. Its EfficientNet has no gates inside.
"""

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch

from timm.models._features import FeatureDictNet, FeatureGetterNet
from timm.models.efficientnet import EfficientNet, EfficientNetFeatures
from timm.models.resnet import ResNet
from timm.models.vision_transformer import (
    Block,
    LayerScale,  # pyright: ignore[reportPrivateImportUsage]
    VisionTransformer,
)
from torch import Tensor, nn

from .folding import Pruned
from .gate import HardAttentionGate
from .inspection import find_gates


def gate_sites(model: nn.Module) -> dict[str, int]:
    """The sites of a model: name -> channels, in the order of computation.

    Raises:
        TypeError: the model has no site that we know.
        ValueError: channels were pruned away.
    """
    if any(isinstance(module, Pruned) for module in model.modules()):
        raise ValueError("the model is pruned: gate it anew before pruning")
    sites = find_sites(model)
    if not sites:
        raise TypeError(
            f"{type(model).__name__} has no site for a gate: give a timm "
            "VisionTransformer (ViT, DeiT, DeiT-III), ResNet or "
            "EfficientNet, a ViG, or timm's feature extractor around one"
        )
    return sites


@singledispatch
def find_sites(model: nn.Module) -> dict[str, int]:
    """Sites of one family of models; register a function for a new one."""
    return {}


@find_sites.register
def _(model: VisionTransformer):
    sites = {}
    for index, block in enumerate(model.blocks):
        if type(block) is not Block:
            raise TypeError(
                f"blocks.{index} is a {type(block).__name__}: gates go into "
                "timm's vision_transformer.Block only"
            )
        sites[f"blocks.{index}.ls1"] = model.embed_dim
        sites[f"blocks.{index}.ls2"] = model.embed_dim
    return sites


@find_sites.register(ResNet)
@find_sites.register(FeatureDictNet)  # and FeatureListNet; holds a ResNet
def _(model):
    return {
        info["module"]: info["num_chs"]
        for info in model.feature_info
        if info["module"].startswith("layer")
        # timm drops or empties the stages after the last wanted feature
        and any(getattr(model, info["module"], nn.Identity()).children())
    }


@find_sites.register(EfficientNet)
@find_sites.register(EfficientNetFeatures)
def _(model):
    sites = {}
    for index, stage in enumerate(model.blocks):
        blocks = [m for m in stage if not isinstance(m, HardAttentionGate)]
        info = blocks[-1].feature_info("bottleneck")
        sites[f"blocks.{index}"] = info["num_chs"]
    return sites


@find_sites.register
def _(model: FeatureGetterNet):
    inner = gate_sites(model.model)
    return {f"model.{site}": channels for site, channels in inner.items()}


class GatedLayerScale(LayerScale):
    """A LayerScale followed by a gate; `gamma` keeps its key."""

    gate: HardAttentionGate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(super().forward(x))


def add_gates(
    model: nn.Module,
    sites: str | Sequence[str] = "auto",
    init: str | float = "paper",
    gate: Callable[..., HardAttentionGate] = HardAttentionGate,
) -> nn.Module:
    """Put a gate at each chosen site, in place.

    The model's own keys stay, `<site>.gate.logits` are new, and a state
    dict without any gate still loads strictly. To extract features, gate
    and load first, then wrap; or gate timm's feature extractor itself.

    Args:
        sites: "auto" for all but the directions of scans, or glob patterns
            over the names that `gate_sites` gives: "layer4",
            ["blocks.*.ls2"], "*.scans.*".
        init: see `HardAttentionGate`.
        gate: the class, `HardAttentionGate` or `HardConcreteGate`.

    Returns:
        The same model.

    Raises:
        TypeError: a model or a block class without sites; names it.
        ValueError: a pattern matches no site, a site has its gate already,
            or `init` is unknown. The model is then unchanged.
    """
    available = gate_sites(model)
    chosen = _choose(available, sites)
    gated = find_gates(model)
    if twice := [site for site in chosen if f"{site}.gate" in gated]:
        raise ValueError(f"{', '.join(twice)}: gated already, choose others")
    for site in chosen:
        slot = model.get_submodule(site)
        is_stage = isinstance(slot, nn.Sequential)
        owner = site if is_stage else site.rpartition(".")[0]
        owner = owner.removesuffix(".scans")  # it holds slots only
        like = next(model.get_submodule(owner).parameters())
        dim = 1 if is_stage else -1
        new = gate(available[site], dim, init, like.device, like.dtype)
        _insert(model, site, new.train(slot.training))
    model.register_load_state_dict_pre_hook(_keep_absent_gates)
    return model


def _choose(available: Iterable[str], sites: str | Sequence[str]) -> list[str]:
    """The sites that match, in the model's order."""
    if sites == "auto":
        return [site for site in available if ".scans." not in site]
    chosen = set()
    for pattern in [sites] if isinstance(sites, str) else sites:
        matches = fnmatch.filter(available, pattern)
        if not matches:
            there = ", ".join(available)
            raise ValueError(f"sites: {pattern!r} matches none of {there}")
        chosen.update(matches)
    return [site for site in available if site in chosen]


def _insert(model: nn.Module, site: str, gate: HardAttentionGate) -> None:
    slot = model.get_submodule(site)
    if isinstance(slot, LayerScale):
        slot.__class__ = GatedLayerScale  # gamma, hooks and mode stay
    elif isinstance(slot, nn.Identity):
        slot = nn.Sequential().train(slot.training)
        model.set_submodule(site, slot)
    slot.add_module("gate", gate)


def _keep_absent_gates(model, state_dict, prefix, *others) -> None:
    """Load hook: without any gate in the file, the gates stay as they are.

    Raises:
        RuntimeError: only some gates are there, with `strict=False` too.
    """
    gates = find_gates(model, unique=False)  # as state_dict names them
    own = {f"{prefix}{name}.logits": gates[name].logits for name in gates}
    absent = own.keys() - state_dict.keys()
    if len(absent) == len(own):
        state_dict.update(own)
    elif absent:
        names = ", ".join(sorted(absent))
        raise RuntimeError(f"gates missing: {names}; load all gates or none")
