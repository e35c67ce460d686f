import math

import numpy as np
import pytest
import torch

from hagvig_lib.gates import HardAttentionGate

EPS32 = torch.finfo(torch.float32).eps


def gate_of(logits, dim):
    gate = HardAttentionGate(len(logits), dim, dtype=logits.dtype)
    with torch.no_grad():
        gate.logits.copy_(logits)
    return gate


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((2, 5, 6), -1), ((2, 5, 6), 2), ((2, 6, 3, 4), 1), ((2, 6), -1)],
)
def test_output_is_sigmoid_of_logits_times_input(shape, dim):
    x = torch.randn(shape)
    logits = 3 * torch.randn(6)
    x64, logits64 = x.double().numpy(), logits.double().numpy()
    values = 1 / (1 + np.exp(-logits64))
    index = [None] * len(shape)
    index[dim] = slice(None)
    expected = x64 * values[tuple(index)]
    output = gate_of(logits, dim)(x).detach().numpy()
    # Two roundings, of the sigmoid (a few ulp) and of the product.
    np.testing.assert_allclose(output, expected, rtol=4 * EPS32)


def test_gradient_of_logits_is_the_formula():
    """dL/dw_i = f_i (1 - f_i) * sum of x_i dL/dy_i over all but channels."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    upstream = torch.randn_like(x)
    gate = gate_of(torch.randn(3, dtype=torch.float64), 1)
    gate(x).backward(upstream)
    f = gate.values().detach()
    expected = f * (1 - f) * (x * upstream).sum((0, 2, 3))
    torch.testing.assert_close(gate.logits.grad, expected)


@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 4, 3), -1), ((2, 3, 2, 2), 1)]
)
def test_gradcheck(shape, dim):
    gate = gate_of(torch.randn(3, dtype=torch.float64), dim)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def apply(x, logits):
        return torch.func.functional_call(gate, {"logits": logits}, (x,))

    assert torch.autograd.gradcheck(apply, (x, gate.logits))


@pytest.mark.parametrize(
    ("shape", "dim", "wrong"),
    [
        ((2, 5, 191), -1, 191),
        ((2, 192, 4), -1, 4),
        ((2, 5, 192), 1, 5),
        ((2, 193, 4, 4), 1, 193),
        ((2, 5, 1), -1, 1),  # would broadcast
    ],
)
def test_another_number_of_channels_is_refused(shape, dim, wrong):
    with pytest.raises(ValueError, match=rf"192 channels.*has {wrong} at dim"):
        HardAttentionGate(192, dim)(torch.zeros(shape))


@pytest.mark.parametrize("channels", [1, 64, 192])
def test_paper_init_is_xavier_on_one_row(channels):
    torch.manual_seed(0)
    rows = 2000
    gate = HardAttentionGate(channels, -1)
    draws = []
    for _ in range(rows):
        gate.reset_parameters()
        draws.append(gate.logits.detach().clone())
    logits = torch.cat(draws).double()
    std = math.sqrt(2 / (1 + channels))
    standard_error = std / math.sqrt(len(logits))
    assert abs(logits.mean()) < 5 * standard_error
    # The sample std of n normal draws scatters by std / sqrt(2 n).
    assert abs(logits.std() - std) < 5 * standard_error / math.sqrt(2)


@pytest.mark.parametrize("value", [0.01, 0.5, 0.9])
def test_float_init_is_the_value_of_the_gate(value):
    values = HardAttentionGate(3, -1, init=value, dtype=torch.float64).values()
    torch.testing.assert_close(values, torch.full_like(values, value))


def test_open_gate_hardly_changes_its_input_and_hardly_learns():
    gate = HardAttentionGate(3, -1, init="open", dtype=torch.float64)
    values = gate.values()
    values.sum().backward()
    assert (1 - values).max() < 1e-6
    assert 0 < gate.logits.grad.max() < 1e-6


@pytest.mark.parametrize(
    "init", ["closed", "", 0.0, 1.0, -0.1, 1, None, math.nan]
)
def test_unknown_init_is_refused(init):
    with pytest.raises(ValueError, match="init is"):
        HardAttentionGate(3, -1, init=init)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_output_keeps_the_dtype_of_the_input(dtype):
    x = torch.ones(2, 3, dtype=dtype)
    assert HardAttentionGate(3, -1)(x).dtype == dtype


def test_repr_names_channels_and_dim():
    assert "192, dim=-1" in repr(HardAttentionGate(192, -1))
