"""Do gates help a scan, and what do they close? (chapter 14)

The small ViG of `resolution_transfer` learns 1,400 framed garments and is
tested on 1,000 others. Gates, where there are any, stand behind each
direction of every scan, behind every mixer and behind every MLP:

- `ungated`;
- `frozen 0.5`, gates that stay at 0.5: what a quieter start does by itself;
- `joint`, gates and weights trained in one pass;
- `routed`, by gradient routing, as the paper of the gates trains them;
- `early price`, gates that can be 0 (hard concrete), in one pass, with a
  price of open gates in the loss from the first step on;
- `late price`, the same, with the price after a third of the training;
- `branches`, as `late price`, with no gates behind the directions.

Nothing else differs. Seeds differ in their training garments (no two seeds
share one), frames, initial weights and order; the arms of one seed share all
of that. After training, gates below 0.05 are closed and pruned.

What would count, said beforehand: differences of test accuracy are paired
by seed, and an arm differs from another if the mean difference is at least
two points and its 95 % interval (Student's t, Bonferroni over
`COMPARISONS`) leaves out 0. Gates help if an arm with trained gates is
better than `ungated`, and their learning does if it is better than `frozen
0.5` too. Behind the scans stands a norm of each head, so that its gates may
shrink together and nothing changes: there a gate counts relative to the
loudest of its head in both directions, and is closed if it is below 0.05 of
that. The directions differ in an arm if the means of these relative gates,
over blocks, differ by at least 0.1 and the interval of the paired difference
(Bonferroni over `TRAINED`) leaves out 0. Gates pay in an arm if its pruned
network needs at most 0.9 of the multiply-adds of the ungated one, and the
interval of its accuracy minus the ungated one's lies above minus two points;
what that is in time, `vig_gates_speed` measures. If the null of
`vig_ablations` holds, that a network without scans is no worse on these
garments, this study says nothing about scans either.

A direction closed in at least nine tenths of its channels, in the mean over
seeds, was shut before it was heard if its gates stood below 0.05 when its
scan first passed 1e-3, the root of the norm's epsilon. If not, it was needed
all the same where leaving it out of the unpruned network costs two points or
more, and else not needed.

Gates' rate and the price of one gate are those of `closing`, the weights'
rate that of `resolution_transfer`, epochs those of `vig_ablations`. On a
seed that nobody noted, `ungated`, `routed` and prices from the first step
and from half of the training had been tried. On tasks of chapter 14 an early
price closed scans before they were heard: hence `late price`. One open gate
of each direction costs the merged scan: hence `branches`.
"""

import copy
from functools import partial
from typing import Any

import pandas as pd
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
    named_gates,
    prune_gates,
    weight_parameters,
)
from ...training import fit
from . import resolution_transfer as shared
from .vig_ablations import EPOCHS

