"""Closing gates: a penalty, a threshold, and a gate that reaches 0.

We add all of this. The paper neither penalises nor rounds its gates, and
none of them is ever 0.
"""

import math

import torch
from torch import Tensor, nn

from .gate import HardAttentionGate
from .inspection import check_threshold, named_gates


class HardConcreteGate(HardAttentionGate):
    """A gate that can be exactly 0 or 1 and still learn.

    We add it, after Louizos et al. 2018 (arXiv 1712.01312, the hard
    concrete distribution); their log(alpha) is `logits`. Each forward pass
    in training draws a noise per channel; evaluation draws none.
    """

    temperature = 2 / 3  # beta
    low, high = -0.1, 1.1  # gamma, zeta: the sigmoid is stretched to this

    @classmethod
    def logit_of(cls, value: float) -> float:
        unstretched = (value - cls.low) / (cls.high - cls.low)
        return math.log(unstretched / (1 - unstretched))

    def values(self) -> Tensor:
        return self._stretch(self.logits)

    def sample(self) -> Tensor:
        """Noisy gates as they multiply in training: [channels], 0 to 1."""
        # In half precision the noise would have a few hundred levels.
        noise = torch.rand_like(self.logits, dtype=torch.float32).logit(1e-6)
        return self._stretch((noise + self.logits) / self.temperature)

    def open_probability(self) -> Tensor:
        """P(gate > 0) in training: [channels]."""
        shift = self.temperature * math.log(-self.low / self.high)
        return (self.logits - shift).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.sample() if self.training else self.values())

    def _stretch(self, logits: Tensor) -> Tensor:
        stretched = logits.sigmoid() * (self.high - self.low) + self.low
        return stretched.clamp(0, 1)


def gate_penalty(model: nn.Module) -> Tensor:
    """How open the gates are on average, 0 to 1; add a multiple to the loss.

    We add it. A gate counts as its value, a `HardConcreteGate` as the
    probability that it is not 0.

    Raises:
        ValueError: the model has no gates.
    """
    openness = [
        gate.open_probability()
        if isinstance(gate, HardConcreteGate)
        else gate.values()
        for gate in named_gates(model).values()
    ]
    return torch.cat(openness).mean()


@torch.no_grad()
def harden(model: nn.Module, threshold: float, binary: bool = False) -> int:
    """Close every gate whose value is below the threshold, in place.

    We add it. A closed gate is exactly 0 and so is its gradient: it stays
    closed, unless a weight decay that is coupled with momentum (SGD, Adam)
    moves its logit. Give gates no weight decay.

    Args:
        threshold: in (0, 1).
        binary: also open all others to exactly 1.

    Returns:
        How many gates are closed.

    Raises:
        ValueError: the threshold is not in (0, 1), or there are no gates.
    """
    check_threshold(threshold)
    closed_gates = 0
    for gate in named_gates(model).values():
        # Not infinity: an average of weights (EMA) would make inf - inf =
        # nan of it. float16 ends at 65504.
        limit = 6e4
        closed = gate.values() < threshold
        gate.logits[closed] = -limit
        if binary:
            gate.logits[~closed] = limit
        closed_gates += int(closed.sum())
    return closed_gates
