"""Chunkwise against the recurrence in float64: every shape, gate and dtype.

float32: a sum of n rounded terms is off by about sqrt(n) eps / 2 = 5e-7 for
the hundreds of terms here, and a factorised decay by as much again; outputs
are held to 1e-6. A gradient passes two such sums: 3e-6. Half precision is
computed in float32, so the error is that of one rounding, eps / 2.
"""

from functools import cache
from itertools import product

import pytest
import torch

from hagvig_lib.gla import bidirectional_gla, gla

TOKENS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 196, 1000)
WIDTHS = ((8, 16), (16, 32), (32, 64), (64, 64), (40, 72))
GATES = {
    "logsigmoid / 16": lambda x, u: torch.nn.functional.logsigmoid(x) / 16,
    "logsigmoid": lambda x, u: torch.nn.functional.logsigmoid(x),
    "from -20 to 0": lambda x, u: -20 * u,
    "all -20": lambda x, u: torch.full_like(u, -20.0),
    "10 % at -20": lambda x, u: torch.where(u < 0.1, -20.0, -0.01 * u),
    "5 % -inf": lambda x, u: torch.where(u < 0.05, -torch.inf, -0.05 * u),
    "all 0": lambda x, u: torch.zeros_like(u),
}
NAMES = ("output", "q", "k", "v", "log_gate_fwd", "log_gate_bwd")
ROUNDING = {
    torch.float32: 0.0,
    torch.float16: torch.finfo(torch.float16).eps / 2,
    torch.bfloat16: torch.finfo(torch.bfloat16).eps / 2,
}


@cache
def problem(tokens, key, value):
    """q, k, v, two gates, a gradient and a state; one gate family a row.

    All numbers but the gates can be written in each of the dtypes.
    """
    generator = torch.Generator().manual_seed(tokens)

    def short(*shape):
        x = torch.randn(shape, generator=generator)
        return x.bfloat16().half().double()

    shape = (len(GATES), tokens, 2)
    q, k = short(*shape, key), short(*shape, key)
    v, grad = short(*shape, value), short(*shape, value)
    gates = []
    for _ in range(2):
        x = torch.randn((*shape, key), generator=generator)
        u = torch.rand((*shape, key), generator=generator)
        rows = [g(x[i], u[i]) for i, g in enumerate(GATES.values())]
        gates.append(torch.stack(rows).double())
    state = short(len(GATES), 2, key, value)
    return q, k, v, *gates, grad, state


def results(run, inputs, grads):
    """Outputs of `run`, then the gradients of all inputs."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    outputs = run(*inputs)
    gradients = torch.autograd.grad(outputs, inputs, grads)
    return [x.detach() for x in (*outputs, *gradients)]


def both(backend):
    return lambda *inputs: (bidirectional_gla(*inputs, backend=backend),)


def one(backend, reverse):
    return lambda *inputs: gla(
        *inputs[:4],
        initial_state=inputs[4],
        reverse=reverse,
        return_state=True,
        backend=backend,
    )


@cache
def exact(tokens, key, value):
    *inputs, grad, _ = problem(tokens, key, value)
    return results(both("reference"), inputs, [grad])


@cache
def exact_one_direction(tokens, reverse):
    q, k, v, gate, _, grad, state = problem(tokens, 16, 32)
    run = one("reference", reverse)
    return results(run, (q, k, v, gate, state), [grad, state.flip(0)])


def check(got, expected, names, dtype=torch.float32):
    for name, a, b in zip(names, got, expected, strict=True):
        assert a.isfinite().all(), name
        bound = 1e-6 if name in ("output", "state") else 3e-6
        if a.dtype == dtype:
            bound += ROUNDING[dtype]
        error = (a.double() - b).norm()
        assert error <= bound * b.norm(), (name, (error / b.norm()).item())


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("gate", range(len(GATES)), ids=list(GATES))
@pytest.mark.parametrize(
    ("tokens", "key", "value"), [(t, *w) for t, w in product(TOKENS, WIDTHS)]
)
def test_both_directions_and_their_gradients(tokens, key, value, gate, dtype):
    q, k, v, forward, backward, grad, _ = (
        x[gate : gate + 1] for x in problem(tokens, key, value)
    )
    inputs = [x.to(dtype) for x in (q, k, v)]
    inputs += [forward.float(), backward.float()]
    got = results(both("chunkwise"), inputs, [grad.to(dtype)])
    expected = [x[gate : gate + 1] for x in exact(tokens, key, value)]
    assert [x.dtype for x in got] == [dtype] * 4 + [torch.float32] * 2
    check(got, expected, NAMES, dtype)
    for log_gate, gradient in zip(inputs[3:], got[4:], strict=True):
        assert (gradient[log_gate.isneginf()] == 0).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("gate", range(len(GATES)), ids=list(GATES))
@pytest.mark.parametrize("tokens", TOKENS)
def test_one_direction_its_states_and_gradients(tokens, gate, reverse):
    q, k, v, log_gate, _, grad, state = problem(tokens, 16, 32)
    rows = slice(gate, gate + 1)
    inputs = [x[rows].float() for x in (q, k, v, log_gate, state)]
    grads = [x[rows].float() for x in (grad, state.flip(0))]
    got = results(one("chunkwise", reverse), inputs, grads)
    expected = [x[rows] for x in exact_one_direction(tokens, reverse)]
    names = ("output", "state", "q", "k", "v", "log_gate", "initial_state")
    check(got, expected, names)
    assert (got[5][inputs[3].isneginf()] == 0).all()
