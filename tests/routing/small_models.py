"""Small gated models and their batches, for tests and worker processes."""

import torch
from timm.models import VisionTransformer
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torch.nn import functional as F

from hagvig_lib.gates import (
    HardAttentionGate,
    add_gates,
    gate_parameters,
    weight_parameters,
)
from hagvig_lib.models import ViGHierarchical
from hagvig_lib.routing import GradientRouter

CLASSES, SIZE = 5, 16


def vit():
    torch.manual_seed(0)
    return add_gates(
        VisionTransformer(
            img_size=SIZE,
            patch_size=4,
            num_classes=CLASSES,
            embed_dim=48,
            depth=2,
            num_heads=2,
        )
    )


def resnet():
    torch.manual_seed(0)
    model = ResNet(
        BasicBlock,
        [1, 1, 1, 1],
        num_classes=CLASSES,
        channels=(8, 12, 16, 24),
        stem_width=8,
        zero_init_last=False,
    )
    return add_gates(model)


def vig():
    """With gates on both directions of its scans too."""
    torch.manual_seed(0)
    sizes = {"dims": (32, 64), "depths": (1, 1), "heads": (1, 2)}
    model = ViGHierarchical(**sizes, num_classes=CLASSES)
    return add_gates(model, "*")


def resnet_with_frozen_norms():
    """Batch norms normalise by statistics that were learned before."""
    model = resnet()
    with torch.no_grad():
        for _ in range(20):
            model(batch(32)[0])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


class Crossing(nn.Module):
    """Bright images pass one gate, dark images another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.bright = HardAttentionGate(4, -1)
        self.dark = HardAttentionGate(4, -1)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, images):
        features = self.first(images.mean((2, 3)))
        gate = self.bright if images.sum() > 0 else self.dark
        return self.last(gate(features))


def batch(size=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator)
    return images, torch.arange(size) % CLASSES


def bright_and_dark():
    """The first half of the batch is bright, the second dark."""
    images, labels = batch(8)
    sign = torch.tensor([1.0] * 4 + [-1.0] * 4)
    return images.abs() * sign.view(-1, 1, 1, 1), labels


def router(
    model, wrapped=None, optimizer=torch.optim.SGD, lr=0.1, gate_lr=1.0, **more
):
    """A router over a model, or over what it is wrapped in."""
    return GradientRouter(
        model if wrapped is None else wrapped,
        optimizer(weight_parameters(model), lr),
        optimizer(gate_parameters(model), gate_lr),
        **{"loss": F.cross_entropy} | more,
    )


# What one process, several micro-batches and two processes must agree on.
CASES = {
    "vit": (vit, batch),
    "resnet": (resnet_with_frozen_norms, batch),
    "crossing": (Crossing, bright_and_dark),
}
