"""What models cost: parameters, multiply-adds, seconds."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .timing import interleaved


@torch.no_grad()
def costs(
    models: Mapping[str, nn.Module], example: Tensor, rounds: int = 10
) -> pd.DataFrame:
    """What one forward pass of each model costs; sets evaluation mode.

    Args:
        models: name -> model, all fit for `example`.
        example: the input, with its batch.
        rounds: timed passes of each model, in turns.

    Returns:
        One row per name: `parameters`, `multiply_adds` (of matrix products
        and convolutions) and `seconds` (median).
    """

    def forward(model: nn.Module) -> Tensor:
        return model(example).cpu()  # waits for a GPU

    counts = {}
    for name, model in models.items():
        with FlopCounterMode(display=False) as counter:
            model.eval()(example)
        parameters = sum(p.numel() for p in model.parameters())
        counts[name] = parameters, counter.get_total_flops() // 2
    table = pd.DataFrame(counts, index=["parameters", "multiply_adds"]).T
    forwards = {name: partial(forward, models[name]) for name in models}
    return table.assign(seconds=interleaved(forwards, rounds)["median"])
