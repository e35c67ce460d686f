"""ViG-H: four stages, each at half the resolution of the one before.

Official: `classification/models/vig_h.py` in
https://github.com/hustvl/ViG/tree/dfb9d32
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from timm.layers.weight_init import trunc_normal_
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from .vig_backbone import Backbone, build, config
from .vig_block import Block, VisionGLA, conv_stem, downsampling


class Stage(nn.Module):
    """Blocks at one resolution, [B, h, w, C_in] -> [B, h', w', C].

    Args:
        downsample: of maps [B, C, h, w], before the blocks.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.blocks(x)


class ViGHierarchical(Backbone):
    """Stem, four stages of blocks, norm, mean, linear layer.

    Images may have any size from 16 x 16 pixels on, at any call; there is
    no position embedding.

    Args:
        dims, depths, heads: C, number of blocks and heads of each stage.
        global_pool, drop_rate, drop_path_rate: see `ViG`.
        **mixer: `scan`, `locality`, `backend`; see `VisionGLA`.
    """

    parts = "stages"
    out_indices = (0, 1, 2, 3)

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **mixer: Any,
    ):
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-5)
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
        downsamples = [
            nn.Identity(),
            *(downsampling(dim, 2 * dim) for dim in dims[:-1]),
        ]
        self.stem = conv_stem(in_chans, dims[0], 3, 2, nn.GELU())
        self.stages = nn.Sequential()
        for downsample, dim, depth, count in zip(
            downsamples, dims, depths, heads, strict=True
        ):
            blocks = [
                Block(dim, VisionGLA(dim, count, **mixer), norm, 32, rate)
                for rate in islice(rates, depth)
            ]
            self.stages.append(Stage(downsample, blocks))
        self.norm = norm(dims[-1])
        reductions = [4 * 2**index for index in range(len(dims))]
        self._finish(dims, reductions, num_classes, global_pool, drop_rate)
        self.init_weights()

    def init_weights(self) -> None:
        """As released: normal, std 0.02, for every linear layer.

        Those of the mixers too; their convolutions keep the mixers' rule.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of names, for layer-wise learning rates."""
        fine = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {
            "stem": r"^stem",
            "blocks": r"^stages\.(\d+)" if coarse else fine,
        }


default_cfgs = generate_default_cfgs(
    {
        "vig_h_tiny.in1k": config(
            hf_hub_id="hustvl/ViG", hf_hub_filename="vig_h_t_82p8acc.pth"
        ),
        "vig_h_small.untrained": config(),
        "vig_h_base.in1k": config(
            hf_hub_id="hustvl/ViG", hf_hub_filename="vig_h_b_84p2acc.pth"
        ),
    }
)


def _sizes(width: int, depth: int) -> dict[str, Any]:
    """Keys of 16 and values of 32 channels per head, at every stage."""
    dims = [width * 2**stage for stage in range(4)]
    heads = [dim // 32 for dim in dims]
    return {"dims": dims, "depths": (2, 2, depth, 2), "heads": heads}


@register_model
def vig_h_tiny(pretrained: bool = False, **options: Any) -> ViGHierarchical:
    """ViG-H-T, 28.6 million parameters."""
    sizes = _sizes(96, 5)
    return build(ViGHierarchical, "vig_h_tiny", pretrained, sizes, options)


@register_model
def vig_h_small(pretrained: bool = False, **options: Any) -> ViGHierarchical:
    """ViG-H-S, 50 million parameters."""
    sizes = _sizes(96, 17)
    return build(ViGHierarchical, "vig_h_small", pretrained, sizes, options)


@register_model
def vig_h_base(pretrained: bool = False, **options: Any) -> ViGHierarchical:
    """ViG-H-B, 88.9 million parameters."""
    sizes = _sizes(128, 17)
    return build(ViGHierarchical, "vig_h_base", pretrained, sizes, options)
