"""What both families of ViG share beside the block: timm's interface."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, resolve_pretrained_cfg
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from . import checkpoints
from .vig_block import Block

SMALLEST_IMAGE = 16  # pixels
Model = TypeVar("Model", bound="Backbone")


class Backbone(nn.Module):
    """A stem, parts in a row, a norm, a head.

    Between stem and head maps are [B, h, w, C]; intermediates are given as
    [B, C, h, w]. A subclass sets `stem`, the parts and `norm`, then calls
    `_finish`.

    Attributes:
        released_halving: see `VisionGLA`; the one of released weights.
        out_indices: of `features_only`, see timm; the last n if an int.
        parts: the name of the parts, one intermediate after each.
        num_features: C after the last part.
        feature_info: one dict per part, as timm's feature extractors ask.
    """

    released_halving = "mean"
    out_indices: int | tuple[int, ...]
    parts: str
    stem: nn.Module
    norm: nn.Module

    def _finish(
        self,
        widths: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        global_pool: str,
        drop_rate: float,
    ) -> None:
        """The head, and what timm asks to know of each part."""
        self.register_load_state_dict_pre_hook(checkpoints.accept_official)
        self.num_features = widths[-1]
        self.drop_rate = drop_rate
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": c, "reduction": r, "module": f"{self.parts}.{i}"}
            for i, (c, r) in enumerate(zip(widths, reductions, strict=True))
        ]
        self.reset_classifier(num_classes, global_pool)

    def load_state_dict(
        self, state_dict: Mapping, strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch's, and takes the released names.

        Raises:
            ValueError: `strict`, and another model's: nothing was loaded.
        """
        if strict:
            checkpoints.in_our_names(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chans, H, W], H and W >= 16 -> [B, num_classes].

        Raises:
            ValueError: the image is too small; names its size.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, in_chans, H, W] -> [B, h, w, C], normed; see `forward`."""
        return self.norm(self._parts(self._embed(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, h, w, C] -> [B, num_classes], or [B, C] with `pre_logits`."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps on the way, as in timm.

        Args:
            indices: of parts; the last n if an int, all if None.
            norm: give maps as wide as the last one normed.
            stop_early: leave out the parts after the last one asked for.
            output_fmt: "NCHW" only.

        Returns:
            List of [B, C, h, w]; before it, unless `intermediates_only`,
            the last map [B, h, w, C], normed if as wide as the last part's.

        Raises:
            ValueError: another `output_fmt`, or as `forward`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is {output_fmt!r}: give 'NCHW'")
        parts = self._parts
        wanted, last = feature_take_indices(len(parts), indices)
        maps = []
        x = self._embed(x)
        for index, part in enumerate(
            parts[: last + 1] if stop_early else parts
        ):
            x = part(x)
            if index in wanted:
                y = self._norm(x) if norm else x
                maps.append(y.permute(0, 3, 1, 2).contiguous())
        return maps if intermediates_only else (self._norm(x), maps)

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what comes after the last intermediate asked for.

        Returns:
            The indices, counted from the first part.
        """
        wanted, last = feature_take_indices(len(self._parts), indices)
        setattr(self, self.parts, self._parts[: last + 1])
        width = self.feature_info[last]["num_chs"]
        if prune_norm or width != self.num_features:
            self.norm = nn.Identity()
        self.num_features = width
        if prune_head or width != self.head.in_features:
            self.reset_classifier(0, "")
        return wanted

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None
    ) -> None:
        """Another number of classes; 0 for none."""
        if global_pool is not None:
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = ClassifierHead(
            self.num_features,
            num_classes,
            self.global_pool,
            self.drop_rate,
            input_fmt="NHWC",
        )
        self.head.to(next(self.parameters())).train(self.training)
        multiple = self.head.global_pool.feat_mult()
        self.head_hidden_size = multiple * self.num_features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the inside of every block again instead of storing it."""
        for module in self.modules():
            if isinstance(module, Block):
                module.grad_checkpointing = enable

    @property
    def _parts(self) -> nn.Sequential:
        return getattr(self, self.parts)

    def _embed(self, x: Tensor) -> Tensor:
        """[B, in_chans, H, W] -> [B, h, w, C]."""
        if min(x.shape[-2:]) < SMALLEST_IMAGE:
            raise ValueError(
                f"images are {x.shape[-2]} x {x.shape[-1]} pixels, ViG needs "
                f"{SMALLEST_IMAGE} x {SMALLEST_IMAGE}: enlarge or pad them"
            )
        return self.stem(x).permute(0, 2, 3, 1)

    def _norm(self, x: Tensor) -> Tensor:
        return self.norm(x) if x.shape[-1] == self.num_features else x


def config(**entries: Any) -> dict[str, Any]:
    """A timm pretrained config: the input of the released evaluation.

    Args:
        **entries: of a published file, `hf_hub_id`, `hf_hub_filename`.
    """
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "fixed_input_size": False,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.0",
        "classifier": "head.fc",
        **entries,
    }


def build(
    family: type[Model],
    name: str,
    pretrained: bool,
    sizes: dict[str, Any],
    options: dict[str, Any],
) -> Model:
    """The model of a timm name, with timm's own keywords among `options`.

    Raises:
        ValueError: `pretrained`, and no file is known.
    """
    if pretrained:
        overlay = options.get("pretrained_cfg_overlay") or {}
        source = resolve_pretrained_cfg(
            name, options.get("pretrained_cfg"), overlay
        )
        if not (source.has_weights or source.state_dict):
            raise ValueError(
                f"no published file of {name} is known: use checkpoint_path, "
                "or pretrained_cfg_overlay={'file': path} for other classes, "
                "features and the released halving"
            )
        # As a state dict: older versions of timm run the code in files.
        weights = checkpoints.read_source(source, options.get("cache_dir"))
        overlay = overlay | {"state_dict": weights}
        options = options | {"pretrained_cfg_overlay": overlay}
    features = {"out_indices": family.out_indices, "feature_cls": "getter"}
    given = options.get("halving")
    adapt = partial(checkpoints.filter_pretrained, halving=given)
    return build_model_with_cfg(
        family,
        name,
        pretrained,
        feature_cfg=features,
        pretrained_filter_fn=adapt,
        **sizes | options,
    )
