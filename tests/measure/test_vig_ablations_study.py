"""The arms of the ablation lack what they say, and nothing else."""

import pytest
import torch

from hagvig_lib.measure.studies import resolution_transfer as shared
from hagvig_lib.measure.studies import vig_ablations as study


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 1, 96, 96)


def gradients(net, images):
    """Name -> norm of the gradient; 0 where there is none."""
    net(images).square().sum().backward()
    return {
        name: 0.0 if p.grad is None else p.grad.norm().item()
        for name, p in net.named_parameters()
    }


@pytest.mark.parametrize("arm", study.ARMS)
def test_arms_of_a_seed_share_their_weights(arm):
    whole = dict(study.network("whole", 3).named_parameters())
    net = study.network(arm, 3)
    for name, weight in net.named_parameters():
        if weight.requires_grad and weight.shape == whole[name].shape:
            assert torch.equal(weight, whole[name]), name


def test_everything_in_the_whole_network_learns(images):
    norms = gradients(study.network("whole", 0), images)
    assert min(norms.values()) > 0


@pytest.mark.parametrize(
    ("arm", "parts"),
    [
        ("no decay", ["attn.gate."]),
        ("no scan", ["attn.qkv", "attn.gate.", "scan_norm", "locality"]),
    ],
)
def test_a_part_held_still_has_no_effect_and_the_others_keep_theirs(
    images, arm, parts
):
    net = study.network(arm, 0)
    norms = gradients(net, images)
    for name, norm in norms.items():
        out = any(part in name for part in parts)
        assert (norm < 1e-12) == out, name


def test_without_decay_nothing_is_forgotten(images):
    net = study.network("no decay", 0)
    seen = []
    for block in net.blocks:
        block.attn.gate.register_forward_hook(
            lambda module, inputs, logits: seen.append(logits)
        )
    net(images)
    for logits in seen:
        assert (torch.nn.functional.logsigmoid(logits) > -1e-15).all()


def test_other_arms_are_the_keywords_of_the_paper():
    mixers = {a: study.network(a, 0).blocks[0].attn for a in study.ARMS}
    assert mixers["no locality"].conv is None
    assert mixers["no locality"].locality is None
    assert list(mixers["one direction"].scans) == ["fwd"]
    outputs = {a: m.gate[-1].out_features for a, m in mixers.items()}
    assert outputs["whole"] == 64
    assert outputs["shared gate"] == outputs["one direction"] == 32


def test_a_short_run_repeats_itself(monkeypatch):
    short = {"IMAGES": 200, "TEST": 50}
    monkeypatch.setattr(study, "EPOCHS", 1)
    for name, value in short.items():
        monkeypatch.setattr(shared, name, value)
    result = study.run("no scan", seed=1)
    assert result == study.run("no scan", seed=1)


def test_the_null_arm_has_the_same_garments_in_another_order(monkeypatch):
    seen = {}
    monkeypatch.setattr(shared, "IMAGES", 100)
    monkeypatch.setattr(shared, "accuracy", lambda *arguments: 0.0)
    for arm in ("whole", "reshuffled"):
        monkeypatch.setattr(
            shared,
            "learn",
            lambda net, batches, epochs, arm=arm: seen.update({arm: batches}),
        )
        study.run(arm, seed=1)
    one, other = seen["whole"], seen["reshuffled"]
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets, other.targets)
    assert not torch.equal(next(iter(one))[1], next(iter(other))[1])


def test_what_is_held_stays(monkeypatch):
    monkeypatch.setattr(shared, "IMAGES", 100)
    net = study.network("no decay", 1)
    shared.learn(net, shared.training_batches(1, 1), 1)
    for block in net.blocks:
        layer = block.attn.gate[-1]
        assert not layer.weight.any()
        assert (layer.bias == 40).all()
    assert net.head.fc.weight.grad is not None
