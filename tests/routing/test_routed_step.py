"""What moves in which half of a routed step, and by which gradient."""

import copy

import pytest
import torch
from small_models import batch, resnet, router, vig, vit
from torch import nn
from torch.nn import functional as F

from hagvig_lib.gates import (
    HardAttentionGate,
    gate_parameters,
    weight_parameters,
)

BUILDS = pytest.mark.parametrize("build", [vit, resnet])


def watch(routed, model):
    """Copies of the model around the gates' half: before and after it."""
    seen = {}

    def note(moment):
        def hook(*_):
            seen[moment] = copy.deepcopy(model)
            seen[f"{moment} grad"] = [p.grad for p in model.parameters()]

        return hook

    routed.gate_optimizer.register_step_pre_hook(note("before"))
    routed.gate_optimizer.register_step_post_hook(note("after"))
    return seen


def gradients(model, group, autocast=None, loss=F.cross_entropy):
    """Of one loss with respect to one group, by autograd.grad."""
    images, labels = batch()
    with torch.autocast("cpu", autocast, autocast is not None):
        value = loss(model(images), labels)
    return torch.autograd.grad(value, group(model))


def squares(outputs, labels):
    return (outputs**2).mean()


def same_bits(first, second):
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("build", [vit, resnet, vig])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_each_half_leaves_the_other_group_bit_identical(build, optimizer):
    model = build()
    routed = router(model, optimizer=optimizer)
    seen = watch(routed, model)
    for _ in range(2):  # AdamW of the second step has a memory of the first
        routed.step(*batch())
        before, between = seen["before"], seen["after"]
        for group, other, first, last in (
            (weight_parameters, gate_parameters, before, between),
            (gate_parameters, weight_parameters, between, model),
        ):
            assert same_bits(group(first), group(last))
            assert not same_bits(other(first), other(last))


@BUILDS
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_weight_gradients_are_those_of_one_loss_at_the_new_gates(
    build, autocast
):
    model = build()
    routed = router(model, autocast=autocast, gate_lr=100.0)
    seen = watch(routed, model)
    routed.step(*batch())
    got = [p.grad for p in weight_parameters(model)]
    expected = gradients(seen["after"], weight_parameters, autocast)
    # The same operations in the same order: nothing but round-off is left.
    eps = torch.finfo(torch.float32).eps
    torch.testing.assert_close(got, list(expected), rtol=8 * eps, atol=eps)
    old = gradients(seen["before"], weight_parameters, autocast)
    assert max(map(lambda a, b: (a - b).abs().max(), got, old)) > 1e4 * eps


@BUILDS
def test_gate_gradients_are_those_of_the_gate_loss_at_the_old_gates(build):
    model = build()
    before = copy.deepcopy(model)
    routed = router(model, gate_loss=squares, gate_lr=1.0)
    routed.step(*batch())
    moved = [
        old - new
        for old, new in zip(
            gate_parameters(before), gate_parameters(model), strict=True
        )
    ]
    expected = gradients(before, gate_parameters, loss=squares)
    # A difference of logits of size 1 keeps their absolute round-off.
    torch.testing.assert_close(moved, list(expected), rtol=1e-5, atol=1e-6)


@BUILDS
def test_weights_get_no_gradient_in_the_first_pass(build):
    model = build()
    routed = router(model)
    seen = watch(routed, model)
    for _ in range(2):  # the second step finds gradients of the first
        routed.step(*batch())
        gates = {id(p) for p in gate_parameters(model)}
        for parameter, grad in zip(
            model.parameters(), seen["before grad"], strict=True
        ):
            assert (grad is not None) == (id(parameter) in gates)
    assert all(p.grad is None for p in gate_parameters(model))
    assert all(p.requires_grad for p in model.parameters())


def test_losses_are_those_before_each_half():
    model = vit()
    routed = router(model, gate_loss=squares)
    seen = watch(routed, model)
    losses = routed.step(*batch())
    images, labels = batch()
    with torch.no_grad():
        gate = squares(seen["before"](images), labels)
        weight = F.cross_entropy(seen["after"](images), labels)
    torch.testing.assert_close(tuple(losses), (gate, weight))


