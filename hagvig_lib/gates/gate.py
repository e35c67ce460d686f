"""The gate itself: one learned number per channel, the same for every input.

Paper: arXiv 2407.04400, f_i = sigmoid(w_i), X_att = F ⊙ X.
Official: `fsg_vision_transformers.py`, lines 200-203 and 218-223, in
https://github.com/cosmoimd/feature-selection-gates/tree/8d0be63
"""

import math

import torch
from torch import Tensor, nn

OPEN_LOGIT = 14.0  # 1 - sigmoid(14) = 8.3e-7


class HardAttentionGate(nn.Module):
    """Multiplies channel i by sigmoid(logits[i]).

    The parameter `logits` is [channels]. "Hard" is the paper's word: the
    gate is soft, and closes for good only by `harden`.

    Args:
        channels: size of the gated dimension.
        dim: which dimension that is: -1 for tokens [B, N, C], 1 for
            feature maps [B, C, H, W].
        init: "paper", normal logits of the released code, so that gates
            start at about 0.5; "open", logits of 14, which leave the
            input as it is to 1e-6 but hardly learn, because the slope of
            the sigmoid there is 8.3e-7 (0 in half precision); or a number
            in (0, 1), the value at which every gate starts.

    Raises:
        ValueError: `init` is none of these.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        init: str | float = "paper",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if init not in ("paper", "open") and not (
            isinstance(init, float) and 0 < init < 1
        ):
            raise ValueError(
                f"init is {init!r}: give 'paper', 'open' or a float in (0, 1)"
            )
        self.channels = channels
        self.dim = dim
        self.init = init
        self.logits = nn.Parameter(
            torch.empty(channels, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if isinstance(self.init, float):
            nn.init.constant_(self.logits, self.logit_of(self.init))
        elif self.init == "open":
            nn.init.constant_(self.logits, OPEN_LOGIT)
        else:  # Xavier on a [1, channels] tensor, as released
            std = math.sqrt(2 / (1 + self.channels))
            nn.init.normal_(self.logits, std=std)

    @staticmethod
    def logit_of(value: float) -> float:
        """The logit at which the gate has this value in (0, 1)."""
        return math.log(value / (1 - value))

    def values(self) -> Tensor:
        """The gates as they multiply in evaluation: [channels], 0 to 1."""
        return self.logits.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Gate `x`; shape and dtype stay.

        Raises:
            ValueError: `x` has another number of channels at `dim`.
        """
        return self.scale(x, self.values())

    def scale(self, x: Tensor, values: Tensor) -> Tensor:
        """Multiply the channels of `x` by `values`, [channels]."""
        if x.shape[self.dim] != self.channels:
            raise ValueError(
                f"the gate has {self.channels} channels, the input "
                f"{tuple(x.shape)} has {x.shape[self.dim]} at dim {self.dim}: "
                "build the gate with that number, or check dim"
            )
        dims_after = x.ndim - 1 - self.dim % x.ndim
        # Under autocast the gate follows x, not the other way round.
        return x * values.to(x.dtype).view(-1, *[1] * dims_after)

    def extra_repr(self) -> str:
        return f"{self.channels}, dim={self.dim}, init={self.init!r}"
