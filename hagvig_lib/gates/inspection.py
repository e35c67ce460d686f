"""What the gates of a model are: parameters, values, how many are closed."""

import pandas as pd
import torch
from torch import nn

from .gate import HardAttentionGate


def find_gates(
    model: nn.Module, unique: bool = True
) -> dict[str, HardAttentionGate]:
    """Module name -> gate; empty for a model without gates."""
    return {
        name: module
        for name, module in model.named_modules(remove_duplicate=unique)
        if isinstance(module, HardAttentionGate)
    }


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The logits of every gate, each once; empty without gates."""
    logits = {id(gate.logits) for gate in find_gates(model).values()}
    return [p for p in model.parameters() if id(p) in logits]


def weight_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters that are not gates, each once."""
    logits = {id(gate.logits) for gate in find_gates(model).values()}
    return [p for p in model.parameters() if id(p) not in logits]


def named_gates(model: nn.Module) -> dict[str, HardAttentionGate]:
    """The gates of a model by site, in the order of computation.

    Raises:
        ValueError: the model has none.
    """
    gates = find_gates(model)
    if not gates:
        raise ValueError(
            f"{type(model).__name__} has no gates: call add_gates first"
        )
    return {name.removesuffix(".gate"): gates[name] for name in gates}


def gate_table(model: nn.Module) -> pd.DataFrame:
    """One row per gate: site, channel, value (0 to 1) and logit.

    Raises:
        ValueError: the model has no gates.
    """
    rows = [
        (site, channel, value, logit)
        for site, gate in named_gates(model).items()
        for channel, (value, logit) in enumerate(
            zip(gate.values().tolist(), gate.logits.tolist(), strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=["site", "channel", "value", "logit"])


def sparsity(model: nn.Module, threshold: float) -> float:
    """The share of gates, 0 to 1, with a value below a threshold in (0, 1).

    Raises:
        ValueError: the threshold is not in (0, 1), or there are no gates.
    """
    check_threshold(threshold)
    values = torch.cat([gate.values() for gate in named_gates(model).values()])
    return (values < threshold).double().mean().item()


def check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}: give a value in (0, 1)")