def test_batch_norm_statistics_move_once_and_at_the_new_gates():
    model = resnet()
    routed = router(model)
    seen = watch(routed, model)
    routed.step(*batch())
    expected = seen["after"]
    expected(batch()[0])  # one forward pass in training mode
    torch.testing.assert_close(
        dict(model.named_buffers()), dict(expected.named_buffers())
    )
    assert model.bn1.num_batches_tracked == 1
    assert seen["after"].bn1.track_running_stats


def test_first_pass_normalises_by_the_batch_as_training_does():
    model, plain = resnet(), resnet()
    gate, _ = router(model).step(*batch())
    images, labels = batch()
    expected = F.cross_entropy(plain(images), labels)
    torch.testing.assert_close(gate, expected.detach())


def test_frozen_batch_norm_keeps_its_statistics_and_uses_them():
    model = resnet()
    model(batch(32)[0])
    model.bn1.eval()
    before = copy.deepcopy(model.bn1.state_dict())
    router(model, lr=0.0).step(*batch())
    torch.testing.assert_close(model.bn1.state_dict(), before, rtol=0, atol=0)
    assert model.layer1[0].bn1.num_batches_tracked == 2


def test_frozen_instance_norm_uses_its_statistics_in_the_first_pass():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.InstanceNorm2d(3, track_running_stats=True).eval(),
        nn.Flatten(),
        nn.Linear(768, 5),
        HardAttentionGate(5, -1),
    )
    images, labels = batch()
    expected = F.cross_entropy(model(images), labels)
    gate, _ = router(model).step(images, labels)
    torch.testing.assert_close(gate, expected.detach())


def test_frozen_parameters_stay_frozen_and_need_no_optimizer():
    model = vit()
    frozen = [*model.blocks[0].parameters(), *model.patch_embed.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before = copy.deepcopy(frozen)
    routed = router(
        model,
        optimizer=lambda group, lr: torch.optim.AdamW(
            [p for p in group if p.requires_grad], lr
        ),
    )
    routed.step(*batch())
    assert same_bits(frozen, before)
    assert not any(p.requires_grad for p in frozen)
    assert model.blocks[1].attn.qkv.weight.requires_grad


def test_clips_bound_each_group_by_its_own_norm():
    """With lr 1, SGD moves a group by the norm of its clipped gradient."""
    model = vit()
    before = copy.deepcopy(model)
    router(model, lr=1.0, clip_gates=1e-3, clip_weights=1e-2).step(*batch())
    for group, clip in ((gate_parameters, 1e-3), (weight_parameters, 1e-2)):
        moved = torch.cat(
            [
                (new - old).flatten().double()
                for new, old in zip(group(model), group(before), strict=True)
            ]
        )
        # float32 stores numbers near 1 in steps of 6e-8, a few thousandth
        # of each move; clip_grad_norm_ adds 1e-6 to the norm.
        assert moved.norm().item() == pytest.approx(clip, rel=5e-3)


@pytest.mark.parametrize("share", [True, False])
def test_share_dropout_draws_the_same_numbers_twice(share):
    model = vit()
    model.head_drop = nn.Dropout(0.5)
    dropped = []
    model.head_drop.register_forward_hook(
        lambda module, inputs, output: dropped.append(output == 0)
    )
    torch.manual_seed(3)
    router(model, share_dropout=share, accumulate=2).step(*batch())
    first, second = torch.cat(dropped).chunk(2)
    assert torch.equal(first, second) is share


def test_sharing_leaves_the_random_state_of_a_plain_step():
    model = vit()
    model.head_drop = nn.Dropout(0.5)
    torch.manual_seed(3)
    model(batch()[0])
    expected = torch.rand(3)
    torch.manual_seed(3)
    router(model, share_dropout=True).step(*batch())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("culprit", ["loss", "gate_loss"])
def test_an_error_in_a_loss_restores_the_model(culprit):
    def fail(outputs, labels):
        raise ArithmeticError

    model = resnet()
    model.conv1.requires_grad_(False)
    routed = router(
        model,
        optimizer=lambda group, lr: torch.optim.SGD(
            [p for p in group if p.requires_grad], lr
        ),
        **{"gate_loss": F.cross_entropy, culprit: fail},
    )
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(ArithmeticError):
        routed.step(*batch())
    assert before == {n: p.requires_grad for n, p in model.named_parameters()}
    assert model.bn1.track_running_stats
