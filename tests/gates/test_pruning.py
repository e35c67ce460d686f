import copy

import pytest
import timm
import torch
from torch import nn

from hagvig_lib.gates import (
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_sites,
    harden,
    named_gates,
    prune_gates,
)

TRANSFORMER = "vit_tiny_patch16_224"
# Folding rounds each weight once more, and the layers behind carry that
# on: 1e-12 is 4500 rounding errors of float64.
RTOL = 1e-12
EQUAL_WIDTHS = {"channels": (64, 64, 64, 64), "output_stride": 8}


def gated(model, **options):
    """A gated model in float64 with gates all over (0, 1)."""
    model = add_gates(model, **options).double().eval()
    torch.manual_seed(3)
    for logits in gate_parameters(model):
        nn.init.normal_(logits, std=3)
    return model


def assert_pruned_equals_hardened(model, images, threshold=0.3):
    """Prunes the model in place; returns the report."""
    images = images.double()
    hard = copy.deepcopy(model)
    closed = harden(hard, threshold)
    report = prune_gates(model, threshold, images[:1])
    assert report.closed == closed
    with torch.no_grad():
        expected, output = hard(images), model(images)
    assert (output - expected).norm() < RTOL * expected.norm()
    assert expected.norm() > 0
    return report


def test_pruned_model_computes_the_same_with_less(name, build, images):
    model = gated(build(name, shallow=True))
    total = sum(g.channels for g in named_gates(model).values())
    parameters = sum(p.numel() for p in model.parameters())
    report = assert_pruned_equals_hardened(model, images)
    assert 0 < report.closed < report.total == total
    assert report.left == ()
    assert not gate_parameters(model)
    pruned = sum(p.numel() for p in model.parameters())
    assert list(report.costs.parameters) == [parameters, pruned]
    assert pruned < parameters - total
    before, after = report.costs.multiply_adds
    assert after < before


def test_hard_concrete_gates_are_pruned_at_their_evaluation_value(
    build, images
):
    model = gated(build("resnet18"), gate=HardConcreteGate)
    exact = 1e-6  # only what is 0 already
    report = assert_pruned_equals_hardened(model, images, exact)
    assert 0 < report.closed < report.total


def test_transformer_saves_the_closed_rows(build, images):
    model = gated(build(TRANSFORMER, shallow=True))
    gates = named_gates(model)
    closed = {s: int((g.values() < 0.3).sum()) for s, g in gates.items()}
    report = prune_gates(model, 0.3, images[:1].double())
    width, tokens = 192, 5
    inputs = {"ls1": width, "ls2": 4 * width}
    saved = [(n, inputs[site[-3:]]) for site, n in closed.items()]
    difference = report.costs.loc["before"] - report.costs.loc["after"]
    # A row of the weight and its bias each; and all the gates.
    parameters = sum(n * (k + 1) for n, k in saved) + 4 * width
    assert difference.parameters == parameters
    multiply_adds = tokens * sum(n * k for n, k in saved)
    assert difference.multiply_adds == multiply_adds


@pytest.mark.parametrize("slot", ["ls1", "ls2"])
@pytest.mark.parametrize("name", [TRANSFORMER, "deit3_small_patch16_224"])
def test_closed_branch_is_not_computed(build, images, name, slot):
    model = gated(build(name, shallow=True, drop_path_rate=0.1))
    block = model.blocks[1]
    nn.init.constant_(getattr(block, slot).gate.logits, -9)
    assert_pruned_equals_hardened(model, images)
    branch, norm = {"ls1": ("attn", "norm1"), "ls2": ("mlp", "norm2")}[slot]
    for gone in (branch, norm, slot):
        assert not list(getattr(block, gone).parameters())
    model.train()(images.double()).sum().backward()


def test_all_gates_of_a_transformer_may_close(build, images):
    model = gated(build(TRANSFORMER, shallow=True))
    for logits in gate_parameters(model):
        nn.init.constant_(logits, -9)
    report = assert_pruned_equals_hardened(model, images)
    assert report.closed == report.total


@pytest.mark.parametrize("name", [TRANSFORMER, "resnet18", "efficientnet_b0"])
def test_open_gates_are_folded_and_nothing_is_lost(build, images, name):
    model = gated(build(name, shallow=True))
    for logits in gate_parameters(model):
        nn.init.uniform_(logits, 0, 2)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    report = assert_pruned_equals_hardened(model, images, 0.01)
    assert report.closed == 0
    kept = {k: v.shape for k, v in model.state_dict().items()}
    assert kept == {k: s for k, s in shapes.items() if "gate.logits" not in k}
    assert report.costs.multiply_adds.nunique() == 1


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        (TRANSFORMER, "blocks.1.ls2"),
        ("resnet50", ["layer2", "layer4"]),
        ("efficientnet_b0", ["blocks.0", "blocks.3"]),
    ],
)
def test_sites_without_gates_are_left_alone(build, images, name, sites):
    model = gated(build(name, shallow=True), sites=sites)
    assert_pruned_equals_hardened(model, images)


