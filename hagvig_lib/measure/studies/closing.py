"""How many channels can go once gates have a reason to close? (chapter 2)

A small transformer and a small CNN with gates learn 2,000 pictures of
Fashion-MNIST: under the loss alone, with sigmoid gates and a penalty, and
with hard-concrete gates and a penalty. Everything else is the same. Then
channels are removed without training again, those with the lowest gates
first and, for comparison, in random order. A channel is free if it can go
at a price, with all before it, of at most two points of test accuracy.

What would count, said beforehand, over paired seeds: an arm makes room if
its share of free channels exceeds that of the loss alone by more than 0.1
and the 95 % interval of the difference leaves out 0; gates know which
channels matter if lowest first exceeds random order by the same standard.
The strengths were chosen on seed 0, which is not in the study.
"""

import copy
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data import fashion_mnist
from ...gates import (
    HardAttentionGate,
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_penalty,
    sparsity,
    weight_parameters,
)
from ...training import Batches, fit
from .breadth import transformer

SEEDS = range(1, 6)
ARMS = {
    "loss alone": (HardAttentionGate, 0.0),
    "penalty 1": (HardAttentionGate, 1.0),
    "penalty 4": (HardAttentionGate, 4.0),
    "hard concrete 0.25": (HardConcreteGate, 0.25),
    "hard concrete 1": (HardConcreteGate, 1.0),
}
RUNS = [
    {"network": network, "arm": arm, "seed": seed}
    for network in ("vit", "cnn")
    for arm in ARMS
    for seed in SEEDS
]
SOURCES = (
    "gates/*.py",
    "training/batches.py",
    "training/loop.py",
    "data/fashion_mnist.*",
    "measure/studies/breadth.py",
    "measure/studies/closing.py",
)
SHARES = [step / 20 for step in range(20)]  # of the channels, removed
EPOCHS, BATCH, TRAIN, TEST = 10, 50, 2000, 1000
LEARNING_RATES = [5e-3, 5e-2]  # at most, of weights and gates
PRICE = 0.02  # of accuracy, for channels that count as free


def small_network(name: str) -> nn.Module:
    """A transformer with 288 channels to gate, or a CNN with 240."""
    if name == "vit":
        return transformer()
    return timm.create_model(
        "resnet18",
        layers=(1, 1, 1, 1),
        in_chans=1,
        num_classes=10,
        channels=(16, 32, 64, 128),
        stem_type="deep",
        stem_width=8,
    )


def run(network: str, arm: str, seed: int) -> dict[str, Any]:
    """Train one network, then remove channels.

    Returns:
        `closed`, the share of gates below 0.05; for each order, `lowest`
        and `random`, the test accuracy at each share in `SHARES`, and the
        share of free channels, `free_lowest` and `free_random`.
    """
    train, test = fashion_mnist.load()
    gate, strength = ARMS[arm]
    torch.manual_seed(seed)
    net = small_network(network)
    add_gates(net, gate=gate)
    groups = [weight_parameters(net), gate_parameters(net)]
    optimizer = torch.optim.Adam([{"params": group} for group in groups])
    inputs = fashion_mnist.normalise(train.images[:TRAIN])
    batches = Batches(inputs, train.labels[:TRAIN], BATCH, seed)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATES, EPOCHS * len(batches)
    )
    fit(
        net,
        batches,
        lambda out, labels: (
            F.cross_entropy(out, labels) + strength * gate_penalty(net)
        ),
        epochs=EPOCHS,
        weight_optimizer=optimizer,
        schedules=[schedule],
        quiet=True,
    )
    net.eval()
    images = fashion_mnist.normalise(test.images[:TEST])

    def accuracy(order: Tensor, share: float) -> float:
        fewer = without(net, order[: round(share * len(order))])
        right = fewer(images).argmax(1) == test.labels[:TEST]
        return right.double().mean().item()

    logits = torch.cat([p.detach() for p in gate_parameters(net)])
    orders = {
        "lowest": logits.argsort(),
        "random": torch.randperm(len(logits)),
    }
    result: dict[str, Any] = {"closed": sparsity(net, 0.05)}
    for name, order in orders.items():
        with torch.no_grad():
            curve = [accuracy(order, share) for share in SHARES]
        dear = [a < curve[0] - PRICE for a in curve]
        first = dear.index(True) if True in dear else len(dear)
        result |= {name: curve, f"free_{name}": SHARES[first - 1]}
    return result


@torch.no_grad()
def without(net: nn.Module, channels: Tensor) -> nn.Module:
    """A copy in which some gates, numbered through the sites, are 0."""
    net = copy.deepcopy(net)
    gates = gate_parameters(net)
    closed = torch.zeros(sum(map(len, gates)), dtype=torch.bool)
    closed[channels] = True
    widths = [len(logits) for logits in gates]
    for logits, mask in zip(gates, closed.split(widths), strict=True):
        logits[mask] = -6e4  # as `harden` does
    return net
