"""The models that the gates are tested on: small images, full width."""

import copy
from functools import cache

import pytest
import timm
import torch

NAMES = (
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "vig_tiny_patch16_224",
    "vig_h_tiny",
)


@cache
def template(name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **dict(options))
    # timm starts LayerScale and the last norm of each block near 0, and
    # biases at 0, which would hide what stands behind them.
    for key, parameter in model.named_parameters():
        if key.endswith(("weight", "gamma")) and parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif key.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        elif "vig" in name and ".attn." in key:  # scans start near 0 too
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def build():
    """build(name, shallow=False, **options) -> a fresh timm model.

    `shallow` gives transformers two blocks: the same code, faster.
    """

    def build(name, shallow=False, **options):
        if "patch16" in name and shallow:
            options["depth"] = 2
        if "patch16" in name and "vig" not in name:
            options = {"img_size": 32, **options}
        if name == "vig_h_tiny":  # narrow too: each stage has wider maps
            options = {"depths": (1, 1), "dims": (32, 64), **options}
            options["heads"] = (1, 2)
        torch.manual_seed(1)
        return copy.deepcopy(template(name, tuple(options.items())))

    return build


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def images():
    return torch.randn(
        4, 3, 32, 32, generator=torch.Generator().manual_seed(2)
    )
