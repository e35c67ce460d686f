"""What timm and torch do with models goes on working with gates."""

import copy
import io
import pickle

import pytest
import timm
import torch
from timm.models._features import (
    FeatureDictNet,
    FeatureGetterNet,
    FeatureListNet,
)
from timm.utils import ModelEmaV3
from torch import nn

from hagvig_lib.gates import (
    HardAttentionGate,
    add_gates,
    gate_table,
    named_gates,
)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def averaged(model):
    ema = ModelEmaV3(model, decay=0.5)
    ema.update(model)
    return ema.module


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved, averaged])
def test_copies_compute_the_same_and_load_plain_weights(
    name, build, images, copied
):
    plain = build(name, shallow=True)
    model = add_gates(build(name, shallow=True)).eval()
    twin = copied(model)
    assert not {*map(id, model.parameters())} & {*map(id, twin.parameters())}
    with torch.no_grad():
        assert torch.equal(twin(images), model(images))
    before = gate_table(twin)
    twin.load_state_dict(plain.state_dict(), strict=True)
    assert gate_table(twin).equals(before)


def test_average_follows_the_gates(build):
    model = add_gates(build("resnet18"), init=0.5)
    ema = ModelEmaV3(model, decay=0.75)
    with torch.no_grad():
        model.layer1.gate.logits += 1
    ema.update(model)
    expected = torch.full((64,), 0.25)
    torch.testing.assert_close(ema.module.layer1.gate.logits.data, expected)


def test_checkpointing_runs_the_gates(name, build, images):
    model = add_gates(build(name, shallow=True))
    expected = model(images)
    model.set_grad_checkpointing()
    output = model(images)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("vit_tiny_patch16_224", FeatureGetterNet),
        ("deit3_small_patch16_224", FeatureGetterNet),
        ("resnet18", FeatureListNet),
        ("resnet18", FeatureGetterNet),
        ("resnet50", FeatureListNet),
        ("efficientnet_b0", FeatureGetterNet),
        ("vig_tiny_patch16_224", FeatureGetterNet),
        ("vig_h_tiny", FeatureGetterNet),
    ],
)
def test_features_are_the_same_gated_before_or_after_wrapping(
    build, images, name, wrap
):
    indices = (0, 1, 2, 3, 4) if "net" in name else (0, 1)
    plain = wrap(build(name, shallow=True), out_indices=indices).eval()
    inner = add_gates(build(name, shallow=True), init=0.25)
    before = wrap(inner, out_indices=indices).eval()
    outer = wrap(build(name, shallow=True), out_indices=indices).eval()
    after = add_gates(outer, init=0.25)
    for ours, theirs in zip(before(images), after(images), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(after(images)[-1], plain(images)[-1])
    after.load_state_dict(plain.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("name", "options", "sites"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 3}, 6),
        ("resnet18", {}, 4),
        ("resnet18", {"out_indices": (1, 2)}, 2),
        ("resnet18", {"feature_cls": FeatureDictNet}, 4),
        ("resnet18", {"feature_cls": "getter", "out_indices": (1, 2)}, 2),
        ("efficientnet_b0", {}, 7),
        ("vig_tiny_patch16_224", {"depth": 4}, 8),
        ("vig_tiny_patch16_224", {"depth": 6, "out_indices": (0, 3)}, 8),
    ],
)
def test_features_only_models_are_gated(name, options, sites, images):
    model = timm.create_model(name, features_only=True, **options).eval()
    channels = model.feature_info.channels()
    add_gates(model)
    assert len(named_gates(model)) == sites
    features = model(images)
    if isinstance(features, dict):
        features = features.values()
    assert [f.shape[1] for f in features] == channels


def test_wrapper_of_an_unknown_model_is_refused_by_its_class():
    model = timm.create_model("convnext_atto", features_only=True)
    with pytest.raises(TypeError, match="FeatureListNet has no site"):
        add_gates(model)


def test_gate_is_a_plain_module_elsewhere():
    """Hand-built models take gates too, and add_gates is not needed."""
    model = nn.Sequential(nn.Linear(4, 3), HardAttentionGate(3, -1))
    assert list(named_gates(model)) == ["1"]
    assert model(torch.zeros(2, 4)).shape == (2, 3)