PRICED = {"early price": 0.0, "late price": 1 / 3, "branches": 1 / 3}  # from
TRAINED = ("joint", "routed", *PRICED)
ARMS = ("ungated", "frozen 0.5", *TRAINED)
COMPARISONS = {  # with which arms each is compared
    "ungated": TRAINED,
    "frozen 0.5": ("joint", "routed", "late price"),
    "joint": ("routed",),
    "early price": ("late price",),
}
RUNS = [{"arm": arm, "seed": seed} for seed in range(1, 7) for arm in ARMS]
SOURCES = (
    *shared.SOURCES,
    "gates/*.py",
    "measure/studies/vig_ablations.py",
    "measure/studies/vig_gates.py",
    "models/gated.py",
    "routing.py",
)
PRICE = 0.25 / 288  # of one open gate; a transformer of `closing` has 288
GATE_RATE = 5e-2  # the highest of OneCycle
THRESHOLD, HEARD = 0.05, 1e-3
SIDE = shared.SIDES[0]
V = 32  # channels of a head
DIRECTIONS = {"forward": "fwd", "backward": "bwd"}
SITES = {name: f"attn.scans.{key}" for name, key in DIRECTIONS.items()}
SITES |= {"mixer": "ls1", "mlp": "ls2"}


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one network, then close and prune its gates.

    Returns:
        Accuracies, 0 to 1: `train`, `test` and `test without <direction>`,
        of every scan. With gates also what `closed` gives and, of the pruned
        network, `test pruned` and `multiply_adds` over the ungated one's.
        With gates behind directions also `heard <direction>`: the mean of
        its gates when its scan first passed 1e-3 rms, averaged over blocks.
    """
    torch.manual_seed(seed)
    net = network(arm)
    heard = learn(net, arm, seed)
    result = {
        "train": shared.accuracy(net, SIDE, seed),
        "test": shared.accuracy(net, SIDE),
    }
    for name in DIRECTIONS:
        scans_left = without(net, name)
        result[f"test without {name}"] = shared.accuracy(scans_left, SIDE)
    if arm == "ungated":
        return result
    return result | heard | closed(net) | _pruned(net)


def network(arm: str) -> Any:
    """The small ViG, with gates at every site unless it is `ungated`."""
    net = shared.small_vig()
    if arm == "ungated":
        return net
    gate = HardConcreteGate if arm in PRICED else HardAttentionGate
    sites = "auto" if arm == "branches" else "*"
    return add_gates(net, sites, 0.5 if "frozen" in arm else "paper", gate)


def learn(net: nn.Module, arm: str, seed: int) -> dict[str, float]:
    """Train a network as its arm says.

    Returns:
        `heard <direction>`, as `run`.
    """
    batches = shared.training_batches(seed, seed)
    steps = EPOCHS * len(batches)
    weights, gates = Adam(weight_parameters(net)), None
    schedules = [OneCycleLR(weights, shared.RATE, steps)]
    if arm in TRAINED:
        gates = Adam(gate_parameters(net))
        schedules.append(OneCycleLR(gates, GATE_RATE, steps))
    start = PRICED.get(arm, 1.0) * steps
    price = PRICE * sum(logits.numel() for logits in gate_parameters(net))

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        error = F.cross_entropy(outputs, labels)
        priced = schedules[0].last_epoch >= start  # it counts batches
        return error + price * gate_penalty(net) if priced else error

    frames = shared.training_batches(0, 0).inputs[: shared.BATCH]
    history = fit(
        net,
        batches,
        loss,
        epochs=EPOCHS,
        weight_optimizer=weights,
        gate_optimizer=gates,
        routed=arm == "routed",
        schedules=schedules,
        each_epoch=partial(_listen, frames=frames) if price else None,
        quiet=True,
    )
    return _when_heard(history)


def without(net: Any, direction: str) -> Any:
    """A copy that leaves one direction out of every scan."""
    net = copy.deepcopy(net)
    for block in net.blocks:
        silent = HardAttentionGate(len(block.norm1.weight), dim=-1)
        silent.logits.data.fill_(-6e4)  # exactly 0
        block.attn.scans[DIRECTIONS[direction]] = silent
    return net


def closed(net: nn.Module) -> dict[str, Any]:
    """What the gates have become, for each kind of site or, `shut`, site.

    Returns:
        `gate <kind>`, the mean of its gates, and `closed <kind>`, the share
        of them below 0.05, both relative in scans; `shut`, how many gates of
        each site are below 0.05.
    """
    table = gate_table(net)
    result = {}
    scans = table.site.str.contains(".scans.", regex=False)
    heads = [table.site.str[:-3], table.channel // V]  # of both directions
    loudest = table.value.groupby(heads).transform("max").where(scans, 1)
    relative = (table.value / loudest).fillna(0)  # nothing of nothing
    for name, slot in SITES.items():
        values = relative[table.site.str.endswith(slot)]
        if len(values):
            result[f"gate {name}"] = float(values.mean())
            result[f"closed {name}"] = float((values < THRESHOLD).mean())
    shut = (table.value < THRESHOLD).groupby(table.site, sort=False).sum()
    return result | {"shut": shut.tolist()}


@torch.no_grad()
def _listen(net: nn.Module, frames: Tensor) -> dict[str, float]:
    """`loud <site>`, rms in front of its gate, and `open <site>`, its mean."""
    heard, hooks = {}, []
    for site, gate in named_gates(net).items():
        if ".scans." in site:

            def hear(gate, inputs, site=site):
                rms = inputs[0].square().mean().sqrt()
                heard[f"loud {site}"] = float(rms)
                heard[f"open {site}"] = float(gate.values().mean())

            hooks.append(gate.register_forward_pre_hook(hear))
    net(frames)
    for hook in hooks:
        hook.remove()
    return heard


def _when_heard(history: pd.DataFrame) -> dict[str, float]:
    """`heard <direction>`, as `run`; of a scan never heard, its last gates."""
    result = {}
    for name, slot in DIRECTIONS.items():
        gates = history.filter(regex=f"^open .*{slot}$")
        if gates.empty:
            continue
        loud = history[gates.columns.str.replace("open", "loud")] > HEARD
        loud.iloc[-1] = True
        first = loud.to_numpy().argmax(0)
        values = gates.to_numpy()[first, range(len(first))]
        result[f"heard {name}"] = float(values.mean())
    return result


def _pruned(net: nn.Module) -> dict[str, float]:
    net = copy.deepcopy(net)
    frames = shared.training_batches(0, 0).inputs[:1]
    report = prune_gates(net, THRESHOLD, frames)
    before, after = report.costs.multiply_adds
    test = shared.accuracy(net, SIDE)
    return {"test pruned": test, "multiply_adds": after / before}
