"""ViG as a timm model; small ones, but for counts and single steps."""

import copy
import re

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import nn

from hagvig_lib.gla import bidirectional_gla
from hagvig_lib.measure.memory import peak_bytes
from hagvig_lib.models import ViG, ViGHierarchical, vig_block
from hagvig_lib.models.vig_block import Block, VisionGLA

NAMES = (
    *(f"vig_{size}_patch16_224" for size in ("tiny", "small", "base")),
    *(f"vig_h_{size}" for size in ("tiny", "small", "base")),
)
SMALL = {
    "vig_tiny_patch16_224": {"dim": 32, "depth": 4, "heads": 2},
    "vig_h_tiny": {
        "dims": (16, 32, 64, 128),
        "depths": (1, 1, 2, 1),
        "heads": (1, 2, 2, 4),
    },
}


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


def build(name, **options):
    torch.manual_seed(0)
    options = {"num_classes": 7, **SMALL[name], **options}
    return timm.create_model(name, **options)


def build_loud(name, **options):
    """With scans that matter: as made they are 1e-5 of their block."""
    model = build(name, **options)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 48, 64)


def gradients(model, x):
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def close(x, y, rtol=1e-5):
    """The norm of the difference, relative; for round-off in float32."""
    return (x - y).norm() <= rtol * y.norm()


# Sizes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((16, 16), (1, 1)),
        ((224, 224), (14, 14)),
        ((320, 256), (20, 16)),
        ((200, 168), (13, 11)),
    ],
)
@torch.no_grad()
def test_images_of_any_size(name, size, grid):
    model = build(name)
    x = torch.randn(1, 3, *size)
    assert model(x).shape == (1, 7)
    maps = model.forward_intermediates(x, intermediates_only=True)
    reductions = [info["reduction"] for info in model.feature_info]
    sizes = dict(zip(reductions, (m.shape[-2:] for m in maps), strict=True))
    assert sizes[16] == grid


@pytest.mark.parametrize("size", [(15, 64), (64, 15)])
def test_smaller_images_are_refused(name, size):
    message = f"images are {size[0]} x {size[1]} pixels, ViG needs 16 x 16"
    with pytest.raises(ValueError, match=message):
        build(name)(torch.randn(1, 3, *size))


def test_position_embedding_is_resized_in_float32():
    model = build("vig_tiny_patch16_224").double()
    nn.init.normal_(model.pos_embed)
    for size, grid in ((224, 14), (96, 6), (400, 25)):
        x = torch.randn(1, 3, size, size, dtype=torch.float64)
        position = model._embed(x) - model.stem(x).permute(0, 2, 3, 1)
        expected = model.pos_embed.mT.unflatten(-1, (14, 14))
        if grid != 14:
            expected = F.interpolate(expected.float(), grid, mode="bicubic")
        expected = expected.permute(0, 2, 3, 1).double()
        torch.testing.assert_close(position, expected, rtol=0, atol=1e-12)


# Training ------------------------------------------------------------------


@pytest.mark.parametrize("model_name", NAMES)
def test_one_step_lowers_the_loss(model_name):
    torch.manual_seed(0)
    model = timm.create_model(model_name, num_classes=5)
    x, target = torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for training in (True, False):  # the released code cannot do the latter
        model.train(training)
        loss = F.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        with torch.no_grad():
            assert F.cross_entropy(model(x), target) < loss


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_recurrence(name, training, images):
    model = build(name).double().train(training)
    for parameter in model.parameters():  # the scans start near 0
        nn.init.normal_(parameter, std=0.3)
    x = images.double()
    chunkwise = gradients(model, x)
    for mixer in (m for m in model.modules() if isinstance(m, VisionGLA)):
        mixer.backend = "reference"
    for ours, exact in zip(chunkwise, gradients(model, x), strict=True):
        assert exact.any()
        assert close(ours, exact, 1e-10)


