"""Do gates help a scan, and what do they close? (chapter 14)

The small ViG of `resolution_transfer` learns 1,400 framed garments and is
tested on 1,000 others. Gates, where there are any, stand behind each
direction of every scan, behind every mixer and behind every MLP:

- `ungated`;
- `frozen 0.5`, gates that stay at 0.5: what a quieter start does by itself;
- `joint`, gates and weights trained in one pass;
- `routed`, by gradient routing, as the paper of the gates trains them;
- `hard concrete`, gates that can be 0, in one pass, with a price of open
  gates in the loss from the first step on;
- `late price`, the same, with the price in the second half of training;
- `branches`, as `late price`, with no gates behind the directions.

Nothing else differs. Seeds differ in their training garments (no two seeds
share one), frames, initial weights and order; the arms of one seed share all
of that. After training, gates below 0.05 are closed and pruned; then the
network is timed in turns with an ungated one, on 50 frames.

What would count, said beforehand: differences of test accuracy are paired
by seed, and an arm differs from another if the mean difference is at least
two points and its 95 % interval (Student's t, Bonferroni over
`COMPARISONS`) leaves out 0. Behind the scans stands a norm of each head, so
that its gates may shrink together and nothing changes: there a gate counts
relative to the loudest of its head in both directions, and is closed if it
is below 0.05 of that. The directions differ in an arm if the means of these
relative gates, over blocks, differ by at least 0.1 and the interval of the
paired difference leaves out 0. Gates pay in an arm if its pruned network is
at least 1.1 times as fast in the mean, the interval of the ratio leaves out
1, and its accuracy is within two points of the ungated one's, in the mean.
If the null of `vig_ablations` holds, that a network without scans is no
worse on these garments, this study says nothing about scans either.

Rates come from `resolution_transfer` and `closing`, epochs from the time. No
arm but `ungated` had been seen on this task; chapter 14 had trained routed
gates and both prices on tasks of its own, where a price from the first step
closed scans before they were heard: hence `late price`. And one open gate of
each direction costs the merged scan: hence `branches`. Both were added, as
was the relative gate, before any run.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from ...gates import (
    HardAttentionGate,
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_penalty,
    gate_table,
    prune_gates,
    weight_parameters,
)
from ...training import fit
from ..cost import costs
from . import resolution_transfer as shared

TIMING = True
PRICED = {"hard concrete": 0.0, "late price": 0.5, "branches": 0.5}  # from
ARMS = ("ungated", "frozen 0.5", "joint", "routed", *PRICED)
COMPARISONS = {  # with which arms each is compared
    "ungated": ("joint", "routed", *PRICED),
    "frozen 0.5": ("joint",),
    "joint": ("routed",),
}
RUNS = [{"arm": arm, "seed": seed} for seed in range(1, 6) for arm in ARMS]
SOURCES = (
    *shared.SOURCES,
    "gates/*.py",
    "measure/cost.py",
    "measure/studies/vig_gates.py",
    "measure/timing.py",
    "models/gated.py",
    "routing.py",
)
EPOCHS, PENALTY, THRESHOLD = 6, 0.25, 0.05
GATE_RATE = 5e-2  # the highest of OneCycle
V = 32  # channels of a head
SITES = {
    "forward": "attn.scans.fwd",
    "backward": "attn.scans.bwd",
    "mixer": "ls1",
    "mlp": "ls2",
}


def run(arm: str, seed: int) -> dict[str, float]:
    """Train one network, then close and prune its gates.

    Returns:
        Accuracies `train` and `test`, 0 to 1. If it has gates also, for
        each kind of site, `gate <site>`, their mean, and `closed <site>`,
        the share of them below 0.05, both relative in scans; `directions`,
        how many of the six scans are pruned; of the pruned network
        `test pruned`, `multiply_adds` and `speed_up` over an ungated one.
    """
    torch.manual_seed(seed)
    net = network(arm)
    learn(net, arm, seed)
    side = shared.SIDES[0]
    result = {
        "train": shared.accuracy(net, side, seed),
        "test": shared.accuracy(net, side),
    }
    if arm == "ungated":
        return result
    return result | closed(net) | _pruned(net, side)


def network(arm: str) -> nn.Module:
    """The small ViG, with gates at every site unless it is `ungated`."""
    net = shared.small_vig()
    if arm == "ungated":
        return net
    gate = HardConcreteGate if arm in PRICED else HardAttentionGate
    sites = "auto" if arm == "branches" else "*"
    return add_gates(net, sites, 0.5 if "frozen" in arm else "paper", gate)


def learn(net: nn.Module, arm: str, seed: int) -> None:
    """Train a network as its arm says."""
    batches = shared.training_batches(seed, seed)
    steps = EPOCHS * len(batches)
    weights = Adam(weight_parameters(net))
    schedules = [OneCycleLR(weights, shared.RATE, steps)]
    gates = None
    if arm not in ("ungated", "frozen 0.5"):
        gates = Adam(gate_parameters(net))
        schedules.append(OneCycleLR(gates, GATE_RATE, steps))
    start = PRICED.get(arm, 1.0) * steps

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        error = F.cross_entropy(outputs, labels)
        priced = schedules[0].last_epoch >= start  # it counts batches
        return error + PENALTY * gate_penalty(net) if priced else error

    fit(
        net,
        batches,
        loss,
        epochs=EPOCHS,
        weight_optimizer=weights,
        gate_optimizer=gates,
        routed=arm == "routed",
        schedules=schedules,
        quiet=True,
    )


def closed(net: nn.Module) -> dict[str, float]:
    """What the gates of each kind of site have become, see `run`."""
    table = gate_table(net)
    result = {}
    scans = table.site.str.contains(".scans.", regex=False)
    shut = (table.value < THRESHOLD)[scans].groupby(table.site).all()
    heads = [
        table.site.str.replace(r"\w+$", "", regex=True),
        table.channel // V,
    ]
    loudest = table.value.groupby(heads).transform("max").where(scans, 1)
    relative = (table.value / loudest).fillna(0)  # nothing of nothing
    for name, slot in SITES.items():
        values = relative[table.site.str.endswith(slot)]
        if len(values):
            result[f"gate {name}"] = float(values.mean())
            result[f"closed {name}"] = float((values < THRESHOLD).mean())
    return result | {"directions": float(shut.sum())}


def _pruned(net: nn.Module, side: int) -> dict[str, float]:
    net = copy.deepcopy(net)
    frames, _ = next(iter(shared.training_batches(0, 0)))
    prune_gates(net, THRESHOLD, frames[:1])
    table = costs({"pruned": net, "ungated": shared.small_vig()}, frames)
    ratio = table.loc["pruned"] / table.loc["ungated"]
    return {
        "test pruned": shared.accuracy(net, side),
        "multiply_adds": float(ratio.multiply_adds),
        "speed_up": float(1 / ratio.seconds),
    }
