"""How fast are the networks of `vig_gates` once they are pruned?

What pruning saves depends on how many gates of each site are closed, and
not on which: so a network with as many closed gates at every site as a
trained one had, by the record of `vig_gates`, is as fast. Each is pruned and
timed in turns with an ungated one on 50 frames, one thread. A time is kept
only if the network needs the multiply-adds that the record states.

No standard of its own: whether gates pay, `vig_gates` says. Three blocks of
64 channels spend much of their time between layers, so that a network that
lost a tenth of its products need not be faster by a tenth.
"""

import torch

from ...gates import named_gates, prune_gates
from .. import records
from ..cost import costs
from . import resolution_transfer as shared
from . import vig_gates

TIMING = True
RUNS = [run for run in vig_gates.RUNS if run["arm"] in vig_gates.TRAINED]
SOURCES = (
    *vig_gates.SOURCES,
    "measure/cost.py",
    "measure/records/vig_gates.json",
    "measure/studies/vig_gates_speed.py",
    "measure/timing.py",
)


def run(arm: str, seed: int) -> dict[str, float]:
    """Prune a network as a trained one was pruned, and time it.

    Returns:
        `multiply_adds` over the ungated network's, and `speed_up` over it.

    Raises:
        ValueError: there is no such row in the record.
        RuntimeError: other multiply-adds than the record's.
    """
    rows = records.load("vig_gates").rows
    if rows.empty:
        raise ValueError("vig_gates has no record: measure it first")
    row = rows.query("arm == @arm and seed == @seed").iloc[0]
    torch.manual_seed(seed)
    net = vig_gates.network(arm)
    gates = named_gates(net).values()
    for count, gate in zip(row["shut"], gates, strict=True):
        gate.logits.data.fill_(6e4)
        gate.logits.data[:count] = -6e4
    frames = shared.training_batches(0, 0).inputs[: shared.BATCH]
    prune_gates(net, vig_gates.THRESHOLD, frames[:1])
    table = costs({"pruned": net, "ungated": shared.small_vig()}, frames, 5)
    ratio = table.loc["pruned"] / table.loc["ungated"]
    if abs(ratio.multiply_adds / row.multiply_adds - 1) > 1e-6:
        raise RuntimeError(
            f"{arm}, seed {seed}: {ratio.multiply_adds} of the multiply-adds, "
            f"the record says {row.multiply_adds}: measure vig_gates again"
        )
    products, speed_up = float(ratio.multiply_adds), float(1 / ratio.seconds)
    return {"multiply_adds": products, "speed_up": speed_up}
