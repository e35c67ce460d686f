"""What does a routed step cost, against a plain one? (chapter 3)

Three ways to step a gated network on the same batch of 224-pixel images,
timed in turns: `plain`, one pass for all parameters; `routed`, by
`GradientRouter`; `full`, two passes that both compute every gradient. Each
run without and with `torch.compile`. Before anything is timed, a run checks
that the routed step does what it should.

What would count, said beforehand: routed costs at most 1.9 plain steps for
the transformer and 1.7 for the ResNet, whose first pass needs no backward
through its first stage; the upper end of the interval over the runs has to
stay below. Compiled, the saving holds if that interval lies below the one of
`full`; one compiled run of each network had been seen before this was
written. The first call of each loop is the warm-up.
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter

import timm
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from ...gates import add_gates, gate_parameters, weight_parameters
from ...routing import GradientRouter
from ..timing import interleaved

TIMING = True
NETWORKS = ("vit_tiny_patch16_224", "resnet18")
RUNS = [
    {"network": network, "compiled": compiled, "seed": seed}
    for seed in range(5)
    for network in NETWORKS
    for compiled in (False, True)
]
SOURCES = (
    "gates/gate.py",
    "gates/inspection.py",
    "gates/sites.py",
    "measure/studies/routing_cost.py",
    "measure/timing.py",
    "routing.py",
)
BATCH, ROUNDS = 8, 3


def run(
    network: str,
    compiled: bool,
    seed: int,
    rounds: int = ROUNDS,
    size: int = 224,
) -> dict[str, float]:
    """Time one network.

    Args:
        size: of the images, in pixels.

    Returns:
        For each loop its `median`, `p20` and `p80` in seconds and `n`, and
        its `gflops` unless compiled; for `routed` and `full` also `ratio`
        to the plain step of the same round: median, p20 and p80.

    Raises:
        RuntimeError: the routed step computes another gradient.
    """
    torch.manual_seed(seed)
    model = add_gates(timm.create_model(network))
    if isinstance(model, VisionTransformer):
        model.set_input_size((size, size))
    if compiled:
        model.compile()
    images, labels = torch.randn(BATCH, 3, size, size), torch.arange(BATCH)
    weights = Adam(weight_parameters(model))
    gates = Adam(gate_parameters(model))
    router = GradientRouter(model, weights, gates, F.cross_entropy)
    _check(router, images, labels)

    def one_pass(*optimizers: Optimizer) -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    def two_passes() -> None:
        one_pass(gates)
        one_pass(weights)

    loops = {
        "plain": partial(one_pass, gates, weights),
        "routed": partial(router.step, images, labels),
        "full": two_passes,
    }
    gflops = {} if compiled else {n: _gflops(loops[n]) for n in loops}
    seconds = {name: [] for name in loops}

    def timed(name: str) -> None:
        begin = perf_counter()
        loops[name]()
        seconds[name].append(perf_counter() - begin)

    table = interleaved({n: partial(timed, n) for n in loops}, rounds)
    result = {}
    for name, row in table.iterrows():
        result |= {f"{name} {column}": row[column] for column in row.index}
    result |= {f"{name} gflops": count for name, count in gflops.items()}
    # Of all but the first call, the warm-up, which may have compiled.
    times = {name: torch.tensor(seconds[name][1:]) for name in loops}
    for name in ("routed", "full"):
        ratio = times[name] / times["plain"]
        for column, share in {"": 0.5, " p20": 0.2, " p80": 0.8}.items():
            value = ratio.quantile(share).item()
            result[f"{name} ratio{column}"] = value
    return result


def _gflops(loop: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        loop()
    return counter.get_total_flops() / 1e9


def _check(router: GradientRouter, images: Tensor, labels: Tensor) -> None:
    """One step: are the weights' gradients those of one loss?"""
    model: nn.Module = router.model
    weights = weight_parameters(model)
    before = [weight.detach().clone() for weight in weights]
    router.step(images, labels)
    got = [weight.grad for weight in weights]
    with torch.no_grad():  # back to where the gradient was taken
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
    loss = F.cross_entropy(model(images), labels)
    for one, other in zip(
        got, torch.autograd.grad(loss, weights), strict=True
    ):
        if one is None or not torch.allclose(one, other, 1e-5, 1e-6):
            raise RuntimeError("the routed step has a wrong gradient")
