"""Plain ViG: one resolution from the stem to the head.

Official: `classification/models/vig.py` in
https://github.com/hustvl/ViG/tree/dfb9d32
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.weight_init import trunc_normal_
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from .vig_backbone import Backbone, build, config
from .vig_block import NORM_EPS, Block, VisionGLA, conv_stem

GRID = 14  # of the position embedding: 224 pixels, stride 16


class ViG(Backbone):
    """Stem, position embedding, `depth` blocks, norm, mean, linear layer.

    Images may have any size from 16 x 16 pixels on, at any call: the
    position embedding is resized to their grid, and there is no `img_size`.

    Args:
        dim: C, of every map.
        depth: number of blocks.
        heads: of the scans.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" for none.
        drop_rate: dropout before the last linear layer.
        drop_path_rate: of the last block; linear from 0 at the first.
        **mixer: `act`, `scan`, `locality`, `halving`, `backend`; see
            `VisionGLA`.
    """

    parts = "blocks"
    out_indices = 3  # the last three, as of timm's ViT
    released_halving = "official-eval"

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **mixer: Any,
    ):
        super().__init__()
        norm = partial(nn.RMSNorm, eps=NORM_EPS)
        rates = np.linspace(0, drop_path_rate, depth).tolist()
        self.stem = conv_stem(in_chans, dim, 9, 8, nn.SiLU())
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID**2, dim))
        self.blocks = nn.Sequential(
            *(
                Block(dim, VisionGLA(dim, heads, **mixer), norm, 256, rate)
                for rate in rates
            )
        )
        self.norm = norm(dim)
        self._finish(
            [dim] * depth, [16] * depth, num_classes, global_pool, drop_rate
        )
        self.init_weights()

    def init_weights(self) -> None:
        """As released: normal, std 0.02, but for the mixers' own rule."""
        trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, VisionGLA):
                module.init_weights()

    def no_weight_decay(self) -> set[str]:
        """For timm's optimizer factory.

        The released recipe decays the position embedding: so does
        `timm.optim.param_groups_weight_decay(model, decay)`, which does not
        ask here.
        """
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of names, for layer-wise learning rates."""
        return {
            "stem": r"^stem|^pos_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def _embed(self, x: Tensor) -> Tensor:
        x = super()._embed(x)
        grid = list(x.shape[1:3])
        position = resample_abs_pos_embed(
            self.pos_embed, grid, num_prefix_tokens=0, antialias=False
        )
        return x + position.unflatten(1, grid)


default_cfgs = generate_default_cfgs(
    {
        f"vig_{size}_patch16_224.untrained": config()
        for size in ("tiny", "small", "base")
    }
)


@register_model
def vig_tiny_patch16_224(pretrained: bool = False, **options: Any) -> ViG:
    """ViG-T, 5.8 million parameters; the one with SiLUs in its mixers."""
    sizes = {"dim": 192, "depth": 12, "heads": 3, "act": True}
    return build(ViG, "vig_tiny_patch16_224", pretrained, sizes, options)


@register_model
def vig_small_patch16_224(pretrained: bool = False, **options: Any) -> ViG:
    """ViG-S, 22.6 million parameters."""
    sizes = {"dim": 384, "depth": 12, "heads": 6}
    return build(ViG, "vig_small_patch16_224", pretrained, sizes, options)


@register_model
def vig_base_patch16_224(pretrained: bool = False, **options: Any) -> ViG:
    """ViG-B, 89 million parameters."""
    sizes = {"dim": 768, "depth": 12, "heads": 12}
    return build(ViG, "vig_base_patch16_224", pretrained, sizes, options)
