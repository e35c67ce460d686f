"""Do gates help a network that has seen little? (chapter 4)

A small transformer learns from 300 or from 1,000 pictures of Fashion-MNIST
and answers 2,000 others. One thing differs between the arms: what its
branches are multiplied by, and how that is trained. Seeds differ in their
training pictures (no two seeds share one), initial weights and batches; the
arms of one seed share all three, but for "reshuffled", the null arm, which
is "ungated" with its batches in another order. Seed 0 priced the study and
is not in it.

What would count, said beforehand: differences of test accuracy are paired
by seed, and an arm differs from another if the mean difference is at least
one point and its 95 % interval (Student's t, Bonferroni over `COMPARISONS`)
leaves out 0. "joint" and "routed" against "ungated" test the paper's claim,
"joint" against "frozen 0.5" what learning adds to a quieter start, "routed"
against "joint" what the second pass adds, "penalised" against "frozen 0.1"
what a penalty adds to quiet branches. The null arm must differ from nothing.
"""

from pathlib import Path

import torch
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from ...data import cifar, fashion_mnist
from ...gates import add_gates, gate_penalty
from ...training import Batches, fit

FIXED = {"LayerScale": 0.5, "frozen 0.5": 0.5, "frozen 0.1": 0.1}
GATED = ("joint", "routed", "penalised")
ARMS = ("ungated", "reshuffled", *FIXED, *GATED)
COMPARISONS = {  # with which arms each is compared
    "ungated": ("reshuffled", "frozen 0.5", "frozen 0.1", "joint", "routed"),
    "frozen 0.5": ("joint",),
    "LayerScale": ("joint",),
    "joint": ("routed",),
    "frozen 0.1": ("penalised",),
}
EPOCHS = {300: 30, 1000: 14}  # pictures to learn from -> epochs
RUNS = [
    {"arm": arm, "images": images, "seed": seed}
    for seed in range(1, 9)
    for images in EPOCHS
    for arm in ARMS
]
SOURCES = (
    *("data/fashion_mnist.*", "gates/*.py", "measure/studies/breadth.py"),
    *("routing.py", "training/batches.py", "training/loop.py"),
)
BATCH, PENALTY = 50, 1.0
RATES = 5e-3, 5e-2  # highest of OneCycle, for weights and for factors


def run(
    arm: str, images: int, seed: int, cifar_folder: str | Path | None = None
) -> dict[str, float]:
    """Train one network.

    Args:
        cifar_folder: take CIFAR-10 from there instead (`data.cifar`).

    Returns:
        Accuracies `train` and `test`, 0 to 1, and the mean `factor` of the
        branches at the end.
    """
    data = cifar.load(cifar_folder) if cifar_folder else fashion_mnist.load()
    own = slice(seed * images, (seed + 1) * images)
    pixels, labels = data[0].images[own].float(), data[0].labels[own]

    def normalise(images: Tensor) -> Tensor:
        return (images - pixels.mean()) / pixels.std()

    torch.manual_seed(seed)  # all arms of a seed start from equal weights
    _, channels, size, _ = pixels.shape
    net = transformer(channels, size, FIXED.get(arm))
    if arm in GATED:
        add_gates(net)
    knobs, weights = [], []
    for name, parameter in net.named_parameters():
        knob = name.endswith(("gamma", "logits"))
        (knobs if knob else weights).append(parameter)
    learned = [] if "frozen" in arm else knobs
    optimizers = [Adam(group) for group in (weights, learned) if group]
    order = seed + 1000 * (arm == "reshuffled")
    batches = Batches(normalise(pixels), labels, BATCH, order)
    steps = EPOCHS[images] * len(batches)
    fit(
        net,
        batches,
        lambda outputs, labels: (
            F.cross_entropy(outputs, labels)
            + (PENALTY * gate_penalty(net) if arm == "penalised" else 0)
        ),
        epochs=EPOCHS[images],
        weight_optimizer=optimizers[0],
        gate_optimizer=optimizers[1] if learned else None,
        routed=arm == "routed",
        schedules=[
            OneCycleLR(optimizer, rate, steps)
            for optimizer, rate in zip(optimizers, RATES, strict=False)
        ],
        quiet=True,
    )
    net.eval()

    @torch.no_grad()
    def accuracy(images: Tensor, labels: Tensor) -> float:
        right = net(normalise(images)).argmax(1) == labels
        return right.double().mean().item()

    factor = torch.cat(knobs).detach() if knobs else torch.ones(1)
    factor = factor.sigmoid() if arm in GATED else factor
    return {
        "train": accuracy(pixels, labels),
        "test": accuracy(data[-1].images.float(), data[-1].labels),
        "factor": factor.mean().item(),
    }


def transformer(
    channels: int = 1, size: int = 28, init_values: float | None = None
) -> VisionTransformer:
    """Sixteen patches, three blocks of 48 channels, ten classes.

    Args:
        size: height and width of the pictures, in pixels.
        init_values: of a LayerScale; without one if None.
    """
    return VisionTransformer(
        img_size=size,
        patch_size=size // 4,
        in_chans=channels,
        num_classes=10,
        embed_dim=48,
        depth=3,
        num_heads=2,
        mlp_ratio=2,
        class_token=False,
        global_pool="avg",
        init_values=init_values,
    )