@pytest.mark.parametrize(
    ("name", "options", "left"),
    [
        ("resnet18", {"global_pool": "max"}, ()),
        # Pooling in two ways doubles the channels that `fc` reads.
        ("resnet18", {"global_pool": "catavgmax"}, ("layer4",)),
        # No layer follows.
        ("resnet18", {"num_classes": 0}, ("layer4",)),
        # Shortcuts with average pooling; one block in each stage.
        ("resnet14t", {}, ()),
        # Attention over all channels ends the block.
        ("seresnet50", {}, ()),
        # A norm over groups of channels.
        ("resnet18", {"norm_layer": "groupnorm"}, ()),
        # "Same" padding; first layers of 3 x 3.
        ("tf_efficientnetv2_b0", {}, ()),
        # Blocks that we do not know.
        ("skresnet18", {}, ("layer1", "layer2", "layer3")),
        # Depthwise first layers cannot drop an input, and no head follows.
        ("mobilenetv1_100", {}, tuple(f"blocks.{i}" for i in range(5))),
        # Shortcuts without a layer hand the gated features on.
        ("mnasnet_small", {}, ("blocks.3",)),
        ("resnet18", EQUAL_WIDTHS, ("layer2", "layer3")),
    ],
)
def test_gate_without_a_neighbour_to_take_it_up_stays(
    build, images, name, options, left
):
    model = gated(timm.create_model(name, **options))
    report = assert_pruned_equals_hardened(model, images)
    assert report.left == left
    assert tuple(named_gates(model) if left else ()) == left
    assert f"{report.closed:,} of {report.total:,} gates" in str(report)


def test_pruned_stage_computes_and_tells_its_width(build, images):
    model = gated(build("resnet18"))
    kept = int((model.layer4.gate.values() >= 0.3).sum())
    prune_gates(model, 0.3, images.double())
    assert model.layer4[-1].conv2.out_channels == kept < 512
    assert model.fc.in_features == kept
    assert model.num_features == model.feature_info[4]["num_chs"] == kept
    features = model.forward_intermediates(
        images.double(), intermediates_only=True
    )
    assert [f.shape[1] for f in features] == [
        info["num_chs"] for info in model.feature_info
    ]
    model.reset_classifier(3)
    assert model.double()(images.double()).shape == (4, 3)


def test_pruned_model_trains_copies_and_stays_frozen(name, build, images):
    model = gated(build(name, shallow=True)).train()
    frozen = [k for k, p in model.named_parameters() if "bias" in k]
    for key in frozen:
        model.get_parameter(key).requires_grad_(False)
    prune_gates(model, 0.3, images[:1].double())
    assert model.training
    twin = copy.deepcopy(model)
    twin(images.double()).sum().backward()
    twin.load_state_dict(model.state_dict(), strict=True)
    for key, parameter in twin.named_parameters():
        assert parameter.requires_grad == (key not in frozen)
        assert (parameter.grad is None) == (key in frozen)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_stage_with_all_gates_closed_is_refused(build, images, name):
    model = gated(build(name))
    site, gate = list(named_gates(model).items())[2]
    nn.init.constant_(gate.logits, -9)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"{site}: all {gate.channels} gates"):
        prune_gates(model, 0.3, images.double())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_wrong_example_changes_nothing(build):
    model = gated(build("resnet18"))
    before = list(model.state_dict())
    with pytest.raises(RuntimeError, match="channels"):
        prune_gates(model, 0.3, torch.zeros(1, 5, 32, 32).double())
    assert list(model.state_dict()) == before
    assert (torch.cat(gate_parameters(model)) > -100).all()


def test_wrapped_model_is_refused_by_name(build):
    model = timm.create_model("resnet18", features_only=True)
    with pytest.raises(TypeError, match="FeatureListNet cannot be pruned"):
        prune_gates(add_gates(model), 0.3)


def test_report_reads_well(build):
    model = gated(build("resnet18"))
    report = prune_gates(model, 0.3)  # on zeros of 3 x 224 x 224
    first, header, before, after = str(report).splitlines()
    assert first.startswith(f"{report.closed} of 960 gates closed; ")
    assert first.endswith(f"{report.speed_up:.2f} times as fast")
    assert header.split() == ["parameters", "multiply_adds", "seconds"]
    assert before.startswith("before ")
    assert after.startswith("after ")
    # The usual count for 1000 classes, and ours are 7.
    multiply_adds = report.costs.multiply_adds["before"]
    assert multiply_adds == 1_814_073_344 - 993 * 512
    seconds = report.costs.seconds
    assert (seconds > 1e-4).all()  # less would be 18 T multiply-adds a second
    assert report.speed_up == seconds["before"] / seconds["after"]


def test_pruned_model_takes_no_new_gates():
    model = gated(timm.create_model("resnet18"))
    prune_gates(model, 0.3, torch.zeros(1, 3, 32, 32).double())
    for again in (add_gates, gate_sites):
        with pytest.raises(ValueError, match="pruned"):
            again(model)
