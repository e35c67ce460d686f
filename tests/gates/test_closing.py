import copy
import math
from functools import cache

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from hagvig_lib.gates import (
    HardAttentionGate,
    HardConcreteGate,
    add_gates,
    gate_parameters,
    gate_penalty,
    gate_table,
    harden,
    named_gates,
    sparsity,
)

DRAWS = 40_000
SAMPLED_LOGITS = [-3.0, -1.0, 0.0, 0.7, 4.0]


def hard_concrete(logits, **options):
    gate = HardConcreteGate(len(logits), -1, **options)
    with torch.no_grad():
        gate.logits.copy_(torch.tensor(logits))
    return gate


@cache
def samples_and_grid():
    """Draws of the gates, and the gates on a fine grid of the uniform u.

    The grid is written out from Louizos et al. in float64.
    """
    torch.manual_seed(0)
    gate = hard_concrete(SAMPLED_LOGITS * DRAWS)
    draws = gate.sample().detach().view(DRAWS, -1).double()
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    log_alpha = torch.tensor(SAMPLED_LOGITS, dtype=torch.float64)
    noisy = (u.log() - (1 - u).log())[:, None] + log_alpha
    s = 1 / (1 + torch.exp(-noisy / (2 / 3)))
    return draws, (s * 1.2 - 0.1).clamp(0, 1)


# --- the hard-concrete gate ----------------------------------------------


def test_samples_follow_the_hard_concrete_distribution():
    draws, grid = samples_and_grid()
    # Five standard errors of a mean of DRAWS independent draws; the
    # midpoint rule on the grid is off by less than 1e-5.
    tolerance = 5 * grid.std(0) / math.sqrt(DRAWS) + 1e-5
    assert ((draws.mean(0) - grid.mean(0)).abs() < tolerance).all()
    for exact in (0, 1):
        share = (grid == exact).double().mean(0)
        tolerance = 5 * (share * (1 - share) / DRAWS).sqrt() + 1e-5
        seen = (draws == exact).double().mean(0)
        assert ((seen - share).abs() < tolerance).all()
        assert (seen > 0).any()


def test_open_probability_is_the_share_above_0():
    _, grid = samples_and_grid()
    expected = (grid > 0).double().mean(0)
    probability = hard_concrete(SAMPLED_LOGITS).open_probability().double()
    # The grid counts in steps of 1 / 200,000.
    torch.testing.assert_close(probability, expected, rtol=0, atol=1e-5)


def test_hard_concrete_is_random_in_training_only():
    x = torch.ones(2, 100)
    gate = HardConcreteGate(100, -1)
    assert not torch.equal(gate(x), gate(x))
    gate.eval()
    assert torch.equal(gate(x), gate(x))
    assert torch.equal(gate(x)[0], gate.values())


def test_hard_concrete_values_reach_0_and_1():
    logits = [-9.0, -2.0, 0.0, 2.0, 9.0]
    stretched = [1.2 / (1 + math.exp(-w)) - 0.1 for w in logits]
    expected = [min(1, max(0, s)) for s in stretched]
    values = hard_concrete(logits).values()
    torch.testing.assert_close(values, torch.tensor(expected))
    assert values[0] == 0
    assert values[-1] == 1


@pytest.mark.parametrize("value", [0.05, 0.5, 0.95])
def test_hard_concrete_starts_at_the_value_asked_for(value):
    values = HardConcreteGate(2, -1, init=value).values()
    torch.testing.assert_close(values, torch.full_like(values, value))


@pytest.mark.parametrize("training", [True, False])
def test_hard_concrete_gradcheck_with_the_noise_held(training):
    # Neither end of the clamp is within the step of the finite differences.
    gate = hard_concrete([-0.5, 0.2, 0.4], dtype=torch.float64)
    gate.train(training)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def apply(x, logits):
        torch.manual_seed(5)
        return torch.func.functional_call(gate, {"logits": logits}, (x,))

    assert torch.autograd.gradcheck(apply, (x, gate.logits))


# --- penalty -------------------------------------------------------------


def test_penalty_is_the_mean_over_all_gates(build):
    model = add_gates(build("resnet18"))
    expected = gate_table(model).value.mean()
    penalty = gate_penalty(model)
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    for gate in named_gates(model).values():
        f = gate.values().detach()
        torch.testing.assert_close(gate.logits.grad, f * (1 - f) / 960)


def test_penalty_of_hard_concrete_is_the_open_probability():
    model = nn.Sequential(hard_concrete([-1.0, 2.0]), hard_concrete([0.5]))
    expected = [
        1 / (1 + math.exp(-(w - 2 / 3 * math.log(0.1 / 1.1))))
        for w in (-1.0, 2.0, 0.5)
    ]
    assert gate_penalty(model).item() == pytest.approx(sum(expected) / 3)


def test_descending_the_penalty_closes_gates():
    model = nn.Sequential(HardAttentionGate(8, -1))
    optimizer = torch.optim.Adam(gate_parameters(model), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        gate_penalty(model).backward()
        optimizer.step()
    assert sparsity(model, 0.1) == 1


# --- harden --------------------------------------------------------------


@pytest.mark.parametrize("gate", [HardAttentionGate, HardConcreteGate])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hardened_gates_are_exactly_0_and_the_others_stay(gate, dtype):
    model = nn.Sequential(gate(1000, -1, dtype=dtype)).eval()
    nn.init.normal_(model[0].logits, std=2)
    before = model[0].values().detach()
    closed = before < 0.3
    assert harden(model, 0.3) == closed.sum()
    after = model[0].values()
    assert (after[closed] == 0).all()
    assert torch.equal(after[~closed], before[~closed])
    assert 0 < closed.sum() < 1000
    assert harden(model, 0.3) == closed.sum()


def test_binary_opens_the_others_to_exactly_1():
    gate = HardAttentionGate(1000, -1)
    nn.init.normal_(gate.logits, std=2)
    closed = harden(nn.Sequential(gate), 0.3, binary=True)
    values = gate.values()
    assert ((values == 0) | (values == 1)).all()
    assert (values == 0).sum() == closed


@pytest.mark.parametrize("gate", [HardAttentionGate, HardConcreteGate])
@pytest.mark.parametrize("binary", [True, False])
def test_hardened_gates_have_gradient_0_and_stay_closed(gate, binary):
    model = nn.Sequential(gate(1000, -1)).train()
    nn.init.normal_(model[0].logits, std=2)
    harden(model, 0.3, binary=binary)
    settled = model[0].values().detach().clone()
    closed = settled == 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 1000)).square().sum()
        (loss + gate_penalty(model)).backward()
        gradient = model[0].logits.grad
        assert gradient.isfinite().all()
        assert (gradient[closed] == 0).all()
        assert (gradient == 0).all() or not binary
        optimizer.step()
    values = model[0].values()
    assert (values[closed] == 0).all()
    assert torch.equal(values, settled) == binary


def test_average_of_hardened_models_is_not_nan():
    model = nn.Sequential(HardAttentionGate(10, -1, init=0.1))
    harden(model, 0.5)
    ema = ModelEmaV3(model, decay=0.9)
    ema.update(model)
    assert (ema.module[0].values() == 0).all()


def test_harden_closes_by_the_value_that_evaluation_uses(build, images):
    model = add_gates(build("resnet18"), gate=HardConcreteGate, init=0.2)
    model.eval()
    by_hand = copy.deepcopy(model)
    model.layer2.gate.logits.data[:50] = -1.0  # value 0.22
    assert harden(model, 0.21) == 960 - 50
    assert not torch.equal(model(images), by_hand(images))