def test_checkpointing_computes_blocks_twice_with_equal_gradients(
    name, images
):
    model = build(name, drop_path_rate=0.5).train()
    mixers = [m for m in model.modules() if isinstance(m, VisionGLA)]
    calls = []
    for mixer in mixers:
        mixer.qkv.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(2)
    expected = gradients(model, images)
    once = len(calls)
    model.set_grad_checkpointing()
    torch.manual_seed(2)
    for ours, exact in zip(gradients(model, images), expected, strict=True):
        assert close(ours, exact)
    assert len(calls) - once == 2 * once == 2 * len(mixers)
    model.set_grad_checkpointing(False)
    gradients(model, images)
    assert len(calls) == 4 * once


def test_drop_path_grows_linearly(name):
    model = build(name, drop_path_rate=0.6)
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    for path in ("drop_path1", "drop_path2"):
        rates = [getattr(block, path).drop_prob for block in blocks]
        assert rates == pytest.approx(np.linspace(0, 0.6, len(blocks)))


def test_weight_decay_and_layer_decay(name):
    """timm's factory spares the position embedding; the recipe does not."""
    model = build(name)
    names = {id(p): key for key, p in model.named_parameters()}

    def decayed(groups):
        return {
            names[id(p)]
            for group in groups
            if group["weight_decay"]
            for p in group["params"]
        }

    matrices = {k for k, p in model.named_parameters() if p.ndim > 1}
    optimizer = create_optimizer_v2(
        model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.5
    )
    assert decayed(optimizer.param_groups) == matrices - {"pos_embed"}
    assert decayed(param_groups_weight_decay(model, 0.05)) == matrices
    scales = {
        names[id(p)]: group["lr_scale"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    first, last = "stem.0.weight", "head.fc.weight"
    blocks = [key for key in scales if "attn.qkv" in key]
    order = [scales[key] for key in (first, *sorted(blocks), last)]
    assert order == sorted(set(order))


# As a backbone -------------------------------------------------------------


def test_features_are_the_maps_after_each_part(name, images):
    model = build(name, features_only=True)
    maps = model(images)
    channels, reductions = (
        ([32] * 3, [16] * 3)
        if name == "vig_tiny_patch16_224"
        else ([16, 32, 64, 128], [4, 8, 16, 32])
    )
    assert model.feature_info.channels() == channels
    assert model.feature_info.reduction() == reductions
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 48 // r + (48 % r > 0), 64 // r)
        for c, r in zip(channels, reductions, strict=True)
    ]


def test_default_features_of_plain_vig_are_the_last_three():
    """As of timm's ViT; the first ones would cut the network off."""
    model = build("vig_tiny_patch16_224", depth=6, features_only=True)
    names = ["blocks.3", "blocks.4", "blocks.5"]
    assert model.feature_info.module_name() == names


def test_intermediates(name, images):
    model = build(name)
    final, maps = model.forward_intermediates(images)
    torch.testing.assert_close(final, model.forward_features(images))
    torch.testing.assert_close(model.forward_head(final), model(images))
    (normed,) = model.forward_intermediates(
        images, 1, norm=True, intermediates_only=True
    )
    torch.testing.assert_close(normed, final.permute(0, 3, 1, 2))
    early = copy.deepcopy(model)
    early._parts[-1].forward = pytest.fail
    x, (only,) = early.forward_intermediates(images, [0], stop_early=True)
    torch.testing.assert_close(only, maps[0])
    assert x.shape[1:] == (*only.shape[2:], only.shape[1])
    with pytest.raises(ValueError, match="output_fmt is 'NLC': give 'NCHW'"):
        model.forward_intermediates(images, output_fmt="NLC")


def test_pruned_model_can_classify_from_its_last_map(name, images):
    model = build(name)
    maps = model.forward_intermediates(images, intermediates_only=True)
    assert model.prune_intermediate_layers([-2, 0], True) == [
        len(maps) - 2,
        0,
    ]
    torch.testing.assert_close(model(images), maps[-2].permute(0, 2, 3, 1))
    model.reset_classifier(3, "avg")
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize(
    ("pool", "shape"),
    [("", (2, 3, 4, 0)), ("avg", (2, 0)), ("max", (2, 0)), ("avgmax", (2, 0))],
)
def test_heads(pool, shape, images):
    model = build("vig_tiny_patch16_224", global_pool=pool)
    for classes in (7, 0, 5):
        model.reset_classifier(classes)
        width = classes or model.head_hidden_size
        assert model(images).shape == (*shape[:-1], width)
    assert model.get_classifier().out_features == 5
    features = model.forward_features(images)
    pooled = model.forward_head(features, pre_logits=True)
    if pool == "avg":
        torch.testing.assert_close(pooled, features.mean((1, 2)))


def test_grey_images(name, images):
    assert build(name, in_chans=1)(images[:, :1]).shape == (2, 7)


@pytest.mark.parametrize("model_name", NAMES)
def test_input_is_that_of_the_released_evaluation(model_name):
    config = timm.get_pretrained_cfg(model_name)
    assert config.input_size == (3, 224, 224)
    assert 224 / config.crop_pct == 256
    assert config.interpolation == "bicubic"
    assert config.mean == timm.data.IMAGENET_DEFAULT_MEAN
    with torch.device("meta"):
        model = timm.create_model(model_name)
    assert model.get_submodule(config.first_conv).in_channels == 3
    assert model.get_submodule(config.classifier) is model.get_classifier()


# Under PyTorch's tools -----------------------------------------------------


def test_compiles_whole(name, images):
    """In training mode, and where modes differ in evaluation mode."""
    model = build(name)
    if name == "vig_tiny_patch16_224":
        model = build(name, depth=2, halving="official-eval").eval()
    expected = gradients(model, images)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for ours, exact in zip(gradients(compiled, images), expected, strict=True):
        assert close(ours, exact)
    torch._dynamo.reset()


@torch.no_grad()
def test_exports_for_many_sizes(name, images):
    """From 33 pixels on: a map one pixel high would be a graph of its own."""
    model = build_loud(name).eval()
    size = {
        axis: torch.export.Dim(f"size{axis}", min=33, max=512)
        for axis in (2, 3)
    }
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        model, (images,), dynamic_shapes={"x": {0: batch, **size}}
    )
    x = torch.randn(3, 3, 80, 56)
    torch.testing.assert_close(program.module()(x), model(x))


