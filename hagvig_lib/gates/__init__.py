"""Hard-attention gates, or feature-selection gates (arXiv 2407.04400).

===================  ==================  =========================  =========
paper                here                shape                      range
===================  ==================  =========================  =========
w_i                  `logits[i]`         [channels]                 real
f_i = sigmoid(w_i)   `gate.values()[i]`  [channels]                 0 to 1
X                    `x`                 [B, N, C] or [B, C, H, W]  real
X_att = F ⊙ X        `gate(x)`           as `x`                     real
===================  ==================  =========================  =========

A site is a place where a model can hold a gate. Put gates in with
`add_gates`, read them with `gate_table` and `sparsity`, train them apart
from the weights with `gate_parameters` and `weight_parameters`. The paper
ends here; we add `HardConcreteGate`, `gate_penalty`, `harden` and
`prune_gates`.
"""

from .closing import HardConcreteGate, gate_penalty, harden
from .gate import HardAttentionGate
from .inspection import (
    gate_parameters,
    gate_table,
    named_gates,
    sparsity,
    weight_parameters,
)
from .pruning import PruneReport, prune_gates
from .sites import add_gates, gate_sites

__all__ = [
    "HardAttentionGate",
    "HardConcreteGate",
    "PruneReport",
    "add_gates",
    "gate_parameters",
    "gate_penalty",
    "gate_sites",
    "gate_table",
    "harden",
    "named_gates",
    "prune_gates",
    "sparsity",
    "weight_parameters",
]
