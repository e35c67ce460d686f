"""The block of ViG (arXiv 2405.18425), the same in both families.

ViG is vision with gated linear attention, not Vision GNN, which shares the
name. Maps are [B, h, w, C] here; rows of pixels, top to bottom, are the
T = h w tokens of the scans.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.layers.mlp import SwiGLUPacked
from timm.layers.norm import LayerNorm2d
from timm.models import checkpoint
from torch import Tensor, nn

from ..gla import bidirectional_gla, gla
from ..gla.reference import accumulation_dtype

SCANS = ("direction-wise", "shared-gate", "one-direction")
HALVINGS = ("mean", "official-eval")
GATE_RANK = 16
GATE_TEMPERATURE = 16  # tau: alpha = sigmoid(logits) ** (1 / tau)
NORM_EPS = 1e-6
# Of the layers in a mixer; small, so that a block starts as its local half.
XAVIER_GAIN = 2**-2.5


class HeadNorm(nn.RMSNorm):
    """In the dtype of its weight: autocast would hand it half precision."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class VisionGLA(nn.Module):
    """Two scans and a convolution, mixed by a gate at every place.

    `x = conv(x)` feeds all projections. The scans share q, k and v; each
    has gates of its own (direction-wise gating). Their mean `o` and the
    local `x` are normalised per head and mixed (2D gating locality
    injection): `G = sigmoid(locality(x))`,
    `y = proj(scan_norm(o) * G + local_norm(x) * (1 - G))`.

    To train a plain ViG from scratch take bfloat16 or float32: `o` starts at
    3e-9, which is 0 in float16. The places `scans` are for gates; while both
    are empty the scans run merged and no hook on them is called.

    Args:
        dim: C; keys have C / 2 channels, values C, over all heads.
        act: SiLU after the convolution and before `proj`. Only the released
            ViG-T has them; the paper's figure does not.
        scan: "direction-wise"; or, to ablate, "shared-gate" (one gate for
            both directions) or "one-direction" (forward only).
        locality: False, to ablate: neither convolution nor local branch,
            `y = proj(scan_norm(o))`.
        halving: "mean" of the directions; or "official-eval", in evaluation
            half the mean, as the released code of plain ViG has it. The
            norm after it hides the factor but for its eps.
        backend: see `hagvig_lib.gla.gla`.

    Raises:
        ValueError: `dim` is no multiple of `2 * heads`, or an unknown choice.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        act: bool = False,
        scan: str = "direction-wise",
        locality: bool = True,
        halving: str = "mean",
        backend: str = "auto",
    ):
        super().__init__()
        if dim % (2 * heads):
            raise ValueError(
                f"dim is {dim}, heads is {heads}: dim must be a multiple of "
                f"2 * heads, for keys have dim / 2 channels"
            )
        _check_choice("scan", scan, SCANS)
        _check_choice("halving", halving, HALVINGS)
        self.heads = heads
        self.halving, self.backend = halving, backend
        gates = dim if scan == "direction-wise" else dim // 2
        if locality:
            self.conv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim, bias=False)
            self.locality = nn.Linear(dim, dim)
            self.local_norm = HeadNorm(dim // heads, NORM_EPS)
        else:
            self.conv = self.locality = self.local_norm = None
        self.qkv = nn.Linear(dim, 2 * dim, bias=False)
        self.gate = nn.Sequential(
            nn.Linear(dim, GATE_RANK, bias=False), nn.Linear(GATE_RANK, gates)
        )
        names = ["fwd"] if scan == "one-direction" else ["fwd", "bwd"]
        self.scans = nn.ModuleDict({name: nn.Identity() for name in names})
        self.scan_norm = HeadNorm(dim // heads, NORM_EPS)
        self.act = nn.SiLU() if act else nn.Identity()
        self.proj = nn.Linear(dim, dim, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier with a gain of 2^-2.5 for all layers, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, XAVIER_GAIN)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        grid = x.shape[1:3]
        if self.conv is not None:
            x = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = self.act(x).flatten(1, 2)
        y = self.scan_norm(self._scan(x))
        if self.locality is not None and self.local_norm is not None:
            mix = self._heads(self.locality(x)).sigmoid()
            y = y * mix + self.local_norm(self._heads(x)) * (1 - mix)
        return self.proj(self.act(y.flatten(2))).unflatten(1, grid)

    def _scan(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, H, V]."""
        half = x.shape[-1] // 2
        q, k, v = self.qkv(x).split([half, half, 2 * half], -1)
        q, k, v = (self._heads(part) for part in (q, k, v))
        scale = q.shape[-1] ** -0.5
        if self.halving == "official-eval" and not self.training:
            scale /= 2
        logits = self.gate(x)
        logits = logits.to(accumulation_dtype(logits.dtype))
        log_gates = F.logsigmoid(logits) / GATE_TEMPERATURE
        gates = [self._heads(part) for part in log_gates.split(half, -1)]
        scale /= len(self.scans)
        options: Any = {"scale": scale, "backend": self.backend}
        if [type(s) for s in self.scans.values()] == 2 * [nn.Identity]:
            return bidirectional_gla(q, k, v, gates[0], gates[-1], **options)
        outputs = []
        for name, gate in zip(self.scans, 2 * gates, strict=False):
            reverse = name == "bwd"
            o = gla(q, k, v, gate, reverse=reverse, **options)
            outputs.append(self._heads(self.scans[name](o.flatten(2))))
        return sum(outputs[1:], outputs[0])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class Block(nn.Module):
    """Mixer and SwiGLU, each behind a norm and beside a shortcut.

    `ls1` and `ls2` hold nothing: places for gates, where timm's ViT has its
    LayerScale.

    Args:
        mixer: of maps [B, h, w, C].
        norm_layer: makes a norm over the last of `dim` channels.
        mlp_step: the inner width of the SwiGLU is 8/3 `dim`, rounded down
            to an integer and then up to a multiple of this.
        drop_path: the rate at which a branch is left out in training.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        norm_layer: Callable[[int], nn.Module],
        mlp_step: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        inner = -(-(8 * dim // 3) // mlp_step) * mlp_step
        self.norm1 = norm_layer(dim)
        self.attn = mixer
        self.ls1 = nn.Identity()
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = SwiGLUPacked(dim, 2 * inner, bias=False)
        self.ls2 = nn.Identity()
        self.drop_path2 = DropPath(drop_path)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        if self.grad_checkpointing:
            return checkpoint(self._residuals, x)
        return self._residuals(x)

    def _residuals(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def conv_stem(
    in_chans: int, dim: int, kernel: int, stride: int, act: nn.Module
) -> nn.Sequential:
    """Two convolutions, [B, in_chans, H, W] -> [B, dim, h, w].

    Args:
        kernel, stride: of the first; the second has 3 and 2.
    """
    return nn.Sequential(
        nn.Conv2d(in_chans, dim // 2, kernel, stride, 1),
        LayerNorm2d(dim // 2, eps=1e-5),
        act,
        *downsampling(dim // 2, dim),
    )


def downsampling(in_chans: int, dim: int) -> nn.Sequential:
    """Half the height and width: [B, in_chans, H, W] -> [B, dim, h, w]."""
    return nn.Sequential(
        nn.Conv2d(in_chans, dim, 3, 2, 1), LayerNorm2d(dim, eps=1e-5)
    )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose one of {choices}")