def test_copies_and_averages(name, images):
    model = build(name).eval()
    expected = model(images)
    averages = ModelEmaV2(model, decay=0.5), ModelEmaV3(model, decay=0.5)
    twin = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(twin(images), expected)
    for average in averages:
        average.update(model)
        torch.testing.assert_close(
            [2 * p for p in average.module.parameters()],
            list(twin.parameters()),
        )


def results(model, x):
    """Logits, and all gradients in one vector."""
    every = torch.cat([g.flatten() for g in gradients(model, x)])
    return model(x).detach().float(), every


def in_bfloat16(ours, exact, rounded):
    """Whether an error is bfloat16's, given that of rounded weights alone.

    A block rounds 8 weights and 17 results, as much and independently: its
    error should be sqrt(25 / 8) of that. Twice this is let through: a
    judgement, for ratios from 1.0 to 2.6 had been seen, and a network
    without its scans has to fail.
    """
    return (ours - exact).norm() <= 2 * (25 / 8) ** 0.5 * (
        rounded - exact
    ).norm()


def without_scan(*tensors, scale, backend):
    return bidirectional_gla(*tensors, scale=0.0, backend=backend)


@pytest.mark.parametrize("scans", [True, False])
def test_autocast_stays_near(name, images, scans, monkeypatch):
    """With scans; without them it would not."""
    model = build_loud(name).train()
    exact = results(model, images)
    rounded = results(copy.deepcopy(model).bfloat16().float(), images)
    if not scans:
        monkeypatch.setattr(vig_block, "bidirectional_gla", without_scan)
    with torch.autocast("cpu", torch.bfloat16):
        ours = results(model, images)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    near = [*map(in_bfloat16, ours, exact, rounded)]
    assert near == [scans, scans]


