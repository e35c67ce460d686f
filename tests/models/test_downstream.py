"""Boxes and masks of synthetic polyps, learned in 30 steps."""

from itertools import islice

import pytest
import timm
import torch
from torch.nn import functional as F
from torchvision.ops import box_iou

import hagvig_lib  # noqa: F401  registers the names
from hagvig_lib.data.synthetic_colonoscopy import box, render, scenes
from hagvig_lib.models.downstream import Pyramid, detector, segmenter

SIZE, STEPS = 64, 30
BACKBONES = {
    "vig_tiny_patch16_224": {
        "dim": 64,
        "depth": 2,
        "heads": 2,
        "out_indices": (-1,),
    },
    "vig_h_tiny": {
        "dims": (32, 64, 128),
        "depths": (1, 1, 1),
        "heads": (1, 2, 4),
        "out_indices": (1, 2),
    },
}


@pytest.fixture(scope="module")
def frames():
    """Images [8, 3, 64, 64] in [0, 1] and masks [8, 64, 64]."""
    seen = [render(scene, SIZE) for _, scene, _ in scenes(16, frames=1)]
    seen = islice((frame for frame in seen if frame.mask.any()), 8)
    images, masks, _ = zip(*seen, strict=True)
    images = torch.stack([torch.from_numpy(image) for image in images])
    masks = torch.stack([torch.from_numpy(mask) for mask in masks])
    return images.permute(0, 3, 1, 2) / 255, masks


@pytest.fixture(params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return timm.create_model(
        request.param, features_only=True, **BACKBONES[request.param]
    )


def losses_of(model, loss):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


def test_pyramid_keeps_the_strides(backbone, frames):
    maps = Pyramid(backbone, channels=32)(frames[0])
    sides = [SIZE // stride for stride in backbone.feature_info.reduction()]
    shapes = [tuple(features.shape) for features in maps.values()]
    assert shapes == [(8, 32, side, side) for side in sides]
    assert next(iter(maps)) == "out"


def test_detector_learns_boxes(backbone, frames):
    images, masks = frames
    model = detector(backbone, classes=1, size=SIZE)
    targets = [
        {
            "boxes": torch.tensor([box(mask.numpy())], dtype=torch.float32),
            "labels": torch.zeros(1, dtype=torch.int64),
        }
        for mask in masks
    ]
    model.train()
    values = losses_of(model, lambda: sum(model([*images], targets).values()))
    assert sum(values[-3:]) < 0.7 * sum(values[:3])
    model.score_thresh = 0.0  # so that each image has a best box
    best = [found["boxes"][:1] for found in model.eval()([*images])]
    overlaps = [
        box_iou(ours, target["boxes"]).item()
        for ours, target in zip(best, targets, strict=True)
    ]
    assert sum(overlap > 0.5 for overlap in overlaps) >= 2


def test_segmenter_learns_masks(backbone, frames):
    images, masks = frames
    model = segmenter(backbone, classes=2)

    def loss():
        return F.cross_entropy(model(images)["out"], masks.long())

    values = losses_of(model, loss)
    assert sum(values[-3:]) < 0.7 * sum(values[:3])
    found = model.eval()(images)["out"].argmax(1) == 1
    overlap = (found & masks).sum() / (found | masks).sum()
    assert overlap > 0.2  # of all pixels 5 % are a polyp's