@torch.no_grad()
def test_half_precision_weights(name, images):
    model = build_loud(name)
    exact = model(images)
    logits = model.bfloat16()(images.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert in_bfloat16(logits.float(), exact, model.float()(images))


@torch.no_grad()
@pytest.mark.parametrize(("size", "peak"), [("tiny", 100e6), ("base", 250e6)])
def test_memory_at_1024_pixels(size, peak):
    """A block's scores, written out, would take 201 and 805 MB."""
    model = timm.create_model(f"vig_{size}_patch16_224").eval()
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    model.blocks = model.blocks[:2]  # one after another, in the same memory
    x = torch.randn(1, 3, 1024, 1024)
    assert peak_bytes(lambda: model(x), "cpu") < peak
    assert weights + peak < 6e9


# Keywords ------------------------------------------------------------------


def scan(mixer, x):
    return mixer.double()._scan(x.double())


def test_each_direction_has_gates_of_its_own():
    """Tokens backwards and gates exchanged: outputs backwards."""
    torch.manual_seed(0)
    mixer, x = VisionGLA(32, 2), torch.randn(2, 9, 32)
    for parameter in mixer.parameters():
        nn.init.normal_(parameter, std=0.5)
    o = scan(mixer, x)
    with torch.no_grad():
        for parameter in mixer.gate[1].parameters():
            parameter.copy_(parameter.roll(16, 0))
    torch.testing.assert_close(scan(mixer, x.flip(1)).flip(1), o)
    assert not torch.allclose(scan(mixer, x), o)
    shared = VisionGLA(32, 2, scan="shared-gate")
    for parameter in shared.parameters():
        nn.init.normal_(parameter, std=0.5)
    o = scan(shared, x)
    torch.testing.assert_close(scan(shared, x.flip(1)).flip(1), o)


def test_one_direction_sees_no_later_token():
    torch.manual_seed(0)
    x = torch.randn(1, 9, 32)
    later = x.clone()
    later[:, 5:] += 1
    for kind, sees in (("one-direction", False), ("direction-wise", True)):
        mixer = VisionGLA(32, 2, scan=kind)
        difference = scan(mixer, later)[:, :5] - scan(mixer, x)[:, :5]
        assert (difference.norm() > 1e-12 * scan(mixer, x).norm()) == sees


def test_without_locality_a_lone_token_sees_itself_only(images):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 9, 32)
    later = x.clone()
    later[:, :, 5:] += 1
    for locality in (True, False):
        mixer = VisionGLA(32, 2, scan="one-direction", locality=locality)
        same = torch.allclose(mixer(x)[:, :, :5], mixer(later)[:, :, :5])
        assert same != locality


@pytest.mark.parametrize(
    ("options", "fewer"),
    [
        ({"scan": "shared-gate"}, 17 * 16),
        ({"scan": "one-direction"}, 17 * 16),
        ({"locality": False}, 9 * 32 + 32 * 32 + 32 + 16),
    ],
)
def test_ablations_have_fewer_parameters(options, fewer):
    counts = [
        sum(p.numel() for p in VisionGLA(32, 2, **o).parameters())
        for o in ({}, options)
    ]
    assert counts[0] - counts[1] == fewer
    assert build("vig_h_tiny", **options)(torch.randn(1, 3, 32, 32)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "dim is 32, heads is 3: dim must be a multiple of 2"),
        ({"scan": "both"}, "scan is 'both': choose one of ('direction-wise'"),
        ({"halving": "twice"}, "halving is 'twice': choose one of ('mean'"),
    ],
)
def test_unfit_keywords_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build("vig_tiny_patch16_224", **options)


def test_unknown_backend_is_refused(images):
    with pytest.raises(ValueError, match="backend is 'cuda': choose one of"):
        build("vig_tiny_patch16_224", backend="cuda")(images)


# Initialisation ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "stds"),
    [
        (
            lambda: ViG(192, 1, 3),
            {"qkv": 0.01045, "conv": 0.00594, "fc1": 0.02, "head.fc": 0.02},
        ),
        (
            lambda: ViGHierarchical([192], [1], [6]),
            {"qkv": 0.02, "conv": 0.00594, "fc1": 0.02, "head.fc": 0.02},
        ),
    ],
)
def test_weights_start_as_released(model, stds):
    torch.manual_seed(0)
    parameters = dict(model().named_parameters())
    for part, std in stds.items():
        key = next(k for k in parameters if k.endswith(f"{part}.weight"))
        assert parameters[key].std().item() == pytest.approx(std, rel=0.05)
    for key, parameter in parameters.items():
        if key.endswith("bias") and "stem" not in key:
            assert not parameter.any(), key
